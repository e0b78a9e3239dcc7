"""Task-aligned assignment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..boxes import box_iou
from ..common import require
from ..tables import largest, slices
from ..taxonomy import Imbalance
from ..types import Target
from ._common import centers, inside, nobody, numbers, predicted, scores_of, settle

__all__ = ["TaskAlignedAssigner"]


@dataclass(frozen=True, kw_only=True)
class TaskAlignedAssigner:
    """Positive are the candidates that are good at both tasks now: they score their object's class high and box it
    well. So the two heads learn to agree on the same candidates, instead of each being best at another place.

    Feng et al., equation 1: with s the score of the object's class and u the IoU of the predicted box with the object,
    the alignment is t = s^alpha u^beta, and the `k` candidates of the highest t are positive, the others background.
    A candidate of several objects goes to the one of the highest IoU. As in all public code, candidates count only with
    their centre inside of the object and t above 0; public code that ranks first and drops those outside afterwards
    leaves some objects with few.

    Shapes: boxes (N, 4), target of G objects, levels (N,), predictions scores (N, C) and boxes (N, 4) -> (N,).
    Identity: alpha=0 takes the candidates of the highest predicted IoU.
    Errors: ValueError without predictions, for negative alpha or beta, or k below 1.

    >>> boxes = torch.tensor([[0.0, 0, 10, 10], [2, 0, 12, 10], [20, 0, 30, 10]])
    >>> target = {"boxes": torch.tensor([[1.0, 0, 11, 10]]), "labels": torch.tensor([1])}
    >>> scores = torch.tensor([[0.0, 0.2], [0.0, 0.9], [0.0, 0.9]])
    >>> TaskAlignedAssigner(k=1)(boxes, target, torch.zeros(3, dtype=torch.long), (scores, boxes))
    tensor([-1,  0, -1])
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FOREGROUND_BACKGROUND, Imbalance.OBJECTIVE)
    paper: ClassVar[str] = (
        "Feng et al., TOOD: Task-aligned One-stage Object Detection, ICCV 2021, arXiv:2108.07755, equation 1"
    )
    needs_predictions: ClassVar[bool] = True

    alpha: float = 1.0
    """exponent of the score"""
    beta: float = 6.0
    """exponent of the IoU"""
    k: int = 13
    """positives of each object"""

    def __post_init__(self) -> None:
        require(self.alpha >= 0, "alpha", "at least 0", self.alpha)
        require(self.beta >= 0, "beta", "at least 0", self.beta)
        require(self.k >= 1, "k", "at least 1", self.k)

    def __call__(
        self,
        boxes: Float[Tensor, "N 4"],
        target: Target,
        levels: Int[Tensor, " N"],
        predictions: tuple[Tensor, Tensor] | None = None,
    ) -> Int[Tensor, " N"]:
        boxes, truth = numbers(boxes, target)
        scores, guesses = predicted(self, predictions)
        if not len(truth) or not len(boxes):
            return nobody(boxes)
        points, found = centers(boxes), []
        for part in slices(len(truth), len(boxes)):
            iou = box_iou(truth[part], guesses)
            aligned = scores_of(scores, target["labels"][part]) ** self.alpha * iou**self.beta
            allowed = inside(points, truth[part]) & (aligned > 0)
            objects, rows = largest(aligned.masked_fill(~allowed, -torch.inf), self.k)
            found.append((objects + part.start, rows, iou[objects, rows]))
        objects, rows, iou = map(torch.cat, zip(*found))
        return settle(objects, rows, iou, len(boxes))
