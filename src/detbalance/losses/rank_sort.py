"""Rank & Sort loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..common import widen
from ..taxonomy import Imbalance
from ._missorted import Missorted
from ._ranking import Ranking, check_delta, driven

_NONE = 1e-10
"""as many false positives or missorted positives are none (the authors' eps)"""


@dataclass(frozen=True, kw_only=True)
class RankSortLoss:
    """Ranks every positive above all negatives, and the positives among themselves by how well their boxes are placed:
    background that ranks low costs nothing, however much there is of it, and the score tells good boxes from poor.

    Oksuz et al., with H a ramp of half length delta and t the IoU of a positive's predicted box: the loss is the mean
    over positives i of the ranking error FP_i / rank_i, as in `APLoss`, plus the sorting error (equations 7 and 8)

        mean of 1 - t over the positives above i  -  the same over those of them whose IoU is not below t_i,

    means weighted by H, i itself among them. Identity update: i is pushed up by its errors; the negatives above it are
    pushed down by the first, in proportion to H, the positives above it with a smaller IoU by the second. The authors
    also weigh each box loss by its score and scale the box loss to the class loss in every step: `SelfBalancing`.

    Exact. The ranking takes O((P + N) log P) time and linear memory. The sorting couples the positives by score and
    by IoU: O(P^2) up to 1024 positives, where this is the fastest; above, prefixes of the order by IoU are cut into
    blocks of powers of two, each of them ranked on its own, which takes O(P log^2 P) time and O(P log P) memory.
    Without positives: 0, with zero gradient (the authors' code raises). Over several processes it is the loss of all
    of their rows. `per_class` (not in the paper) ranks and sorts within each class and takes the mean over the classes
    that have positives.

    Shapes: logits (S, C), target (S, C), the IoU at the true class and 0 elsewhere -> (). A positive whose IoU is 0
    counts as a negative, as in the authors' code. `groups` is not used: images are ranked against each other.
    Identity: with delta 0 and one IoU for all, it is `APLoss(delta=0, interpolated=False)`.
    Errors: ValueError for a delta out of range.

    >>> logits, target = torch.tensor([[2.0], [1.5], [-3.0]]), torch.tensor([[0.4], [0.8], [0.0]])
    >>> RankSortLoss()(logits, target)
    tensor(0.1333)
    """

    delta: float = 0.5
    """half the length of the ramp in H, in logits; 0 is a step"""
    per_class: bool = False
    """rank and sort within each class"""

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FOREGROUND_BACKGROUND, Imbalance.OBJECTIVE)
    paper: ClassVar[str] = (
        "Oksuz et al., Rank & Sort Loss for Object Detection and Instance Segmentation, ICCV 2021, arXiv:2107.11669"
    )
    bounds: ClassVar[tuple[float, float]] = (0.0, 2.0)
    target_kind: ClassVar[str] = "iou"
    softmax: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_delta(self.delta)

    def __call__(
        self, logits: Float[Tensor, "S C"], target: Float[Tensor, "S C"], groups: Tensor | None = None
    ) -> Float[Tensor, ""]:
        logits = widen(logits)
        return driven(logits, *self._update(logits.detach(), widen(target.detach())))

    @torch.compiler.disable
    @torch.no_grad()
    def _update(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        ranking = Ranking(logits, target, delta=self.delta, per_class=self.per_class)
        if not len(ranking.x):
            return logits.new_zeros(()), torch.zeros_like(logits)
        iou, share = ranking.gather(target.reshape(-1)[ranking.at].double()), ranking.shares()
        place, false = ranking.true_positives(), ranking.false_positives()
        rank = place + false
        ranking_error = false / rank
        wrong = Missorted(ranking.x, iou, self.delta, ranking.group)
        sorting_error, blame = self._sorting(ranking.true_positives(1 - iou), place, wrong)
        up = ranking_error * (false > _NONE) + sorting_error * (wrong.count > _NONE)
        gradient = ranking.gradient(wrong.blamed(share * blame) - share * up, share / rank * (false > _NONE))
        return (share * (ranking_error + sorting_error)).sum(), gradient

    @staticmethod
    def _sorting(badness: Tensor, place: Tensor, wrong: Missorted) -> tuple[Tensor, Tensor]:
        """The sorting error of each positive, and the part of it that a positive wholly above it has to answer for."""
        rest, rest_badness = place - wrong.count, badness - wrong.badness
        # badness / place - rest_badness / rest without the difference of nearly equal numbers
        error = (wrong.badness * rest - wrong.count * rest_badness) / (place * rest)
        return error, error * (wrong.count > _NONE) / wrong.count.clamp(min=_NONE)
