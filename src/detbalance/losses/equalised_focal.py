"""Equalised focal loss."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..common import require, sum_over_ranks, widen
from ..taxonomy import Imbalance
from ._per_class import PerClass

__all__ = ["EqualisedFocalLoss"]


class EqualisedFocalLoss(PerClass):
    """Focal loss with a focus of its own for each class: one whose negatives own its gradient is focused harder, so
    that rare classes, too, hear their few positives in a one-stage detector.

    Li et al., equations 3 to 6: EFL = -alpha_t (gamma_j / gamma) (1 - p_t)^gamma_j log p_t with
    gamma_j = gamma + s (1 - g_j), g_j the class's positive over its negative gradient so far (buffers), at most 1, and
    1 before the first batch. Column 0, which holds no class where there are several columns, keeps gamma.

    Shapes: logits (S, C), target (S, C) -> (S, C). `groups` is not used.
    Identity: the first batch, s = 0, or classes with as much positive as negative gradient give `FocalLoss()`.

    >>> loss, target = EqualisedFocalLoss(), torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    >>> loss(torch.zeros(2, 3), target)[0]
    tensor([0.1300, 0.0433, 0.1300])
    >>> loss(torch.zeros(2, 3), target)[0]  # column 2 has had no positive
    tensor([0.1300, 0.0433, 0.0025])
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FOREGROUND_FOREGROUND, Imbalance.FOREGROUND_BACKGROUND)
    paper: ClassVar[str] = (
        "Li, Yao, Tan, et al., Equalized Focal Loss for Dense Long-Tailed Object Detection, CVPR 2022, arXiv:2201.02593"
    )
    bounds: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    target_kind: ClassVar[str] = "onehot"
    softmax: ClassVar[bool] = False

    positive: Tensor
    """sum of the gradients that each class got as the truth"""
    negative: Tensor
    """and of those that it got otherwise"""

    def __init__(self, *, gamma: float = 2.0, alpha: float | None = 0.25, scale: float = 8.0):
        super().__init__("positive", "negative")
        require(gamma > 0, "gamma", "greater than 0", gamma)
        require(alpha is None or 0 <= alpha <= 1, "alpha", "None or in [0, 1]", alpha)
        require(scale >= 0, "scale", "0 or greater", scale)
        self.gamma, self.alpha, self.scale = gamma, alpha, scale

    def forward(
        self, logits: Float[Tensor, "S C"], target: Float[Tensor, "S C"], groups: Tensor | None = None
    ) -> Float[Tensor, "S C"]:
        """The loss of each entry."""
        logits, target = widen(logits), widen(target)
        self.fit(logits.shape[1])
        gamma = self._focus().to(logits.dtype)
        entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        miss = torch.addcmul(target, logits.sigmoid(), 1 - 2 * target)  # 1 - p_t
        # Below 1 a power has no bounded slope at 0.
        fade = (miss.clamp(min=1e-12) if self.gamma < 1 else miss) ** gamma * (gamma / self.gamma)
        if self.alpha is not None:
            fade = fade * (1 - self.alpha + (2 * self.alpha - 1) * target)
        if self.gathers:
            self._gather(fade.detach(), miss.detach(), entropy.detach(), gamma, target)
        return fade * entropy

    def _focus(self) -> Tensor:
        """gamma_j."""
        seen = self.positive + self.negative > 0
        ratio = (self.positive / (self.negative + 1e-10)).clamp(max=1).where(seen, 1)
        if len(ratio) > 1:
            ratio[0] = 1
        return self.gamma + self.scale * (1 - ratio)

    def _gather(self, fade: Tensor, miss: Tensor, entropy: Tensor, gamma: Tensor, target: Tensor) -> None:
        gradient = fade * (miss + gamma * (1 - miss) * entropy)  # |d EFL / d logit|
        found = torch.stack(((gradient * target).sum(0), (gradient * (1 - target)).sum(0)))
        found = sum_over_ranks(found).to(self.positive)
        self.positive += found[0]
        self.negative += found[1]

    def extra_repr(self) -> str:
        """The settings."""
        return f"gamma={self.gamma}, alpha={self.alpha}, scale={self.scale}"
