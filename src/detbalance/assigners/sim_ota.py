"""SimOTA: assignment by present cost, with as many positives as predictions fit the object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ..boxes import box_iou
from ..common import require
from ..ranks import rank_within
from ..tables import slices
from ..taxonomy import Imbalance
from ..types import Target
from ._common import centers, nobody, numbers, predicted, settle
from ._grid import spacing

__all__ = ["SimOTAAssigner"]


@dataclass(frozen=True, kw_only=True)
class SimOTAAssigner:
    """Gives each object the candidates near its middle on which the detector's present loss is lowest, and as many of
    them as its predictions overlap it: large, easy objects get several, small or hard ones at least one.

    Ge et al., section 2.1 (SimOTA, after OTA, arXiv:2103.14259). Candidates of an object are those within `radius`
    strides of its middle in x and in y. Their cost is the binary cross-entropy of all class scores with the object's
    class, plus `box_weight` times -log(IoU) of the predicted box. The object takes the k candidates of the lowest cost;
    k is the sum of the `q` highest IoUs of all predictions with the object, rounded down, at least 1 (OTA's dynamic k).
    A candidate of several objects goes to the one of the lowest cost, all others show background.

    Public code sums the IoUs of those predictions alone that are near some object, and lets an object whose region has
    fewer than k candidates take others at a cost of 1e6. The stride of a level is the step between its candidates.

    Shapes: boxes (N, 4), target of G objects, levels (N,), predictions scores (N, C) and boxes (N, 4) -> (N,). Column 0
    of several scores is not a class.
    Identity: perfect predictions all over the region give min(q, candidates) positives.
    Errors: ValueError without predictions, for a radius of 0 or less, negative box_weight, or q below 1.

    >>> x = torch.arange(4) * 8.0
    >>> boxes = torch.stack((x, torch.zeros(4), x + 8, torch.full((4,), 8.0)), 1)
    >>> target = {"boxes": torch.tensor([[2.0, 0, 18, 8]]), "labels": torch.tensor([1])}
    >>> scores, guesses = torch.tensor([[0.0, 0.5]] * 4), target["boxes"] + torch.tensor([[9.0], [4.0], [0.0], [0.0]])
    >>> SimOTAAssigner()(boxes, target, torch.zeros(4, dtype=torch.long), (scores, guesses))
    tensor([-1, -1,  0,  0])
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FOREGROUND_BACKGROUND, Imbalance.OBJECT_SCALE)
    paper: ClassVar[str] = "Ge et al., YOLOX: Exceeding YOLO Series in 2021, arXiv:2107.08430, section 2.1"
    needs_predictions: ClassVar[bool] = True

    radius: float = 2.5
    """of an object's region, in strides"""
    q: int = 10
    """predictions whose IoUs are summed"""
    box_weight: float = 3.0
    """lambda of the paper"""

    def __post_init__(self) -> None:
        require(self.radius > 0, "radius", "greater than 0", self.radius)
        require(self.q >= 1, "q", "at least 1", self.q)
        require(self.box_weight >= 0, "box_weight", "at least 0", self.box_weight)

    def __call__(
        self,
        boxes: Float[Tensor, "N 4"],
        target: Target,
        levels: Int[Tensor, " N"],
        predictions: tuple[Tensor, Tensor] | None = None,
    ) -> Int[Tensor, " N"]:
        reach = self.radius * spacing(boxes, levels)
        boxes, truth = numbers(boxes, target)
        scores, guesses = predicted(self, predictions)
        if not len(truth) or not len(boxes):
            return nobody(boxes)
        costs, found = _ClassCosts(scores), []
        points = centers(boxes)
        for part in slices(len(truth), len(boxes)):
            iou = box_iou(truth[part], guesses)
            x, y = (centers(truth[part])[:, None] - points).abs().unbind(2)
            objects, rows = ((x < reach) & (y < reach)).nonzero(as_tuple=True)
            cost = costs(rows, target["labels"][part][objects])
            cost = cost - self.box_weight * (iou[objects, rows] + 1e-8).log()
            count = iou.topk(min(self.q, len(boxes)), 1).values.sum(1).long().clamp(min=1)
            taken = rank_within(objects, cost) < count[objects]
            found.append((objects[taken] + part.start, rows[taken], -cost[taken]))
        return settle(*map(torch.cat, zip(*found)), len(boxes))


class _ClassCosts:
    """Binary cross-entropy of all class scores of a candidate with one class: that of no class, and the difference."""

    def __init__(self, scores: Float[Tensor, "N C"]) -> None:
        self.scores = scores
        classes = scores[:, min(1, scores.shape[1] - 1) :]
        self.of_none = F.binary_cross_entropy(classes, torch.zeros_like(classes), reduction="none").sum(1)

    def __call__(self, rows: Int[Tensor, " P"], labels: Int[Tensor, " P"]) -> Float[Tensor, " P"]:
        score = self.scores[rows, labels.clamp(max=self.scores.shape[1] - 1)]
        present, absent = (F.binary_cross_entropy(score, torch.full_like(score, y), reduction="none") for y in (1, 0))
        return self.of_none[rows] + present - absent
