"""Dynamic task prioritisation: tasks that do badly by their own measure gain weight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..boxes import paired_iou
from ..common import require, sum_over_ranks
from ..taxonomy import Imbalance
from ._tasks import PLACES, Tasks, values_of, weighed

if TYPE_CHECKING:
    from ..types import Samples

__all__ = ["DynamicTaskPrioritisation"]


class DynamicTaskPrioritisation(Tasks):
    """Weighs each task by how badly it does by a measure of success of its own, not by the size of its loss: difficult
    tasks go first, whatever the units of their losses.

    Guo et al.: a key indicator k in [0, 1] of each task is averaged over the steps, k <- decay k_now +
    (1 - decay) k, and the task weighs -(1 - k)^gamma log k, the focal loss of the indicator. `normalise` scales the
    weights to sum to the number of tasks; the authors do not, and so turn the whole training down as it succeeds.

    The indicators, over all processes: in a detector (`observe`, called by `attach`'s heads) the mean probability of
    the true class of a head's positives, and the mean IoU of their predicted boxes with their objects. Any other
    task's is what `indicate` is told, or else exp(-loss), the probability that a log-likelihood of this size stands
    for. Indicators are kept within [0.000001, 1].

    In a loop of one's own: `objective.indicate({"classification": accuracy})` before `objective(losses)`.

    Shapes: a dict of losses () -> the same names. Errors: ValueError for settings or indicators out of range.
    Identity: with normalise=True tasks of equal indicators are left unchanged.

    >>> objective = DynamicTaskPrioritisation()
    >>> objective.indicate({"a": 0.5, "b": 0.9})
    >>> out = objective({"a": torch.tensor(1.0), "b": torch.tensor(1.0)})
    >>> {name: round(loss.item(), 4) for name, loss in out.items()}
    {'a': 0.3466, 'b': 0.0105}
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.OBJECTIVE,)
    paper: ClassVar[str] = (
        "Guo, Haque, Huang, Yeung, Fei-Fei, Dynamic Task Prioritization for Multitask Learning, ECCV 2018"
    )

    indicator: Tensor
    """moving average of each task's indicator; below 0 where there was none yet"""

    def __init__(self, *, gamma: float = 1.0, decay: float = 0.05, normalise: bool = False) -> None:
        super().__init__()
        require(0 <= gamma < float("inf"), "gamma", "0 or greater, and finite", gamma)
        require(0 < decay <= 1, "decay", "greater than 0, at most 1", decay)
        self.gamma, self.decay, self.normalise = gamma, decay, normalise
        self.register_buffer("indicator", torch.full((PLACES,), -1.0))
        self._told: set[str] = set()

    def indicate(self, indicators: Mapping[str, float | Tensor]) -> None:
        """The present indicators of tasks, in [0, 1]."""
        for name, value in indicators.items():
            require(0 <= float(value) <= 1, f"the indicator of {name!r}", "from 0 to 1", float(value))
        self._average(list(indicators), [float(value) for value in indicators.values()])

    @torch.no_grad()
    def observe(self, names: tuple[str, str], samples: Samples) -> None:
        """The indicators of a head's two tasks, from what it trains on. Without positives they stay as they are."""
        rows = samples.positive.nonzero().squeeze(1)
        columns = samples.labels[rows].clamp(max=samples.logits.shape[1] - 1)
        probability = samples.scores()[rows, columns]
        overlap = paired_iou(samples.predicted()[rows], samples.truth[rows]).clamp(0, 1)
        sums = torch.stack((probability.sum(), overlap.sum(), probability.new_tensor(float(len(rows))))).float()
        classes, boxes, count = sum_over_ranks(sums).tolist()
        self._told.update(names)
        if count:
            self._average(list(names), [classes / count, boxes / count])

    def forward(self, losses: dict[str, Float[Tensor, ""]]) -> dict[str, Float[Tensor, ""]]:
        """The weighted losses."""
        if not losses:
            return {}
        places = self.places(losses)
        untold = {name: loss for name, loss in losses.items() if name not in self._told}
        if untold and self.training:
            self._average(list(untold), torch.exp(-values_of(untold)).clamp(0, 1).tolist())
        self._told.clear()
        return weighed(losses, self._weights(self.indicator[places]))

    def _average(self, names: list[str], values: list[float]) -> None:
        self._told.update(names)
        places = torch.tensor(self.places(names), device=self.indicator.device)
        old, new = self.indicator[places], self.indicator.new_tensor(values)
        self.indicator[places] = torch.where(old < 0, new, self.decay * new + (1 - self.decay) * old)

    def _weights(self, indicator: Tensor) -> Tensor:
        known, k = indicator >= 0, indicator.clamp(1e-6, 1)
        weights = -((1 - k) ** self.gamma) * k.log()
        if self.normalise:
            total = torch.where(known, weights, 0).sum()
            weights = weights * known.sum() / total.clamp(min=1e-12) if total > 0 else torch.ones_like(weights)
        return torch.where(known, weights, 1)

    def extra_repr(self) -> str:
        """The settings."""
        return f"gamma={self.gamma}, decay={self.decay}, normalise={self.normalise}"
