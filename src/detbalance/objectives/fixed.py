"""Fixed weights of the tasks, given or found from the first gradients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..common import require
from ..taxonomy import Imbalance
from ._tasks import PLACES, Tasks, gradient_norms, learning, shared_parameters, weighed

__all__ = ["FixedWeights"]


class FixedWeights(Tasks):
    """Multiplies each task's loss by a constant, so that tasks whose losses have other units or ranges are heard alike.

    Review, section 7.1: the sum of w_i L_i. Without given weights they are chosen so that the gradients of the tasks at
    the shared parameters begin with equal norms (GradNorm's starting condition, Chen et al., section 3): w_i is
    proportional to 1 / G_i, G_i the mean norm over the first `steps` steps, and the weights sum to the number of tasks.
    From then on they stay. A task whose gradient was zero weighs 1.

    In a loop of one's own: `objective.watch(model.backbone.fpn.parameters())` once, then `objective(losses)`.

    Shapes: a dict of losses () -> the same names. Errors: ValueError for weights below 0, and without `watch`.
    Identity: `FixedWeights(weights={})` changes nothing.

    >>> FixedWeights(weights={"bbox_regression": 2.0})({"classification": torch.tensor(1.0),
    ...                                                 "bbox_regression": torch.tensor(0.5)})
    {'classification': tensor(1.), 'bbox_regression': tensor(1.)}
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.OBJECTIVE,)
    paper: ClassVar[str] = (
        "Oksuz et al., Imbalance Problems in Object Detection: A Review, TPAMI 2020, arXiv:1909.00169, section 7.1"
    )

    norms: Tensor
    """sum of the gradient norms of each task so far"""
    seen: Tensor
    """steps in that sum"""

    def __init__(self, *, weights: Mapping[str, float] | None = None, steps: int = 10) -> None:
        super().__init__()
        require(steps > 0, "steps", "greater than 0", steps)
        for name, weight in (weights or {}).items():
            require(0 <= weight < float("inf"), f"the weight of {name!r}", "0 or greater, and finite", weight)
        self.weights, self.steps = None if weights is None else dict(weights), steps
        self.shared: list[Tensor] = []
        self.register_buffer("norms", torch.zeros(PLACES))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def watch(self, parameters: Iterable[Tensor]) -> None:
        """The parameters where the gradients are compared."""
        if self.weights is None:
            self.shared = shared_parameters(parameters)

    def forward(self, losses: dict[str, Float[Tensor, ""]]) -> dict[str, Float[Tensor, ""]]:
        """The weighted losses."""
        if self.weights is not None:
            return {name: loss * self.weights[name] if name in self.weights else loss for name, loss in losses.items()}
        places = self.places(losses)
        if self.shared and learning(losses) and int(self.seen) < self.steps:
            self.norms[places] += gradient_norms(losses, self.shared).to(self.norms)
            self.seen += 1
        return weighed(losses, self._chosen(self.norms[places]))

    def _chosen(self, norms: Tensor) -> Tensor:
        known = norms > 0
        inverse = torch.where(known, norms, 1).reciprocal()
        total = torch.where(known, inverse, 0).sum()
        return torch.where(known, inverse * known.sum() / total.clamp(min=1e-30), 1)

    def extra_repr(self) -> str:
        """The settings."""
        return f"steps={self.steps}" if self.weights is None else f"weights={self.weights}"
