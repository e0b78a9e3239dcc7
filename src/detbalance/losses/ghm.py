"""Gradient harmonising losses: GHM-C for classes, GHM-R for boxes."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..common import require, widen
from ..taxonomy import Imbalance
from ._density import GradientDensity

_PAPER = "Li et al., Gradient Harmonized Single-stage Detector, AAAI 2019, arXiv:1811.05181"


class GHMCLoss(nn.Module):
    """Cross-entropy in which each example counts the less the more others have a gradient like its own: both the flood
    of easy background and the crowd of outliers (often wrong labels) are turned down.

    Li et al., GHM-C: the gradient norm is |sigmoid(x) - y|, its density a histogram with momentum (a buffer). As in the
    authors' code the density is shared out over the bins that are not empty, where the paper divides by all of them,
    and starts from zero, so that the first losses are larger. The mean over all S x C entries, not over positives.

    Shapes: logits (S, C), target (S, C) -> (). `groups` is not used.
    Identity: with one bin and momentum 0 it is the mean cross-entropy.

    >>> loss = GHMCLoss(bins=10, momentum=0)
    >>> loss(torch.tensor([[-3.0], [-3.0], [-3.0], [2.0]]), torch.tensor([[0.0], [0.0], [0.0], [1.0]]))
    tensor(0.0878)
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FOREGROUND_BACKGROUND,)
    paper: ClassVar[str] = _PAPER
    bounds: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    target_kind: ClassVar[str] = "onehot"
    softmax: ClassVar[bool] = False

    def __init__(self, *, bins: int = 30, momentum: float = 0.75):
        super().__init__()
        self.density = GradientDensity(bins, momentum)

    def forward(
        self, logits: Float[Tensor, "S C"], target: Float[Tensor, "S C"], groups: Tensor | None = None
    ) -> Float[Tensor, ""]:
        """The loss of the set."""
        logits, target = widen(logits), widen(target)
        weights, total = self.density((logits.detach().sigmoid() - target).abs())
        return (weights * F.binary_cross_entropy_with_logits(logits, target, reduction="none")).sum() / total


class GHMRLoss(nn.Module):
    """A smooth L1 loss in which each coordinate counts the less the more others have a gradient like its own: the crowd
    of outliers and the crowd of boxes that are right already are turned down.

    Li et al., GHM-R: ASL1 = sqrt(d^2 + mu^2) - mu, its gradient norm |d| / sqrt(d^2 + mu^2), the density a histogram
    with momentum (a buffer), treated as in `GHMCLoss`. Summed over the four coordinates; the authors take the mean over
    all coordinates and multiply by 10, which is a `box_weight` of 2.5 here.

    Shapes: predicted (P, 4), target (P, 4) -> (P,).
    Identity: with one bin and momentum 0 it is ASL1.

    >>> GHMRLoss(momentum=0)(torch.tensor([[0.01, 0.01, 0.01, 1.0]]), torch.zeros(1, 4))
    tensor([1.9651])
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.REGRESSION_LOSS,)
    paper: ClassVar[str] = _PAPER
    bounds: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    space: ClassVar[str] = "code"

    def __init__(self, *, mu: float = 0.02, bins: int = 10, momentum: float = 0.7):
        super().__init__()
        require(mu > 0, "mu", "greater than 0", mu)
        self.mu = mu
        self.density = GradientDensity(bins, momentum)

    def forward(self, predicted: Float[Tensor, "P 4"], target: Float[Tensor, "P 4"]) -> Float[Tensor, " P"]:
        """The loss of each box."""
        error = widen(predicted) - widen(target)
        length = torch.sqrt(error.square() + self.mu**2)
        weights, _ = self.density((error / length).detach().abs())
        return (weights * (length - self.mu)).sum(1)

    def extra_repr(self) -> str:
        """The settings."""
        return f"mu={self.mu}"
