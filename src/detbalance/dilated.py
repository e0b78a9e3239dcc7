"""Dilated convolutions of several groups, with a gradient that is right in half precision too."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .common import widen

__all__ = ["DilatedConv2d", "dilated_conv2d"]


def dilated_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, dilation: int, groups: int) -> Tensor:
    """A convolution of odd kernel and stride 1 that keeps the size of (N, C, H, W); what `conv2d` gives, in its type.

    On a processor the gradient of a grouped, dilated convolution's weights in bfloat16, channels last, is memory that
    nothing was written to (torch 2.15, oneDNN 3.13): training stands still at gradients of 1e30. Those are computed in
    float32.

    >>> x, weight = torch.ones(1, 2, 5, 5), torch.ones(2, 1, 3, 3)
    >>> dilated_conv2d(x, weight, None, 2, 2)[0, 0, 2].tolist()
    [6.0, 6.0, 9.0, 6.0, 6.0]
    """
    padding = [dilation * (size // 2) for size in weight.shape[2:]]
    if groups == 1 or dilation == 1 or x.device.type != "cpu":
        return F.conv2d(x, weight, bias, 1, padding, dilation, groups)
    with torch.autocast("cpu", enabled=False):
        wide = None if bias is None else widen(bias)
        found = F.conv2d(widen(x), widen(weight), wide, 1, padding, dilation, groups)
    return found.to(x.dtype)


class DilatedConv2d(nn.Conv2d):
    """`torch.nn.Conv2d` by `dilated_conv2d`."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, dilation: int, groups: int = 1, bias: bool = True):
        padding = dilation * (kernel // 2)
        super().__init__(inputs, outputs, kernel, padding=padding, dilation=dilation, groups=groups, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        return dilated_conv2d(x, self.weight, self.bias, self.dilation[0], self.groups)
