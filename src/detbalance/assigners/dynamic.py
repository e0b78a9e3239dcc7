"""A threshold that rises as the proposals get better."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..common import require, sum_over_ranks
from ..taxonomy import Imbalance
from ..types import BACKGROUND, Samples, Target
from ._common import nobody, numbers
from .max_iou import MaxIoUAssigner

__all__ = ["DynamicAssigner"]


class DynamicAssigner(nn.Module):
    """The IoU from which a proposal shows an object follows the proposals: as they get better in training the head is
    asked for more, where a fixed threshold is too high at first or too low at last.

    Zhang et al., Dynamic R-CNN, section 3.2 (dynamic label assignment) and algorithm 1: the `top`-th highest IoU of the
    proposals of each image is recorded; every `interval` steps the threshold becomes the mean of what was recorded, but
    never less than `initial`. IoU of the threshold or more shows the object, all else is background. Images without
    objects record nothing; one of fewer proposals its lowest IoU. Over several processes the mean is over all of them.
    Goes with `losses.DynamicSmoothL1Loss`, the paper's other half.

    Shapes: boxes (N, 4), target of G objects, levels (N,), predictions unused -> (N,).
    Identity: with an `interval` that is never reached, `MaxIoUAssigner` at `initial` without low-quality matches.
    Errors: ValueError for `initial` outside [0, 1], `top` or `interval` below 1.

    >>> boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 4.5], [20, 0, 30, 10]])
    >>> target = {"boxes": torch.tensor([[0.0, 0, 10, 10]]), "labels": torch.tensor([1])}
    >>> assign = DynamicAssigner(top=2, interval=1)
    >>> assign(boxes, target)
    tensor([ 0,  0,  0, -1])
    >>> assign.after_step()
    >>> assign(boxes, target)  # the second best IoU was 0.5
    tensor([ 0,  0, -1, -1])
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.IOU_DISTRIBUTION,)
    paper: ClassVar[str] = (
        "Zhang, Chang, Ma, Wang, Chen, Dynamic R-CNN: Towards High Quality Object Detection via Dynamic Training, "
        "ECCV 2020, arXiv:2004.06002, section 3.2"
    )

    threshold: Tensor
    total: Tensor
    """of what was recorded since the last change"""
    images: Tensor
    """that recorded it"""
    steps: Tensor

    def __init__(self, *, initial: float = 0.4, top: int = 75, interval: int = 100) -> None:
        super().__init__()
        require(0 <= initial <= 1, "initial", "in [0, 1]", initial)
        require(isinstance(top, int) and top >= 1, "top", "an integer of 1 or more", top)
        require(isinstance(interval, int) and interval >= 1, "interval", "an integer of 1 or more", interval)
        self.initial, self.top, self.interval = initial, top, interval
        self.register_buffer("threshold", torch.tensor(initial, dtype=torch.float64))
        self.register_buffer("total", torch.zeros((), dtype=torch.float64))
        self.register_buffer("images", torch.zeros((), dtype=torch.float64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(
        self,
        boxes: Float[Tensor, "N 4"],
        target: Target,
        levels: Int[Tensor, " N"] | None = None,
        predictions: tuple[Tensor, Tensor] | None = None,
    ) -> Int[Tensor, " N"]:
        boxes, truth = numbers(boxes, target)
        if not len(truth):
            return nobody(boxes)
        best, owner, _ = MaxIoUAssigner._overlaps(boxes, truth)
        if self.training and len(best):
            self.total += best.topk(min(self.top, len(best))).values[-1].to(self.total)
            self.images += 1
        return torch.where(best >= self.threshold.to(best), owner, BACKGROUND)

    def after_step(self, samples: Samples | None = None) -> None:
        """Called once a step, after the images of the batch."""
        self.steps += 1
        if self.steps % self.interval:
            return
        total, images = sum_over_ranks(torch.stack((self.total, self.images)))
        self.threshold.copy_(
            torch.where(images > 0, (total / images.clamp(min=1)).clamp(min=self.initial), self.threshold)
        )
        self.total.zero_()
        self.images.zero_()

    def extra_repr(self) -> str:
        """The settings."""
        return f"initial={self.initial}, top={self.top}, interval={self.interval}"
