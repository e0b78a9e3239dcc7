"""Deformable convolution: its places, and its reading by sampling."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .common import widen

__all__ = ["OffsetConv2d", "read_moved"]


class OffsetConv2d(nn.Conv2d):
    """Says where a deformable convolution looks; zero to begin with, and `train` moves it at a tenth of the rate.

    Adam moves every weight by about the rate: all inputs together, at the rate of a small network trained from random
    weights, would move the places by whole cells a step. The tenth is what mmcv offers as `dcn_offset_lr_mult`.

    >>> OffsetConv2d(4, 18, 3, padding=1)(torch.ones(1, 4, 2, 2)).abs().max().item()
    0.0
    """

    learning_rate_factor = 0.1

    def reset_parameters(self) -> None:
        """To zero."""
        for p in self.parameters():
            nn.init.zeros_(p)


def read_moved(
    x: Float[Tensor, "B C H W"], offset: Float[Tensor, "B G18 h w"], *, stride: int = 1
) -> Float[Tensor, "B C 9 h w"]:
    """What the nine places of a 3x3 kernel read of a map when each is moved by an offset of its own, and 0 outside.

    Times the kernel's weights these are the values of torchvision's `deform_conv2d` with padding 1, whose backward pass
    takes six to ten times as long on a CPU. Channels are read in as many groups as there are 18 offsets, rows and
    columns in turn.

    >>> read_moved(torch.arange(9.0).reshape(1, 1, 3, 3), torch.zeros(1, 18, 3, 3))[0, 0, :, 1, 1].round()
    tensor([0., 1., 2., 3., 4., 5., 6., 7., 8.])
    """
    groups = offset.shape[1] // 18
    x = widen(x)
    maps = x.reshape(len(x) * groups, -1, *x.shape[-2:])
    grid = _places(widen(offset).reshape(len(maps), 18, *offset.shape[-2:]), x.shape[-2:], stride)
    seen = F.grid_sample(maps, grid.flatten(1, 2).to(maps.dtype), align_corners=False)
    return seen.reshape(*x.shape[:2], 9, *offset.shape[-2:])


def _places(offset: Tensor, size: Sequence[int], stride: int) -> Tensor:
    """(B, 9, h, w, 2) where each place of the kernel reads, from -1 to 1 over the map, the column first."""
    moves = offset.unflatten(1, (9, 2))
    kernel, row, column = (torch.arange(n, device=offset.device) for n in (9, *offset.shape[-2:]))
    rows = moves[:, :, 0] + (kernel // 3 - 1)[:, None, None] + (row * stride)[:, None]
    columns = moves[:, :, 1] + (kernel % 3 - 1)[:, None, None] + column * stride
    return torch.stack(((2 * columns + 1) / size[1] - 1, (2 * rows + 1) / size[0] - 1), -1)
