"""Equalization loss, version 2."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..common import require, sum_over_ranks, widen
from ..taxonomy import Imbalance
from ._per_class import PerClass


class EQLv2Loss(PerClass):
    """Sigmoid cross-entropy that turns the negative gradient of a class down, and its positive gradient up, as long as
    it has received far more of the former: the rows of frequent classes no longer push rare ones under.

    Tan et al., equations 4 to 6: with r the class's positive over its negative gradient so far (buffers), negatives
    weigh f(r) = 1 / (1 + exp(-gamma (r - mu))), positives 1 + alpha (1 - f(r)); both 1 before the first batch. Column
    0, which holds no class where there are several columns, keeps weight 1, as the authors' objectness column does.

    Shapes: logits (S, C), target (S, C) -> (S, C). `groups` is not used.
    Identity: the first batch gives `CrossEntropyLoss()`.

    >>> loss, target = EQLv2Loss(), torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    >>> loss(torch.zeros(2, 3), target)[0]
    tensor([0.6931, 0.6931, 0.6931])
    >>> loss(torch.zeros(2, 3), target)[0]  # column 2 has had no positive
    tensor([6.9315e-01, 6.9315e-01, 4.6943e-05])
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FOREGROUND_FOREGROUND,)
    paper: ClassVar[str] = "Tan et al., Equalization Loss v2, CVPR 2021, arXiv:2012.08548"
    bounds: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    target_kind: ClassVar[str] = "onehot"
    softmax: ClassVar[bool] = False

    positive: Tensor
    """sum of the weighted gradients that each class got as the truth"""
    negative: Tensor
    """and of those that it got otherwise"""

    def __init__(self, *, gamma: float = 12.0, mu: float = 0.8, alpha: float = 4.0):
        super().__init__("positive", "negative")
        require(gamma > 0, "gamma", "greater than 0", gamma)
        require(mu >= 0, "mu", "0 or greater", mu)
        require(alpha >= 0, "alpha", "0 or greater", alpha)
        self.gamma, self.mu, self.alpha = gamma, mu, alpha

    def forward(
        self, logits: Float[Tensor, "S C"], target: Float[Tensor, "S C"], groups: Tensor | None = None
    ) -> Float[Tensor, "S C"]:
        """The loss of each entry."""
        logits, target = widen(logits), widen(target)
        self.fit(logits.shape[1])
        negative = self._negative_weight().to(logits.dtype)
        weight = target * (1 + self.alpha * (1 - negative)) + (1 - target) * negative
        if self.gathers:
            gradient = weight * (logits.detach().sigmoid() - target).abs()
            found = torch.stack(((gradient * target).sum(0), (gradient * (1 - target)).sum(0)))
            found = sum_over_ranks(found).to(self.positive)
            self.positive += found[0]
            self.negative += found[1]
        return weight * F.binary_cross_entropy_with_logits(logits, target, reduction="none")

    def _negative_weight(self) -> Tensor:
        ratio = self.positive / (self.negative + 1e-10)
        seen = self.positive + self.negative > 0
        weight = torch.sigmoid(self.gamma * (ratio - self.mu)).where(seen, 1)
        if len(weight) > 1:
            weight[0] = 1
        return weight

    def extra_repr(self) -> str:
        """The settings."""
        return f"gamma={self.gamma}, mu={self.mu}, alpha={self.alpha}"
