"""Dynamic weight averaging: tasks whose loss falls slowly gain weight."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..common import require
from ..taxonomy import Imbalance
from ._tasks import PLACES, Tasks, values_of, weighed

__all__ = ["DynamicWeightAveraging"]

_EPOCH = 100  # steps, until somebody tells


class DynamicWeightAveraging(Tasks):
    """Weighs each task by how slowly its loss has fallen of late, so that the tasks keep pace; it needs the losses
    alone, no gradients.

    Liu et al., eq. 7: lambda_k(t) = K exp(w_k(t-1) / T) / sum_i exp(w_i(t-1) / T), w_k(t-1) = L_k(t-1) / L_k(t-2), each
    L the mean over an epoch; in the first two epochs every weight is 1. The weights sum to the number of tasks K. A
    ratio is taken as 1 where its older loss is zero or below, and cut off at `limit`.

    An epoch is told by `set_epoch_length(steps)`, which `train` does; until then it has 100 steps, or `period`.

    Shapes: a dict of losses () -> the same names. Errors: ValueError for settings out of range.
    Identity: over two epochs, or with temperature=inf, nothing changes.

    >>> objective = DynamicWeightAveraging(period=1)
    >>> for a in (4.0, 4.0, 4.0):  # b halves from step to step, a stays
    ...     out = objective({"a": torch.tensor(4.0), "b": torch.tensor(a / 2 ** int(objective.steps))})
    >>> {name: round(loss.item(), 3) for name, loss in out.items()}
    {'a': 4.497, 'b': 0.876}
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.OBJECTIVE,)
    paper: ClassVar[str] = (
        "Liu, Johns, Davison, End-to-End Multi-Task Learning with Attention, CVPR 2019, arXiv:1803.10704"
    )

    steps: Tensor
    """that have been trained"""
    total: Tensor
    """sum of the losses in this epoch"""
    last: Tensor
    before: Tensor
    """mean losses of the last epoch, and of the one before"""

    def __init__(self, *, temperature: float = 2.0, period: int | None = None, limit: float = 10.0) -> None:
        super().__init__()
        require(temperature > 0, "temperature", "greater than 0", temperature)
        require(period is None or period > 0, "period", "None or greater than 0", period)
        require(limit >= 1, "limit", "1 or greater", limit)
        self.temperature, self.period, self.limit = temperature, period, limit
        self.length = period or _EPOCH
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        for name in ("total", "last", "before"):
            self.register_buffer(name, torch.zeros(PLACES))

    def set_epoch_length(self, steps: int) -> None:
        """Steps in an epoch; a `period` of one's own stands above it."""
        self.length = self.period or steps

    def forward(self, losses: dict[str, Float[Tensor, ""]]) -> dict[str, Float[Tensor, ""]]:
        """The weighted losses."""
        if not losses:
            return {}
        places = self.places(losses)
        done = int(self.steps)
        if self.training:
            if done and done % self.length == 0:
                self._turn()
            self.total[places] += values_of(losses).to(self.total)
            self.steps += 1
        if done < 2 * self.length:
            return dict(losses)
        return weighed(losses, self._weights(torch.tensor(places, device=self.last.device)))

    def _turn(self) -> None:
        """An epoch is over."""
        self.before.copy_(self.last)
        self.last.copy_(self.total / self.length)
        self.total.zero_()

    def _weights(self, places: Tensor) -> Tensor:
        last, before = self.last[places], self.before[places]
        ratio = torch.where(before > 0, last / before.clamp(min=1e-30), 1).clamp(0, self.limit)
        return len(places) * (ratio / self.temperature).softmax(0)

    def extra_repr(self) -> str:
        """The settings."""
        return f"temperature={self.temperature}, period={self.period}, limit={self.limit}"
