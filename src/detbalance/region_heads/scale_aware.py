"""Scale-aware Fast R-CNN: one sub-network for small objects and one for large ones, joined by a gate."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..common import require, sum_over_ranks, widen
from ..taxonomy import Imbalance
from ..types import RegionParts, RegionStep
from ._kept import KeptHead, KeptPredictor

__all__ = ["ScaleAware"]


@dataclass(frozen=True, kw_only=True)
class ScaleAware:
    """Two box heads with predictors of their own, one for small and one for large regions, whose answers are mixed by
    the region's height: what small objects look like need not be learnt by the weights that know the large ones.

    Li et al., section III: the large sub-network counts w, the small one 1 - w, with

        w = 1 / (1 + alpha exp(-(h - mean) / beta)),

    h the height of the region, `mean` that of the training's objects, alpha and beta learnt with the rest. The
    probabilities of the classes (of a softmax, or of one sigmoid each, as the class loss has it) and the box codes are
    averaged so, and the losses are taken of the average. The formula and the learnt coefficients are from memory of the
    paper; what they start from (1, and half the mean) is ours. The mean is taken of the objects seen so far, each
    image's at every step, so it needs no data beforehand; it is in the checkpoint. The paper's sub-networks have
    convolutions of their own, too, on a backbone without a pyramid: here they share all maps.

    The large sub-network keeps the parameters and their names; those of the other, `small`, start as copies.

    Shapes: RegionParts -> RegionParts; the head takes and gives more than a tensor.
    Identity: while both sub-networks have the same weights it is the head as it was, whatever the gate.
    Errors: ValueError for a head that is neither TwoMLPHead nor a Sequential, or a predictor of other layers than
    cls_score and bbox_pred; a box loss that learns deviations is refused.

    >>> gate = _Gate(ScaleAware())
    >>> gate.objects, gate.total = torch.tensor(4.0), torch.tensor(120.0)  # 30 pixels a piece
    >>> gate(torch.tensor([15.0, 30.0, 60.0])).sigmoid()
    tensor([0.2689, 0.5000, 0.8808], grad_fn=<SigmoidBackward0>)
    """

    alpha: float = 1.0
    """at the start"""
    beta: float = 0.5
    """at the start, in mean heights"""

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.OBJECT_SCALE,)
    paper: ClassVar[str] = (
        "Li, Liang, Shen, Xu, Feng, Yan, Scale-aware Fast R-CNN for Pedestrian Detection, IEEE Transactions on "
        "Multimedia 2018, arXiv:1510.08160"
    )

    def __post_init__(self) -> None:
        for name in ("alpha", "beta"):
            require(0 < getattr(self, name) < float("inf"), name, "greater than 0", getattr(self, name))

    def __call__(self, parts: RegionParts) -> RegionParts:
        head, predictor = _TwoHeads(parts.head, self), _TwoPredictors(parts.predictor, self, parts.softmax)
        return replace(parts, pool=_HeightPool(parts.pool), head=head, predictor=predictor)


class _Two(NamedTuple):
    """What the sub-networks hand on."""

    large: Tensor
    small: Tensor
    height: Float[Tensor, " R"]


class _HeightPool(nn.Module):
    """The pool, and the heights of the boxes."""

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, features, boxes, image_shapes) -> tuple[Tensor, Float[Tensor, " R"]]:
        every = torch.cat(boxes)
        return self.pool(features, boxes, image_shapes), every[:, 3] - every[:, 1]


class _TwoHeads(KeptHead):
    def __init__(self, head: nn.Module, settings: ScaleAware) -> None:
        small = deepcopy(head)
        super().__init__(head, settings)
        self.small = small

    def forward(self, pooled: tuple[Tensor, Tensor]) -> _Two:
        grid, height = pooled
        return _Two(self.whole(grid), self.small(grid), height)


class _TwoPredictors(KeptPredictor):
    def __init__(self, predictor: nn.Module, settings: ScaleAware, softmax: bool) -> None:
        small = deepcopy(predictor)
        super().__init__(predictor, settings)
        self.small, self.gate, self.softmax = small, _Gate(settings), softmax

    def forward(self, x: _Two) -> tuple[Float[Tensor, "R K"], Float[Tensor, "R K4"]]:
        """Logits of the mixed probabilities, and the mixed codes."""
        (large, large_boxes), (small, small_boxes) = self.predict(x.large), self.small(x.small)
        with torch.autocast(large.device.type, enabled=False):
            gate = self.gate(x.height)[:, None]
            weight, large, small = gate.sigmoid(), widen(large), widen(small)
            boxes = weight * widen(large_boxes) + (1 - weight) * widen(small_boxes)
            if self.softmax:
                return _mixed(gate, large.log_softmax(1), small.log_softmax(1)), boxes
            no = _mixed(gate, F.logsigmoid(-large), F.logsigmoid(-small))
            return _mixed(gate, F.logsigmoid(large), F.logsigmoid(small)) - no, boxes


def _mixed(gate: Tensor, large: Tensor, small: Tensor) -> Tensor:
    """The logarithm of the mean of probabilities that are given as logarithms."""
    return torch.logaddexp(F.logsigmoid(gate) + large, F.logsigmoid(-gate) + small)


class _Gate(nn.Module):
    """Heights -> the logit of the large sub-network's share; it keeps the mean height of the objects."""

    total: Tensor
    objects: Tensor

    def __init__(self, settings: ScaleAware) -> None:
        super().__init__()
        self.log_alpha = nn.Parameter(torch.tensor(math.log(settings.alpha)))
        self.log_beta = nn.Parameter(torch.tensor(math.log(settings.beta)))
        self.register_buffer("total", torch.zeros(()))
        self.register_buffer("objects", torch.zeros(()))

    def forward(self, height: Float[Tensor, " R"]) -> Float[Tensor, " R"]:
        mean = self.total / self.objects.clamp(min=1)
        above = torch.where(self.objects > 0, (height - mean) / mean.clamp(min=1e-6), 0.0)  # in mean heights
        return above * (-self.log_beta).exp() - self.log_alpha

    def supervise(self, step: RegionStep) -> dict[str, Tensor]:
        """No losses: the objects' heights are counted, each object of a step once."""
        number, truth = step.samples.instance(), step.samples.truth
        rows = number >= 0
        found = truth.new_zeros(int(number.max()) + 1 if len(number) else 0)
        found[number[rows]] = (truth[:, 3] - truth[:, 1])[rows]
        counted = sum_over_ranks(torch.stack((found.sum(), found.new_tensor(float(len(found))))))
        self.total += counted[0]
        self.objects += counted[1]
        return {}
