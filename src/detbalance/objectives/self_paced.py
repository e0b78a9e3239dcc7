"""Self-paced weighting of tasks: easy ones first."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..common import require
from ..taxonomy import Imbalance
from ._tasks import PLACES, Tasks, values_of, weighed

__all__ = ["SelfPacedTaskWeighting"]

_EPOCH = 100  # steps, until somebody tells


class SelfPacedTaskWeighting(Tasks):
    """Begins with the tasks that are easy, and lets the hard ones in as the training goes on: what they share has been
    learnt by then.

    Murugesan and Carbonell: the weights tau minimise sum_t tau_t L_t + lambda sum_t tau_t
    log tau_t on the simplex, so tau_t is proportional to exp(-L_t / lambda), and lambda grows by the factor `growth`
    each epoch, until all count alike. Here the weights sum to the number of tasks, so that the scale of the training
    stays, and L_t is a running mean with `momentum`. With `relative` it is in units of the task's first value above
    zero: losses of other units and ranges are made comparable, and easy is what has been learnt.

    An epoch is told by `set_epoch_length(steps)`, which `train` does; until then it has 100 steps, or `period`.

    Shapes: a dict of losses () -> the same names. Errors: ValueError for settings out of range.
    Identity: with pace=inf, or where all tasks have the same loss, nothing changes.

    >>> out = SelfPacedTaskWeighting()({"easy": torch.tensor(0.5), "hard": torch.tensor(2.0)})
    >>> {name: round(loss.item(), 4) for name, loss in out.items()}
    {'easy': 0.8176, 'hard': 0.7297}
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.OBJECTIVE,)
    paper: ClassVar[str] = (
        "Murugesan, Carbonell, Self-Paced Multitask Learning with Shared Knowledge, IJCAI 2017, arXiv:1703.00977"
    )

    steps: Tensor
    """that have been trained"""
    mean: Tensor
    """running mean of each loss; infinite where there was none yet"""
    first: Tensor
    """first value above zero of each loss; 0 where there was none yet"""

    def __init__(
        self,
        *,
        pace: float = 1.0,
        growth: float = 1.1,
        momentum: float = 0.9,
        relative: bool = False,
        period: int | None = None,
    ) -> None:
        super().__init__()
        require(pace > 0, "pace", "greater than 0", pace)
        require(growth >= 1, "growth", "1 or greater", growth)
        require(0 <= momentum < 1, "momentum", "from 0 to below 1", momentum)
        require(period is None or period > 0, "period", "None or greater than 0", period)
        self.pace, self.growth, self.momentum, self.relative, self.period = pace, growth, momentum, relative, period
        self.length = period or _EPOCH
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.full((PLACES,), float("inf")))
        self.register_buffer("first", torch.zeros(PLACES))

    def set_epoch_length(self, steps: int) -> None:
        """Steps in an epoch; a `period` of one's own stands above it."""
        self.length = self.period or steps

    def forward(self, losses: dict[str, Float[Tensor, ""]]) -> dict[str, Float[Tensor, ""]]:
        """The weighted losses."""
        if not losses:
            return {}
        places = torch.tensor(self.places(losses), device=self.mean.device)
        if self.training:
            self._gather(values_of(losses).to(self.mean), places)
        hardness = self.mean[places].nan_to_num(posinf=0.0)
        if self.relative:
            hardness = hardness / self.first[places].clamp(min=1e-12)
        temperature = min(self.pace * self.growth ** ((max(int(self.steps), 1) - 1) // self.length), 1e30)
        return weighed(losses, len(places) * (-hardness / temperature).softmax(0))

    def _gather(self, values: Tensor, places: Tensor) -> None:
        old = self.mean[places]
        self.mean[places] = torch.where(old.isinf(), values, self.momentum * old + (1 - self.momentum) * values)
        first = self.first[places]
        self.first[places] = torch.where(first > 0, first, values.clamp(min=0))
        self.steps += 1

    def extra_repr(self) -> str:
        """The settings."""
        return (
            f"pace={self.pace}, growth={self.growth}, momentum={self.momentum}, relative={self.relative}, "
            f"period={self.period}"
        )
