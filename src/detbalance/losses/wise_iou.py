"""Wise IoU loss, versions 1 to 3."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..common import require, sum_over_ranks
from ..taxonomy import Imbalance
from ._overlap import overlap, ratio


class WIoULoss(nn.Module):
    """IoU loss that looks at each box in the light of all others: the middling ones are favoured over both the easy
    ones and the outliers, whose labels are often wrong.

    Tong et al.: version 1 exp(d^2 / c^2) (1 - IoU), the hull's diagonal c without gradient; version 2
    times beta^gamma; version 3 times beta / (delta alpha^(beta - delta)), where beta is the box's own 1 - IoU by
    the running mean of all (a buffer, updated with `momentum` in training) and has no gradient.

    Shapes: predicted (P, 4), target (P, 4), xyxy -> (P,). Identity: in version 3 a box with beta = delta keeps its
    loss.

    >>> WIoULoss(version=1)(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 0, 3, 2]]))
    tensor([0.7200])
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.REGRESSION_LOSS,)
    paper: ClassVar[str] = "Tong et al., Wise-IoU, 2023, arXiv:2301.10051"
    bounds: ClassVar[tuple[float, float]] = (0.0, float("inf"))  # versions 1 and 3 are bounded
    space: ClassVar[str] = "xyxy"

    mean: Tensor
    """running mean of 1 - IoU"""

    def __init__(
        self,
        *,
        version: Literal[1, 2, 3] = 3,
        gamma: float = 0.5,
        alpha: float = 1.9,
        delta: float = 3.0,
        momentum: float = 0.01,
    ):
        super().__init__()
        require(version in (1, 2, 3), "version", "1, 2 or 3", version)
        require(gamma >= 0, "gamma", "0 or greater", gamma)
        require(alpha > 1, "alpha", "greater than 1", alpha)
        require(delta > 0, "delta", "greater than 0", delta)
        require(0 < momentum <= 1, "momentum", "in (0, 1]", momentum)
        self.version, self.gamma, self.alpha, self.delta, self.momentum = version, gamma, alpha, delta, momentum
        self.register_buffer("mean", torch.ones(()))

    def forward(self, predicted: Float[Tensor, "P 4"], target: Float[Tensor, "P 4"]) -> Float[Tensor, " P"]:
        """The loss of each pair."""
        pair = overlap(predicted, target)
        loss = 1 - pair.iou
        away = ratio(pair.offset.square().sum(0), pair.hull.square().sum(0).detach())
        return self._focus(loss.detach()) * away.exp() * loss

    def _focus(self, loss: Tensor) -> Tensor:
        self._gather(loss)
        if self.version == 1:
            return torch.ones_like(loss)
        outlying = loss / self.mean.clamp(min=1e-6)
        if self.version == 2:
            return outlying**self.gamma
        return outlying / (self.delta * self.alpha ** (outlying - self.delta))

    def _gather(self, loss: Tensor) -> None:
        if self.training and torch.is_grad_enabled():  # not when hard example mining looks at the loss
            total, count = sum_over_ranks(torch.stack((loss.sum(), loss.new_tensor(len(loss)))))
            momentum = self.momentum * (count > 0)  # no boxes: the mean stays
            self.mean += (momentum * (total / count.clamp(min=1) - self.mean)).to(self.mean.dtype)

    def extra_repr(self) -> str:
        """The settings."""
        return f"version={self.version}, gamma={self.gamma}, alpha={self.alpha}, delta={self.delta}"
