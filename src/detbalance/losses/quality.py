"""Losses whose target is the IoU of the prediction: quality focal loss and varifocal loss."""

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
class QualityFocalLoss:
    """Focal loss that learns the IoU of the predicted box in place of a 1, so that the score ranks detections by how
    well they are placed, and easy background still fades out.

    Li et al., equation 5: |y - sigmoid(x)|^beta times the cross-entropy with the soft label y.

    Shapes: logits (S, C), target (S, C), the IoU at the true class and 0 elsewhere -> (S, C). `groups` is not used.
    Identity: on targets 0 and 1 it is `FocalLoss(gamma=beta, alpha=None)`.

    >>> QualityFocalLoss()(torch.tensor([[2.0, -1.0]]), torch.tensor([[0.8, 0.0]]))
    tensor([[0.0034, 0.0227]])
    """

    beta: float = 2.0
    """how fast rows that are right already fade"""

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FOREGROUND_BACKGROUND,)
    paper: ClassVar[str] = "Li et al., Generalized Focal Loss, NeurIPS 2020, arXiv:2006.04388, eq. 5"
    bounds: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    target_kind: ClassVar[str] = "iou"
    softmax: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require(self.beta >= 0, "beta", "0 or greater", self.beta)

    def __call__(self, logits: Float[Tensor, "S C"], target: Float[Tensor, "S C"], groups: Tensor | None = None):
        logits, target = widen(logits), widen(target)
        entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        return power((logits.sigmoid() - target).abs(), self.beta) * entropy


@dataclass(frozen=True, kw_only=True)
class VarifocalLoss:
    """Learns the IoU of the predicted box as the score, with the positives weighted by that IoU and only the negatives
    faded out: the few positives are all needed, and the best placed ones most.

    Zhang et al., equation 2: q times the cross-entropy with the soft label q where q > 0, else alpha p^gamma times it.

    Shapes: logits (S, C), target (S, C), the IoU at the true class and 0 elsewhere -> (S, C). `groups` is not used.
    Identity: on background it is alpha-weighted focal loss, `FocalLoss(gamma=gamma, alpha=1 - alpha)`.

    >>> VarifocalLoss()(torch.tensor([[2.0, -1.0]]), torch.tensor([[0.8, 0.0]]))
    tensor([[0.4215, 0.0170]])
    """

    alpha: float = 0.75
    """weight of the negatives"""
    gamma: float = 2.0
    """how fast easy negatives fade"""

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FOREGROUND_BACKGROUND,)
    paper: ClassVar[str] = "Zhang et al., VarifocalNet, CVPR 2021, arXiv:2008.13367, eq. 2"
    bounds: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    target_kind: ClassVar[str] = "iou"
    softmax: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require(self.alpha >= 0, "alpha", "0 or greater", self.alpha)
        require(self.gamma >= 0, "gamma", "0 or greater", self.gamma)

    def __call__(self, logits: Float[Tensor, "S C"], target: Float[Tensor, "S C"], groups: Tensor | None = None):
        logits, target = widen(logits), widen(target)
        entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        return entropy * torch.where(target > 0, target, self.alpha * power(logits.sigmoid(), self.gamma))
