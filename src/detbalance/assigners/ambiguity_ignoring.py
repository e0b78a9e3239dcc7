"""Assignment that leaves doubtful candidates out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..boxes import box_iou
from ..common import require
from ..tables import slices
from ..taxonomy import Imbalance
from ..types import BACKGROUND, IGNORED, Target
from ._common import numbers
from .max_iou import MaxIoUAssigner

__all__ = ["AmbiguityIgnoringAssigner"]


@dataclass(frozen=True, kw_only=True)
class AmbiguityIgnoringAssigner(MaxIoUAssigner):
    """Ignores candidates whose label would hang on a hair: their IoU is close to a threshold, or two objects claim them
    about equally. Such labels are noise, and hard sampling and focal losses dwell on exactly these.

    The review names labels near the threshold among its open problems (section 9) and proposes no method; this is the
    plainest one. After the assignment by thresholds, a candidate is ignored if its highest IoU is less than `margin`
    away from `positive` or `negative`, or if it is positive and its two highest IoUs differ by less than `between`.
    An object's best candidates stay positive, so that no object is left without (under `low_quality`, as before).

    Shapes: boxes (N, 4), target of G objects, levels (N,), predictions unused -> (N,).
    Identity: margin=0 and between=0 is MaxIoUAssigner.
    Errors: ValueError for margins outside [0, 1].

    >>> boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5.2], [0, 0, 10, 3.8], [0, 0, 10, 2]])
    >>> target = {"boxes": torch.tensor([[0.0, 0, 10, 10]]), "labels": torch.tensor([1])}
    >>> AmbiguityIgnoringAssigner()(boxes, target)
    tensor([ 0, -2, -2, -1])
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FOREGROUND_BACKGROUND, Imbalance.IOU_DISTRIBUTION)
    paper: ClassVar[str] = "Oksuz et al., Imbalance Problems in Object Detection: A Review, arXiv:1909.00169, section 9"

    margin: float = 0.05
    """IoU on either side of each threshold"""
    between: float = 0.05
    """least lead of the object that a positive candidate overlaps most over the next"""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("margin", "between"):
            require(0 <= getattr(self, name) <= 1, name, "in [0, 1]", getattr(self, name))

    def __call__(
        self,
        boxes: Float[Tensor, "N 4"],
        target: Target,
        levels: Int[Tensor, " N"] | None = None,
        predictions: tuple[Tensor, Tensor] | None = None,
    ) -> Int[Tensor, " N"]:
        boxes, truth = numbers(boxes, target)
        if not len(truth) or not len(boxes):
            return torch.full((len(boxes),), BACKGROUND, dtype=torch.int64, device=boxes.device)
        best, owner, favourite = self._overlaps(boxes, truth)
        matched = self._threshold(best, owner, favourite)
        doubtful = (best - self.positive).abs() < self.margin
        doubtful |= (best - self.negative).abs() < self.margin
        doubtful |= (matched >= 0) & (best - _second(boxes, truth) < self.between)
        keep = favourite & (matched >= 0)
        return torch.where(doubtful & ~keep, IGNORED, matched)


def _second(boxes: Tensor, truth: Tensor) -> Float[Tensor, " N"]:
    """The second highest IoU of each candidate; -1 where there is a single object."""
    top = boxes.new_full((2, len(boxes)), -1.0)
    for part in slices(len(truth), len(boxes)):
        top = torch.cat((top, box_iou(truth[part], boxes))).topk(2, 0).values
    return top[1]
