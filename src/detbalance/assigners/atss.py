"""Adaptive training sample selection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..boxes import paired_iou
from ..common import require
from ..tables import largest, slices
from ..taxonomy import Imbalance
from ..types import Target
from ._common import centers, nobody, numbers, settle
from ._grid import per_place

__all__ = ["ATSSAssigner"]


@dataclass(frozen=True, kw_only=True)
class ATSSAssigner:
    """Sets each object its own IoU threshold, from the candidates near its middle: an object that the anchors fit badly
    gets about as many positives as one that they fit well, where one threshold for all leaves small and odd shapes few.

    Zhang et al., algorithm 1. Of each level the `k` candidates whose centres are nearest to the object's are taken; the
    threshold is the mean of their IoUs with the object plus their standard deviation; positive are those of at least
    that IoU whose centre lies inside of the object. A candidate of several objects goes to the one of the highest IoU.
    All others show background, nothing is ignored.

    The paper has one anchor a place. With several, which are all equally near, the `k` nearest places are taken with
    all their anchors, as the authors' code does; `per_place` is found from the candidates unless it is given.

    Shapes: boxes (N, 4), target of G objects, levels (N,), predictions unused -> (N,).
    Identity: equal IoUs have no deviation: all candidates with their centres inside are positive.
    Errors: ValueError for k or per_place below 1.

    >>> x = torch.arange(6) * 10.0
    >>> boxes = torch.stack((x, torch.zeros(6), x + 10, torch.full((6,), 10.0)), 1)
    >>> target = {"boxes": torch.tensor([[8.0, 0, 32, 10]]), "labels": torch.tensor([1])}
    >>> ATSSAssigner(k=6)(boxes, target, torch.zeros(6, dtype=torch.long))
    tensor([-1,  0,  0, -1, -1, -1])
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FOREGROUND_BACKGROUND, Imbalance.OBJECT_SCALE)
    paper: ClassVar[str] = (
        "Zhang et al., Bridging the Gap Between Anchor-based and Anchor-free Detection via Adaptive Training Sample "
        "Selection, CVPR 2020, arXiv:1912.02424, algorithm 1"
    )

    k: int = 9
    """nearest places of each level"""
    per_place: int | None = None
    """anchors of each place; None: as many as have the same centre"""

    def __post_init__(self) -> None:
        require(self.k >= 1, "k", "at least 1", self.k)
        require(self.per_place is None or self.per_place >= 1, "per_place", "None or at least 1", self.per_place)

    def __call__(
        self,
        boxes: Float[Tensor, "N 4"],
        target: Target,
        levels: Int[Tensor, " N"],
        predictions: tuple[Tensor, Tensor] | None = None,
    ) -> Int[Tensor, " N"]:
        boxes, truth = numbers(boxes, target)
        if not len(truth) or not len(boxes):
            return nobody(boxes)
        points = centers(boxes)
        objects, rows = self._nearest(points, centers(truth), levels)
        iou = paired_iou(truth[objects], boxes[rows])
        middle, box = points[rows], truth[objects]
        inside = ((middle > box[:, :2]) & (middle < box[:, 2:])).all(1)
        # The slack is for rounding: the mean of equal IoUs may come out above them.
        good = inside & (iou >= _thresholds(iou, objects, len(truth))[objects] - 1e-6)
        return settle(objects[good], rows[good], iou[good], len(boxes))

    def _nearest(self, points: Tensor, middles: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
        """Pairs of each object with the candidates of each level that are nearest to its middle."""
        pairs = []
        for level in levels.unique().tolist():
            rows = (levels == level).nonzero().squeeze(1)
            each = per_place(points[rows]) if self.per_place is None else self.per_place
            for part in slices(len(middles), len(rows)):
                # Squares of the distances, which order as the distances do.
                x, y = (middles[part, None] - points[None, rows]).unbind(2)
                object_, column = largest(-(x * x + y * y), self.k * each)
                pairs.append((object_ + part.start, rows[column]))
        objects, rows = zip(*pairs)
        return torch.cat(objects), torch.cat(rows)


def _thresholds(iou: Tensor, objects: Tensor, count: int) -> Float[Tensor, " G"]:
    """Mean and standard deviation of each object's IoUs, added."""
    number = torch.bincount(objects, minlength=count)
    mean = iou.new_zeros(count).index_add(0, objects, iou) / number
    square = iou.new_zeros(count).index_add(0, objects, (iou - mean[objects]) ** 2)
    return mean + (square / (number - 1).clamp(min=1)).sqrt()
