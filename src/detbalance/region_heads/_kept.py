"""Box heads and predictors whose layers keep their names, while something is put beside them."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import TwoMLPHead

__all__ = ["Grouped", "HeadOfEachGroup", "KeptHead", "KeptPredictor", "PredictorOfEachGroup", "gathered"]


class KeptHead(nn.Module):
    """A box head whose layers keep their names, taken apart: its first layer, with its activation, and the rest.

    Raises ValueError for a head that is neither torchvision's TwoMLPHead nor a Sequential (its FastRCNNConvFCHead is).
    """

    def __init__(self, head: nn.Module, asker: object) -> None:
        super().__init__()
        self._two_layers = isinstance(head, TwoMLPHead)
        if not (self._two_layers or isinstance(head, nn.Sequential)):
            raise ValueError(
                f"{asker!r}: expected a box_head that is torchvision's TwoMLPHead or a Sequential, to tell its first "
                f"layer from the rest, but got {type(head).__name__}"
            )
        self._names = [name for name, _ in head.named_children()]
        for name, child in head.named_children():
            self.add_module(name, child)
        learning = [i for i, step in enumerate(self._steps()) if isinstance(step, nn.Module) and _learns(step)]
        if not learning:
            raise ValueError(f"{asker!r}: expected a box_head with a layer that learns but got {head!r}")
        self._first = learning[0]

    def _steps(self) -> list[Callable[[Tensor], Tensor]]:
        own = [self.get_submodule(name) for name in self._names]
        return [step for layer in own for step in (layer, F.relu)] if self._two_layers else own

    def copy_of_first(self) -> nn.Module:
        """Another layer like the first, with its weights."""
        return deepcopy(self._steps()[self._first])

    def before(self, x: Float[Tensor, "R C h w"], layer: nn.Module | None = None) -> Tensor:
        """Through the first layer, or another in its place."""
        steps = self._steps()
        x = x.flatten(1) if self._two_layers else x
        for step in steps[: self._first]:
            x = step(x)
        x = (steps[self._first] if layer is None else layer)(x)
        return F.relu(x) if self._activated(steps) else x

    def whole(self, x: Float[Tensor, "R C h w"]) -> Float[Tensor, "R D"]:
        """Through all layers, as the head was."""
        return self.after(self.before(x))

    def after(self, x: Tensor) -> Float[Tensor, "R D"]:
        """Through the rest."""
        steps = self._steps()
        for step in steps[self._first + 1 + self._activated(steps) :]:
            x = step(x)
        return x

    def _activated(self, steps: list) -> bool:
        following = steps[self._first + 1 : self._first + 2]
        return bool(following) and (following[0] is F.relu or isinstance(following[0], nn.ReLU))


class KeptPredictor(nn.Module):
    """A box predictor of two layers, `cls_score` and `bbox_pred`, which keep their names.

    Raises ValueError for a predictor that is made otherwise.
    """

    takes_vectors = False
    """are its inputs plain (R, D)? Not where a head hands on more"""

    def __init__(self, predictor: nn.Module, asker: object) -> None:
        super().__init__()
        layers = dict(predictor.named_children())
        if set(layers) != {"cls_score", "bbox_pred"} or not all(isinstance(m, nn.Linear) for m in layers.values()):
            raise ValueError(
                f"{asker!r}: expected a box_predictor of two linear layers, cls_score and bbox_pred, but got "
                f"{predictor!r}"
            )
        self.cls_score, self.bbox_pred = predictor.cls_score, predictor.bbox_pred

    def predict(self, x: Float[Tensor, "R D"]) -> tuple[Float[Tensor, "R K"], Float[Tensor, "R K4"]]:
        """As torchvision's; a box for all classes is repeated for each."""
        x = x.flatten(1)
        logits, regression = self.cls_score(x), self.bbox_pred(x)
        return logits, regression.repeat(1, 4 * logits.shape[1] // regression.shape[1])


class Grouped(NamedTuple):
    """Regions in groups, each of which has a head and a predictor of its own."""

    x: Tensor
    """(R, ...); zeros in the rows of no group"""
    rows: list[Int[Tensor, " n"]]
    """of each group"""
    more: Any = None
    """for the part that made it"""


class HeadOfEachGroup(KeptHead):
    """The head for the first group, and copies of it, `further`, for the others."""

    def __init__(self, head: nn.Module, groups: int, asker: object) -> None:
        further = [deepcopy(head) for _ in range(groups - 1)]
        super().__init__(head, asker)
        self.further = nn.ModuleList(further)

    def forward(self, pooled: Grouped) -> Grouped:
        found = [(rows, head(pooled.x[rows])) for rows, head in zip(pooled.rows, (self.whole, *self.further))]
        return pooled._replace(x=gathered(found, len(pooled.x)))


class PredictorOfEachGroup(KeptPredictor):
    """The predictor for the first group, and copies of it, `further`, for the others."""

    def __init__(self, predictor: nn.Module, groups: int, asker: object) -> None:
        further = [deepcopy(predictor) for _ in range(groups - 1)]
        super().__init__(predictor, asker)
        self.further = nn.ModuleList(further)

    def forward(self, seen: Grouped) -> tuple[Float[Tensor, "R K"], Float[Tensor, "R K4"]]:
        found = [layer(seen.x[rows]) for rows, layer in zip(seen.rows, (self.predict, *self.further))]
        logits, regression = (gathered(list(zip(seen.rows, column)), len(seen.x)) for column in zip(*found))
        return logits, regression


def gathered(parts: list[tuple[Int[Tensor, " n"], Tensor]], count: int) -> Tensor:
    """(count, ...) what several parts give for their rows; zeros in the rows of none.

    >>> gathered([(torch.tensor([2]), torch.ones(1, 1)), (torch.tensor([0]), 5 * torch.ones(1, 1))], 3).flatten()
    tensor([5., 0., 1.])
    """
    rows, values = (torch.cat(column) for column in zip(*parts))
    return values.new_zeros(count, *values.shape[1:]).index_copy(0, rows, values)


def _learns(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())
