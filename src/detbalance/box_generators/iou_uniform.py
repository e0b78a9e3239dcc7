"""IoU-uniform jitter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..boxes import box_iou
from ..taxonomy import Imbalance
from ..types import Target

__all__ = ["IoUUniformJitter"]

_BINS = (  # from this IoU, to this IoU, largest shift of the centre, smallest and largest factor of the size
    (0.5, 0.6, 0.75, 0.5, 2.0),
    (0.6, 0.7, 0.5, 0.6, 1.6),
    (0.7, 0.8, 0.3, 0.7, 1.4),
    (0.8, 1.0, 0.125, 0.8, 1.25),
)


@dataclass(frozen=True, kw_only=True)
class IoUUniformJitter:
    """Jitters the objects so that as many boxes overlap them by 0.5 to 0.6 as by 0.6 to 0.7, 0.7 to 0.8 and above 0.8:
    the region head meets all degrees of overlap alike, where a proposal network gives it mostly the lowest.

    Zhu et al. (IoU-uniform R-CNN), section 3.2, with the authors' ranges: for each object and bin `draws` boxes whose
    centre is shifted and whose size is scaled within the bin's range; kept are those whose IoU falls into the bin and
    that overlap no other object more. Of the kept ones `count` are drawn, as evenly over the bins as they allow. The
    regressor alone trains on them, and on nothing else (`applies_to`); classes train on the proposals, as the detector
    samples them. The authors' regressor is a branch of its own, beside one that predicts IoUs for the suppression: here
    it is the head's own layer, and the IoU branch is not part of it.

    Shapes: target of G objects -> (M, 4) boxes, M <= count, xyxy pixels; (0, 4) without objects. Boxes may reach out of
    the image.
    Identity: every box has an IoU above 0.5 with the object that it overlaps most.

    >>> target = {"boxes": torch.tensor([[0.0, 0, 40, 40], [60, 20, 90, 80]]), "labels": torch.tensor([1, 2])}
    >>> made = IoUUniformJitter()(target, 40, torch.Generator().manual_seed(0))
    >>> best = box_iou(made, target["boxes"]).amax(1)
    >>> torch.bucketize(best, torch.tensor([0.6, 0.7, 0.8])).bincount()
    tensor([10, 10, 10, 10])
    """

    draws: int = 500
    """for each object and bin, before the selection"""

    applies_to: ClassVar[str] = "box"
    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.IOU_DISTRIBUTION,)
    paper: ClassVar[str] = (
        "Zhu, Song, Zhang, et al., IoU-uniform R-CNN: Breaking Through the Limitations of RPN, "
        "Pattern Recognition 2021, arXiv:1912.05190"
    )

    def __post_init__(self) -> None:
        if not (isinstance(self.draws, int) and self.draws > 0):
            raise ValueError(f"draws must be a positive integer, got {self.draws!r}")

    def __call__(self, target: Target, count: int, generator: torch.Generator | None = None) -> Float[Tensor, "M 4"]:
        truth = target["boxes"]
        if not len(truth) or not count:
            return truth.new_zeros(0, 4)
        low, high, shift, smallest, largest = truth.new_tensor(_BINS).t()[:, :, None, None, None]
        device = truth.device if generator is None else generator.device
        u = torch.rand(len(_BINS), len(truth), self.draws, 4, generator=generator, device=device).to(truth)
        size = (truth[:, 2:] - truth[:, :2])[None, :, None]
        center = (truth[:, 2:] + truth[:, :2])[None, :, None] / 2 + size * shift * (2 * u[..., :2] - 1)
        half = size * (smallest + (largest - smallest) * u[..., 2:]) / 2
        boxes = torch.cat((center - half, center + half), -1)
        overlap, best = box_iou(boxes.reshape(-1, 4), truth).max(1)
        overlap, best = (x.view(boxes.shape[:3]) for x in (overlap, best))
        own = best == torch.arange(len(truth), device=truth.device)[None, :, None]
        kept = own & (overlap > low[..., 0]) & (overlap <= high[..., 0])
        return boxes[kept][self._evenly(kept, count, generator)]

    def _evenly(self, kept: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
        """`count` of the kept boxes: in turn from each bin, in random order within it."""
        which = kept.nonzero()[:, 0]
        device = which.device if generator is None else generator.device
        order = torch.randperm(len(which), generator=generator, device=device).to(which.device)
        order = order[which[order].argsort(stable=True)]  # by bin
        first = torch.searchsorted(which[order], which[order])
        turn = torch.arange(len(order), device=order.device) - first
        return order[turn.argsort(stable=True)[:count]]
