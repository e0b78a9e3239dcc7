"""Libra R-CNN's IoU-balanced sampling: negatives evenly from all degrees of overlap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..taxonomy import Imbalance
from ..types import Candidates
from ._drawing import check, draw, shuffle_evenly
from .random import RandomSampler

__all__ = ["IoUBalancedSampler"]


@dataclass(frozen=True, kw_only=True)
class IoUBalancedSampler(RandomSampler):
    """Draws equally many negatives from each of `bins` IoU ranges: hard background overlaps objects, but is rare.

    Pang et al., section 3.1, eq. 2; review section 4.1.1. Random sampling takes most negatives far from any object;
    here the range from the lowest to the highest IoU of the negatives is cut into K equal bins, and each of the M_k
    negatives of bin k is drawn with probability N / (K M_k). What short bins leave over is drawn at random from the
    rest. Positives are drawn at random.

    `floor_fraction` of the negatives may be drawn at random below IoU `floor_threshold` (0: those that touch no
    object), the rest from the bins above it. `reference=True` cuts from the floor up to the highest IoU of all
    candidates, as mmdetection does: with ground truths among the candidates that is 1, and the top bins are empty.

    Shapes: candidates of N rows -> (S,) rows, ascending, S <= count.

    Checked by: `bins=1` is random sampling; every bin that has N / K negatives gives so many.

    >>> from detbalance.types import Candidates
    >>> matched = torch.full((6,), -1)
    >>> iou = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.3, 0.4])
    >>> one = Candidates(boxes=torch.zeros(6, 4), matched=matched, iou=iou, labels=torch.zeros(6, dtype=torch.long))
    >>> rows = IoUBalancedSampler(count=4, bins=2)(one)
    >>> iou[rows]
    tensor([0.0000, 0.0000, 0.3000, 0.4000])
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FOREGROUND_BACKGROUND,)
    paper: ClassVar[str] = (
        "Pang, Chen, Shi, Feng, Ouyang, Lin, Libra R-CNN: Towards Balanced Learning for Object Detection, CVPR 2019, "
        "arXiv:1904.02701, section 3.1, eq. 2"
    )

    bins: int = 3
    floor_threshold: float = -1.0
    floor_fraction: float = 0.0
    reference: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check("bins", self.bins, "a positive integer", isinstance(self.bins, int) and self.bins > 0)
        floor = self.floor_threshold
        check("floor_threshold", floor, "-1 (no floor) or in [0, 1]", floor == -1 or 0 <= floor <= 1)
        check("floor_fraction", self.floor_fraction, "in [0, 1]", 0 <= self.floor_fraction <= 1)

    def negatives(
        self, candidates: Candidates, count: int, generator: torch.Generator | None = None
    ) -> Int[Tensor, " Q"]:
        """At most `count` rows that show background, evenly over the IoU bins."""
        rows = candidates.negative.nonzero().squeeze(1)
        iou = candidates.iou[rows]
        low = iou <= 0 if self.floor_threshold == 0 else iou < self.floor_threshold
        balanced = int(count * (1 - self.floor_fraction))
        bins = self._bins(iou[~low], candidates.iou)
        quota = torch.where(bins < self.bins, balanced // self.bins, 0)
        evenly = shuffle_evenly(rows[~low], bins, quota, generator)
        rest = draw(rows[low], count - min(balanced, len(evenly)), generator)
        return torch.cat((evenly[:balanced], rest, evenly[balanced:]))[:count]

    def _bins(self, iou: Float[Tensor, " Q"], everyone: Float[Tensor, " N"]) -> Int[Tensor, " Q"]:
        """The bin of each negative; `self.bins` for one that lies in none (reference only: on the upper edge)."""
        if not len(iou):
            return torch.zeros_like(iou, dtype=torch.long)
        start = iou.new_tensor(max(self.floor_threshold, 0.0)) if self.reference else iou.min()
        stop = everyone.max() if self.reference else iou.max()
        edges = start + (stop - start) / self.bins * torch.arange(self.bins + 1, device=iou.device)
        bins = torch.bucketize(iou, edges, right=True) - 1
        return bins if self.reference else bins.clamp(0, self.bins - 1)
