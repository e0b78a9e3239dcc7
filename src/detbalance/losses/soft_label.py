"""Labels that grow with the IoU about the threshold, instead of leaping there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..common import require, widen
from ..taxonomy import Imbalance
from ..types import Samples
from .focal import FocalLoss


@dataclass(frozen=True, kw_only=True)
class SoftLabelLoss:
    """Candidates whose IoU is about the threshold are objects in part: two that look alike, at IoU 0.49 and 0.51, no
    longer pull with all their strength in opposite directions.

    The review names labels near the threshold among its open problems (section 9.3) and proposes no method; this is a
    plain one. A candidate matched with an object at IoU u shows it with probability

        y = (u - threshold) / width + 1/2, cut off at 0 and 1,

    and its loss is the expected one, y base(object) + (1 - y) base(background), whatever `base` is. The best candidate
    of an object, of those that train, is certain: no object goes without. What lies in the band must be matched for
    that: by `MaxIoUAssigner` with both thresholds at its lower end (recipe `soft_labels`), which also has it regressed.
    `AmbiguityIgnoringAssigner` leaves such candidates out instead, and quality focal loss learns the IoU of the
    predicted box, over all its range.

    Shapes: logits (S, C), target (S, C) -> what `base` gives, (S, C) or (S,). The target is y at the class, and under
    softmax 1 - y at the background; the detector's heads make it by `soften`.
    Identity: width = 0 is `base` under assignment by the threshold.
    Errors: ValueError for settings out of range, or a base that ranks a set or has a state.

    >>> logits = torch.tensor([[-1.0, 0.5]])
    >>> [round(SoftLabelLoss()(logits, torch.tensor([[0.0, y]])).sum().item(), 4) for y in (0.0, 0.5, 1.0)]
    [0.3001, 0.167, 0.0339]
    """

    threshold: float = 0.5
    """the IoU at which a candidate is as much object as background"""
    width: float = 0.2
    """of the band of IoUs within which the label grows from 0 to 1"""
    base: Callable = field(default_factory=FocalLoss)
    """the class loss; not one that ranks a set or keeps statistics, as it is asked twice"""

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FOREGROUND_BACKGROUND, Imbalance.IOU_DISTRIBUTION)
    paper: ClassVar[str] = (
        "Oksuz et al., Imbalance Problems in Object Detection: A Review, arXiv:1909.00169, section 9.3"
    )
    bounds: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    target_kind: ClassVar[str] = "onehot"

    def __post_init__(self) -> None:
        require(0 <= self.threshold <= 1, "threshold", "in [0, 1]", self.threshold)
        require(0 <= self.width <= 1, "width", "in [0, 1]", self.width)
        require(not isinstance(self.base, nn.Module), "base", "a loss without a state", self.base)

    @property
    def softmax(self) -> bool:
        """Is column 0 the background of a softmax? As `base` has it."""
        return getattr(self.base, "softmax", False)

    def soften(self, samples: Samples) -> Float[Tensor, " S"]:
        """How much of an object each positive row is; 0 in background rows."""
        iou, rows = widen(samples.iou.detach()), samples.positive
        share = ((iou - self.threshold) / self.width + 0.5).clamp(0, 1) if self.width else iou >= self.threshold
        own = samples.instance()[rows]
        best = iou.new_zeros(len(own)).scatter_reduce(0, own, iou[rows], "amax")
        certain = torch.zeros_like(rows).index_put((rows,), iou[rows] >= best[own])
        return torch.where(certain, 1.0, share.to(iou.dtype)) * rows

    def __call__(self, logits: Float[Tensor, "S C"], target: Float[Tensor, "S C"], groups: Tensor | None = None):
        target = widen(target)
        share = 1 - target[:, 0] if self.softmax else target.sum(1)
        nothing = torch.zeros_like(target)
        if self.softmax:
            nothing[:, 0] = 1.0
        value = self.base(logits, nothing)
        if value.dim() == 0:
            raise ValueError(f"{self.base!r} ranks a set: it gives no loss to a row that could be softened")
        # Few rows show an object; the others are done.
        rows = (share > 0).nonzero().squeeze(1)
        sure, part = (target[rows] > 0).to(target.dtype), share[rows].to(value.dtype)
        if self.softmax:
            sure[:, 0] = 0.0
        part = part[:, None] if value.dim() == 2 else part
        return value.index_copy(0, rows, part * self.base(logits[rows], sure) + (1 - part) * value[rows])
