"""Balanced L1 loss (Libra R-CNN)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..common import require, widen
from ..taxonomy import Imbalance


@dataclass(frozen=True, kw_only=True)
class BalancedL1Loss:
    """Smooth L1 with a larger gradient for small errors, so that the many nearly right boxes are heard beside the few
    outliers, whose gradient is cut at `gamma`.

    Pang et al., section 3.3, for |d| < beta: alpha/b (b |d| + 1) ln(b |d| / beta + 1) - alpha |d|, else
    gamma |d| + gamma/b - alpha beta, with b = e^(gamma/alpha) - 1, summed over the four coordinates. The paper has
    beta = 1, where the gradient is alpha ln(b |d| + 1). For other beta this is the authors' code: the value stays
    continuous, the gradient has a small step at beta.

    Shapes: predicted (P, 4), target (P, 4) -> (P,).

    >>> BalancedL1Loss()(torch.tensor([[0.5, -2.0, 0.0, 0.0]]), torch.zeros(1, 4))
    tensor([2.9792])
    """

    alpha: float = 0.5
    """smaller: more gradient for small errors"""
    gamma: float = 1.5
    """gradient of large errors"""
    beta: float = 1.0
    """error at which the loss turns linear"""

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.REGRESSION_LOSS,)
    paper: ClassVar[str] = "Pang et al., Libra R-CNN, CVPR 2019, arXiv:1904.02701, sec. 3.3"
    bounds: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    space: ClassVar[str] = "code"

    def __post_init__(self) -> None:
        for name in ("alpha", "gamma", "beta"):
            require(getattr(self, name) > 0, name, "greater than 0", getattr(self, name))
        require(
            self.gamma <= 80 * self.alpha, "alpha", "gamma / 80 or greater, or e^(gamma/alpha) overflows", self.alpha
        )

    def __call__(self, predicted: Float[Tensor, "P 4"], target: Float[Tensor, "P 4"]) -> Float[Tensor, " P"]:
        error = (widen(predicted) - widen(target)).abs()
        b = math.expm1(self.gamma / self.alpha)
        near = self.alpha * ((error + 1 / b) * torch.log1p(error * (b / self.beta)) - error)
        far = self.gamma * error + (self.gamma / b - self.alpha * self.beta)
        return torch.where(error < self.beta, near, far).sum(1)
