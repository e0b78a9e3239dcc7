"""How crowded the gradient norms are: the running histogram of the gradient harmonising mechanism."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..common import require, sum_over_ranks, world_size


class GradientDensity(nn.Module):
    """Weighs each example by the inverse of how many examples have a gradient norm like its own.

    Norms in [0, 1] fall into `bins` equal bins; a bin's running size is S <- momentum S + (1 - momentum) count, only
    when examples fall into it, starting from 0. The weight is total / (S n), n the number of bins that are not empty.
    """

    counts: Tensor
    """running size of each bin"""

    def __init__(self, bins: int, momentum: float):
        super().__init__()
        require(bins >= 1, "bins", "1 or greater", bins)
        require(0 <= momentum < 1, "momentum", "in [0, 1)", momentum)
        self.bins, self.momentum = bins, momentum
        self.register_buffer("counts", torch.zeros(bins))

    def forward(self, norm: Tensor) -> tuple[Tensor, Tensor]:
        """Weights in the shape of `norm`, and the number of examples (at least 1; the mean over processes)."""
        place = (norm * self.bins).long().clamp(0, self.bins - 1)
        found = sum_over_ranks(torch.bincount(place.flatten(), minlength=self.bins)).to(self.counts)
        counts = torch.where(found > 0, self.counts.lerp(found, 1 - self.momentum), self.counts)
        if self.training and torch.is_grad_enabled():  # not when hard example mining looks at the loss
            self.counts.copy_(counts)
        filled = found > 0
        total = found.sum().clamp(min=1)
        weight = total / (counts.where(filled, 1) * filled.sum().clamp(min=1))
        return weight[place].to(norm.dtype), total / world_size()

    def extra_repr(self) -> str:
        """The settings."""
        return f"bins={self.bins}, momentum={self.momentum}"
