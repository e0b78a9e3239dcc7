"""Bringing the maps of different levels to one size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """To a smaller size by max-pooling, to a larger one by nearest neighbour; unchanged at the same size."""
    if x.shape[-2:] == torch.Size(size):
        return x
    if x.shape[-2] >= size[0] and x.shape[-1] >= size[1]:
        return F.adaptive_max_pool2d(x, size)
    return F.interpolate(x, size=size, mode="nearest")


def fit(x: Tensor, size: Sequence[int]) -> Tensor:
    """By nearest neighbour to almost its own size: a stride of two rounds odd sizes up, which a backbone may not."""
    return x if x.shape[-2:] == torch.Size(size) else F.interpolate(x, size=size, mode="nearest")


def blend(x: Tensor, size: Sequence[int]) -> Tensor:
    """To a smaller size by the mean, to a larger one bilinearly; unchanged at the same size."""
    if x.shape[-2:] == torch.Size(size):
        return x
    if x.shape[-2] >= size[0] and x.shape[-1] >= size[1]:
        return F.adaptive_avg_pool2d(x, size)
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
