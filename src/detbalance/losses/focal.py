"""Focal loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..common import require, widen
from ..taxonomy import Imbalance
from ._power import power


@dataclass(frozen=True, kw_only=True)
class FocalLoss:
    """Cross-entropy that fades out where the classifier is already right, so that the flood of easy background
    candidates no longer drowns the few hard ones: FL = -alpha_t (1 - p_t)^gamma log p_t.

    Lin et al., equation 5. The sigmoid form equals `torchvision.ops.sigmoid_focal_loss`, soft targets included; the
    paper divides the sum by the number of positives. The softmax form takes p_t of the one true class; there alpha
    belongs to the objects and 1 - alpha to the background, which is column 0. A gamma below 1 is safe too.

    Shapes: logits (S, C), target (S, C) -> (S, C), or (S,) under softmax. `groups` is not used.
    Identity: gamma=0, alpha=None is the cross-entropy; gamma=0, alpha=.5 is half of it.

    >>> logits, target = torch.tensor([[2.0, -1.0]]), torch.tensor([[1.0, 0.0]])
    >>> FocalLoss()(logits, target)
    tensor([[0.0005, 0.0170]])
    >>> FocalLoss(alpha=None, softmax=True)(logits, target)
    tensor([0.0001])
    """

    gamma: float = 2.0
    """how fast easy rows fade; 0 is the cross-entropy"""
    alpha: float | None = 0.25
    """weight of the positives, 1 - alpha that of the negatives; None: no such weight"""
    softmax: bool = False
    """classes exclude each other, column 0 is the background"""

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FOREGROUND_BACKGROUND,)
    paper: ClassVar[str] = "Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, arXiv:1708.02002, eq. 5"
    bounds: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    target_kind: ClassVar[str] = "onehot"

    def __post_init__(self) -> None:
        require(self.gamma >= 0, "gamma", "0 or greater", self.gamma)
        require(self.alpha is None or 0 <= self.alpha <= 1, "alpha", "None or in [0, 1]", self.alpha)

    def __call__(self, logits: Float[Tensor, "S C"], target: Float[Tensor, "S C"], groups: Tensor | None = None):
        logits, target = widen(logits), widen(target)
        return self._softmax(logits, target) if self.softmax else self._sigmoid(logits, target)

    def _sigmoid(self, logits: Tensor, target: Tensor) -> Tensor:
        loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        if self.gamma > 0:
            miss = torch.addcmul(target, logits.sigmoid(), 1 - 2 * target)  # 1 - p_t
            loss = loss * power(miss, self.gamma)
        if self.alpha is not None:
            loss = loss * (1 - self.alpha + (2 * self.alpha - 1) * target)
        return loss

    def _softmax(self, logits: Tensor, target: Tensor) -> Tensor:
        log_p = (target * logits.log_softmax(-1)).sum(-1)
        loss = -power(-torch.expm1(log_p), self.gamma) * log_p if self.gamma > 0 else -log_p
        if self.alpha is not None:
            loss = loss * (self.alpha + (1 - 2 * self.alpha) * target[:, 0])
        return loss
