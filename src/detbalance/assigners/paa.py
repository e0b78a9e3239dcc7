"""Probabilistic anchor assignment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..boxes import paired_iou
from ..common import require
from ..ranks import rank_within
from ..taxonomy import Imbalance
from ..types import Target
from . import _mixture
from ._common import nobody, numbers, predicted
from .max_iou import MaxIoUAssigner

__all__ = ["PAAAssigner"]


@dataclass(frozen=True, kw_only=True)
class PAAAssigner:
    """Asks the detector which anchors can show an object: their present scores fall into two heaps, and the good heap
    is positive. Neither threshold nor number of positives is fixed; both follow what the detector can do on an object.

    Kim and Lee, algorithm 1. An anchor with an IoU of `threshold` or more may show the object that it overlaps most,
    and an object's best anchors always may. Its badness is -log p - `box_weight` log u, with p the score of the
    object's class and u the IoU of the predicted box with the object. The `k` best anchors of each level are
    candidates. To their badness a mixture of two normal distributions is fitted, by expectation maximisation with the
    authors' start: the least and the greatest value as means. Positive are those up to the candidate of the highest
    density among those of the good distribution (figure 3 c), or all where none belongs to it. All other anchors show
    background.

    The authors' code has focal loss and GIoU loss in place of the two logarithms.

    Shapes: boxes (N, 4), target of G objects, levels (N,), predictions scores (N, C) and boxes (N, 4) -> (N,).
    Identity: anchors of equal badness are all positive.
    Errors: ValueError without predictions, for a threshold outside [0, 1], negative box_weight, or k below 1.

    >>> boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [2, 0, 12, 10], [4, 0, 14, 10]])
    >>> target = {"boxes": boxes[:1], "labels": torch.tensor([1])}
    >>> scores = torch.tensor([[0.0, 0.9], [0.0, 0.9], [0.0, 0.2], [0.0, 0.1]])
    >>> PAAAssigner()(boxes, target, torch.zeros(4, dtype=torch.long), (scores, boxes[:1].expand(4, 4)))
    tensor([ 0,  0, -1, -1])
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FOREGROUND_BACKGROUND, Imbalance.OBJECT_SCALE)
    paper: ClassVar[str] = (
        "Kim and Lee, Probabilistic Anchor Assignment with IoU Prediction for Object Detection, ECCV 2020, "
        "arXiv:2007.08103, algorithm 1"
    )
    needs_predictions: ClassVar[bool] = True

    k: int = 9
    """candidates of each level"""
    threshold: float = 0.1
    """least IoU of an anchor that may be positive"""
    box_weight: float = 1.0
    """lambda of the paper"""

    def __post_init__(self) -> None:
        require(self.k >= 1, "k", "at least 1", self.k)
        require(0 <= self.threshold <= 1, "threshold", "in [0, 1]", self.threshold)
        require(self.box_weight >= 0, "box_weight", "at least 0", self.box_weight)

    def __call__(
        self,
        boxes: Float[Tensor, "N 4"],
        target: Target,
        levels: Int[Tensor, " N"],
        predictions: tuple[Tensor, Tensor] | None = None,
    ) -> Int[Tensor, " N"]:
        boxes, truth = numbers(boxes, target)
        scores, guesses = predicted(self, predictions)
        owner = MaxIoUAssigner(positive=self.threshold, negative=self.threshold)(boxes, target, levels)
        rows = (owner >= 0).nonzero().squeeze(1)
        matched = nobody(boxes)
        if not len(rows):
            return matched
        badness = self._badness(scores[rows], guesses[rows], truth[owner[rows]], target["labels"][owner[rows]])
        object_and_level = owner[rows] * (levels.amax() + 1) + levels[rows]
        place = rank_within(object_and_level, badness)
        rows, badness = rows[place < self.k], badness[place < self.k]
        good = rows[_better_heap(owner[rows], badness, len(truth))]
        matched[good] = owner[good]
        return matched

    def _badness(self, scores: Tensor, guesses: Tensor, truth: Tensor, labels: Tensor) -> Float[Tensor, " P"]:
        score = scores.gather(1, labels.clamp(max=scores.shape[1] - 1)[:, None]).squeeze(1)
        return -(score + 1e-8).log() - self.box_weight * (paired_iou(guesses, truth) + 1e-8).log()


def _better_heap(objects: Tensor, badness: Tensor, count: int) -> Bool[Tensor, " P"]:
    """Which candidates belong to the better of the two distributions of their object."""
    place = rank_within(objects, badness)
    shape = (count, int(place.amax()) + 1)
    # Sums of exponentials of squares: float64 costs nothing for so few.
    table = torch.zeros(shape, dtype=torch.float64, device=badness.device)
    present = torch.zeros(shape, dtype=torch.bool, device=badness.device)
    table[objects, place], present[objects, place] = badness.double(), True
    joint = _mixture.log_densities(table, *_mixture.fit(table, present))
    member = present & (joint[0] >= joint[1])
    density = joint.logsumexp(0).masked_fill(~member, -torch.inf)
    last = table.gather(1, density.argmax(1, keepdim=True))
    last = torch.where(member.any(1, keepdim=True), last, torch.inf)
    return ((table <= last) & present)[objects, place]
