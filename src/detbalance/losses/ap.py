"""Average precision loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..common import widen
from ..taxonomy import Imbalance
from ._ranking import Ranking, check_delta, driven


@dataclass(frozen=True, kw_only=True)
class APLoss:
    """Trains the ranking itself: the loss is 1 - average precision of the whole batch, so that background below all
    objects costs nothing, however much there is of it, and no weight or threshold stands between loss and measure.

    Chen et al. 2019: with H a ramp of half length delta, positive i has the error FP_i / rank_i, FP_i = sum over
    negatives of H(x_j - x_i), rank_i = 1 + sum over other positives of H + FP_i, and each negative has the share
    H(x_j - x_i) / rank_i in it. Backwards goes the paper's error-driven update, not a derivative: positives are pushed
    by their errors, negatives by the sum of their shares. `interpolated` takes the best precision at or above each
    recall, as average precision does, and scales the shares down with it.

    Exact, in O((P + N) log P) time and linear memory. Without positives there is nothing to rank: 0, with zero
    gradient, as the authors' code has it. Over several processes it is the loss of all of their rows. `per_class`
    (not in the paper) ranks within each class and takes the mean over the classes that have positives, as the mean
    average precision does.

    Shapes: logits (S, C), target (S, C) -> (). `groups` is not used: images are ranked against each other.
    Identity: the gradients of positives and negatives add up to 0. Errors: ValueError for a delta out of range.

    >>> logits, target = torch.tensor([[2.0], [1.5], [-3.0]]), torch.tensor([[0.0], [1.0], [0.0]])
    >>> APLoss()(logits.requires_grad_(), target)
    tensor(0.4286, grad_fn=<_DrivenBackward>)
    """

    delta: float = 1.0
    """half the length of the ramp in H, in logits; 0 is a step"""
    per_class: bool = False
    """rank within each class"""
    interpolated: bool = True
    """interpolate the precision"""

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FOREGROUND_BACKGROUND,)
    paper: ClassVar[str] = (
        "Chen et al., Towards Accurate One-Stage Object Detection with AP-Loss, CVPR 2019, arXiv:1904.06373"
    )
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    target_kind: ClassVar[str] = "onehot"
    softmax: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_delta(self.delta)

    def __call__(
        self, logits: Float[Tensor, "S C"], target: Float[Tensor, "S C"], groups: Tensor | None = None
    ) -> Float[Tensor, ""]:
        logits = widen(logits)
        return driven(logits, *self._update(logits.detach(), target.detach()))

    @torch.compiler.disable
    @torch.no_grad()
    def _update(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        ranking = Ranking(logits, target, delta=self.delta, per_class=self.per_class)
        if not len(ranking.x):
            return logits.new_zeros(()), torch.zeros_like(logits)
        false = ranking.false_positives()
        rank = 1 - ranking.itself + ranking.true_positives() + false
        error = false / rank
        least = self._least(error, ranking) if self.interpolated else error
        share = ranking.shares()
        weight = share / rank * (least / error.where(error > 0, 1)).clamp(max=1)
        return (share * least).sum(), ranking.gradient(-share * least, weight)

    @staticmethod
    def _least(error: Tensor, ranking: Ranking) -> Tensor:
        """The least error at or below each positive's score."""
        order = ranking.ramps.low.argsort()  # by group, then from the lowest score up
        shift = 0 if ranking.group is None else 2 * ranking.group[order]  # errors are below 1: none crosses a group
        return torch.empty_like(error).scatter_(0, order, (error[order] - shift).cummin(0).values + shift)
