"""GradNorm: all tasks train at similar rates."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..common import require
from ..taxonomy import Imbalance
from ._tasks import PLACES, Tasks, gradient_norms, learning, shared_parameters, values_of, weighed

__all__ = ["GradNorm"]

_LEAST = 1e-3  # a weight that reached zero would not come back


class GradNorm(Tasks):
    """Tunes the weight of each task so that its gradient at the shared parameters has a common size, larger where the
    task lags behind: no task owns the shared layers, and all learn at a similar rate.

    Chen et al., eq. 1, 2 and algorithm 1: with G_i = |w_i grad L_i| at the last shared layer and r_i the loss in units
    of its first value, over the mean of these, the weights follow the gradient of sum_i |G_i - mean(G) r_i^alpha|, the
    target held fixed, by Adam (the authors' optimizer), and are then scaled to sum to the number of tasks. The gradient
    in w_i is |grad L_i| times a sign, so nothing is differentiated twice. Weights and Adam lie in buffers, apart from
    the network's optimizer: its learning rate, decay and clipping do not reach them. A task's first value is its first
    above zero; until every task has one, weights stay. No weight falls below 0.001.

    In a loop of one's own: `objective.watch(model.backbone.fpn.parameters())` once, then `objective(losses)`. It costs
    one pass back through the heads, every `every` steps.

    Shapes: a dict of losses () -> the same names. Errors: ValueError for settings out of range.
    Identity: with learning_rate=0, or before `watch`, nothing changes.

    >>> w = torch.tensor([1.0], requires_grad=True)  # shared by two tasks; the first has four times the gradient
    >>> objective = GradNorm(learning_rate=0.5, alpha=0.0)
    >>> objective.watch([w])
    >>> {name: round(loss.item(), 3) for name, loss in objective({"a": 4 * w.sum(), "b": w.sum()}).items()}
    {'a': 2.0, 'b': 1.5}
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.OBJECTIVE,)
    paper: ClassVar[str] = "Chen, Badrinarayanan, Lee, Rabinovich, GradNorm, ICML 2018, arXiv:1711.02257"

    weights: Tensor
    first: Tensor
    """the loss that each task began with; 0 where there was none yet"""
    mean: Tensor
    square: Tensor
    """Adam's running means of the gradient and of its square"""
    updates: Tensor
    calls: Tensor

    def __init__(self, *, alpha: float = 1.5, learning_rate: float = 0.025, every: int = 1) -> None:
        super().__init__()
        require(0 <= alpha < float("inf"), "alpha", "0 or greater, and finite", alpha)
        require(0 <= learning_rate < float("inf"), "learning_rate", "0 or greater, and finite", learning_rate)
        require(every > 0, "every", "greater than 0", every)
        self.alpha, self.learning_rate, self.every = alpha, learning_rate, every
        self.shared: list[Tensor] = []
        self.register_buffer("weights", torch.ones(PLACES))
        for name in ("first", "mean", "square"):
            self.register_buffer(name, torch.zeros(PLACES))
        for name in ("updates", "calls"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))

    def watch(self, parameters: Iterable[Tensor]) -> None:
        """The parameters of the last layers that all tasks share."""
        self.shared = shared_parameters(parameters)

    def forward(self, losses: dict[str, Float[Tensor, ""]]) -> dict[str, Float[Tensor, ""]]:
        """The weighted losses."""
        places = self.places(losses)
        if self.shared and self.learning_rate and len(losses) > 1 and learning(losses):
            if int(self.calls) % self.every == 0:
                self._update(losses, torch.tensor(places, device=self.weights.device))
            self.calls += 1
        return weighed(losses, self.weights[places])

    @torch.no_grad()
    def _update(self, losses: dict[str, Tensor], places: Tensor) -> None:
        values = values_of(losses).to(self.first)
        self.first[places] = torch.where(self.first[places] > 0, self.first[places], values.clamp(min=0))
        if not bool((self.first[places] > 0).all()):
            return
        with torch.enable_grad():
            norms = gradient_norms(losses, self.shared).to(self.weights)
        if not bool(norms.isfinite().all() & values.isfinite().all()):
            return  # a step that overflowed teaches nothing
        weights = self.weights[places]
        size, ratio = weights * norms, values.clamp(min=0) / self.first[places]
        target = size.mean() * (ratio / ratio.mean().clamp(min=1e-12)) ** self.alpha
        weights = weights - self._adam(norms * (size - target).sign(), places)
        weights = weights.clamp(min=_LEAST)
        self.weights[places] = weights * len(places) / weights.sum()

    def _adam(self, gradient: Tensor, places: Tensor) -> Tensor:
        self.updates += 1
        self.mean[places] = 0.9 * self.mean[places] + 0.1 * gradient
        self.square[places] = 0.999 * self.square[places] + 0.001 * gradient.square()
        mean, square = self.mean[places] / (1 - 0.9**self.updates), self.square[places] / (1 - 0.999**self.updates)
        return self.learning_rate * mean / (square.sqrt() + 1e-8)

    def extra_repr(self) -> str:
        """The settings."""
        return f"alpha={self.alpha}, learning_rate={self.learning_rate}, every={self.every}"
