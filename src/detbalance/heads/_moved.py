"""A convolution whose kernel reads elsewhere at each place, for each anchor."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..common import widen

__all__ = ["moved_convolution"]


def moved_convolution(
    x: Float[Tensor, "B C H W"],
    moves: Float[Tensor, "B A18 H W"],
    weight: Float[Tensor, "AK C 3 3"],
    bias: Float[Tensor, " AK"],
) -> Float[Tensor, "B AK H W"]:
    """Deformable 3x3 convolution in which each of A anchors has offsets (rows and columns in turn) and K outputs of its
    own: torchvision's `deform_conv2d` with A groups on A copies of the map.

    Mixing channels and sampling places may change their order. The mixing comes first here, so that only the 9 A K
    products travel and not the channels for each of 9 A places: a fraction of the memory, and on a CPU of the time.

    >>> x = torch.arange(16.0).reshape(1, 1, 4, 4)
    >>> weight = torch.zeros(1, 1, 3, 3)
    >>> weight[..., 1, 1] = 1.0
    >>> moves = torch.zeros(1, 18, 4, 4)
    >>> moves[:, 9] = 0.5  # the middle of the kernel, half a column to the right
    >>> moved_convolution(x, moves, weight, torch.zeros(1))[0, 0, 1]
    tensor([4.5000, 5.5000, 6.5000, 3.5000])
    """
    batch, _, height, width = x.shape
    anchors = moves.shape[1] // 18
    outputs = len(weight) // anchors
    kernels = weight.unflatten(0, (anchors, outputs)).permute(0, 3, 4, 1, 2).flatten(0, 3)
    products = widen(F.conv2d(x, kernels[:, :, None, None])).reshape(-1, outputs, height, width)
    seen = F.grid_sample(products, _places(widen(moves)).to(products.dtype), align_corners=False)
    seen = seen.reshape(batch, anchors, 9, outputs, height, width).sum(2)
    return seen.flatten(1, 2) + bias.to(seen.dtype)[:, None, None]


def _places(moves: Float[Tensor, "B A18 H W"]) -> Float[Tensor, "BA9 H W 2"]:
    """Where each place of each kernel reads, from -1 to 1 over the map, the column first."""
    height, width = moves.shape[-2:]
    moves = moves.reshape(-1, 9, 2, height, width)
    kernel, row, column = (torch.arange(n, device=moves.device) for n in (9, height, width))
    rows = moves[:, :, 0] + (kernel // 3 - 1)[:, None, None] + row[:, None]
    columns = moves[:, :, 1] + (kernel % 3 - 1)[:, None, None] + column
    return torch.stack(((2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1), -1).flatten(0, 1)
