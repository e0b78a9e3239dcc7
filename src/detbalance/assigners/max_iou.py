"""Assignment by IoU thresholds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..boxes import box_iou
from ..common import require
from ..tables import slices
from ..taxonomy import Imbalance
from ..types import BACKGROUND, IGNORED, Target
from ._common import nobody, numbers

__all__ = ["MaxIoUAssigner"]


@dataclass(frozen=True, kw_only=True)
class MaxIoUAssigner:
    """Each candidate goes to the object that it overlaps most, if by enough: the assignment of Faster R-CNN, RetinaNet
    and SSD, with thresholds of one's own. What the others are measured by; it addresses no problem by itself.

    Ren et al., section 3.1.2. IoU of `positive` or more shows the object, less than `negative` background; in between
    the candidate is ignored. With `low_quality` the candidates that overlap an object most (all of them, if equal) are
    positive whatever their IoU: no object goes without; they go to the object that they overlap most themselves.

    As torchvision's Matcher, but for an object that no candidate touches: the Matcher finds all candidates equally good
    for it and makes every one positive, here it has none. And no table of all objects and candidates is held.

    Shapes: boxes (N, 4), target of G objects, levels (N,), predictions unused -> (N,).
    Identity: equal to torchvision's Matcher.
    Errors: ValueError for thresholds outside [0, 1], or negative > positive.

    >>> boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 4.5], [20, 0, 30, 10]])
    >>> target = {"boxes": torch.tensor([[0.0, 0, 10, 10]]), "labels": torch.tensor([1])}
    >>> MaxIoUAssigner()(boxes, target)
    tensor([ 0,  0, -2, -1])
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = ()
    paper: ClassVar[str] = "Ren et al., Faster R-CNN, NeurIPS 2015, arXiv:1506.01497, section 3.1.2"

    positive: float = 0.5
    negative: float = 0.4
    low_quality: bool = True
    """may an object's best candidates be positive below the threshold?"""

    def __post_init__(self) -> None:
        require(0 <= self.positive <= 1, "positive", "in [0, 1]", self.positive)
        require(0 <= self.negative <= self.positive, "negative", f"in [0, positive={self.positive}]", self.negative)

    def __call__(
        self,
        boxes: Float[Tensor, "N 4"],
        target: Target,
        levels: Int[Tensor, " N"] | None = None,
        predictions: tuple[Tensor, Tensor] | None = None,
    ) -> Int[Tensor, " N"]:
        boxes, truth = numbers(boxes, target)
        if not len(truth):
            return nobody(boxes)
        return self._threshold(*self._overlaps(boxes, truth, self.measure))

    def _threshold(self, best: Tensor, owner: Tensor, favourite: Tensor) -> Int[Tensor, " N"]:
        matched = torch.where(best < self.positive, IGNORED, owner)
        matched = torch.where(best < self.negative, BACKGROUND, matched)
        return torch.where(favourite, owner, matched) if self.low_quality else matched

    def measure(self, truth: Float[Tensor, "G 4"], boxes: Float[Tensor, "N 4"]) -> Float[Tensor, "G N"]:
        """What the thresholds are of."""
        return box_iou(truth, boxes)

    @staticmethod
    def _overlaps(
        boxes: Tensor, truth: Tensor, measure: Callable[[Tensor, Tensor], Tensor] = box_iou
    ) -> tuple[Float[Tensor, " N"], Int[Tensor, " N"], Bool[Tensor, " N"]]:
        """The highest IoU of each candidate, with which object, and whether some object has no better candidate."""
        best = boxes.new_full((len(boxes),), -1.0)
        owner = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
        favourite = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
        for part in slices(len(truth), len(boxes)) if len(boxes) else ():
            iou = measure(truth[part], boxes)
            highest = iou.amax(1, keepdim=True)
            favourite |= ((iou == highest) & (highest > 0)).any(0)
            value, row = iou.max(0)
            better = value > best
            best, owner = torch.where(better, value, best), torch.where(better, row + part.start, owner)
        return best, owner, favourite
