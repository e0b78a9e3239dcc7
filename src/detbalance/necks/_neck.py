"""What several necks are made of: the frame of names and extra levels, layers, the way down."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock


class Neck(nn.Module):
    """A neck that is no FPN: `merge` makes the levels from the backbone's maps, and extra levels are made of those."""

    def __init__(self, extra_blocks: ExtraFPNBlock | None = None):
        super().__init__()
        self.extra_blocks = extra_blocks

    def forward(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        """The pyramid of the backbone's maps, fine to coarse."""
        names, inputs = list(x), list(x.values())
        maps = self.merge(inputs)
        if self.extra_blocks is not None:
            maps, names = self.extra_blocks(maps, inputs, names)
        return OrderedDict(zip(names, maps))

    def merge(self, inputs: list[Tensor]) -> list[Tensor]:
        """The backbone's maps -> as many maps of `out_channels`, in the same sizes."""
        raise NotImplementedError


def convolution(inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps the size (or divides it by the stride, rounding up), set as torchvision sets its FPN."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
    nn.init.kaiming_uniform_(layer.weight, a=1)
    nn.init.zeros_(layer.bias)
    return layer


def lateral(in_channels: Sequence[int], out_channels: int) -> nn.ModuleList:
    """A 1x1 convolution of each map, named as in torchvision's FPN, whose weights load."""
    return nn.ModuleList(nn.Sequential(convolution(c, out_channels)) for c in in_channels)


def excitation(channels: int, outputs: int | None = None, ratio: int = 16) -> nn.Sequential:
    """Squeeze and excitation's two layers (Hu et al. 2018): (B, C, 1, 1) means of the channels -> their weights."""
    hidden = max(channels // ratio, 1)
    outputs = channels if outputs is None else outputs
    return nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, outputs, 1), nn.Sigmoid())


def spatial_weights(count: int, channels: int) -> nn.Sequential:
    """AugFPN's adaptive spatial fusion: `count` maps of so many channels, put together -> a weight in (0, 1) for each
    of them at each place."""
    return nn.Sequential(
        convolution(count * channels, channels), nn.ReLU(), convolution(channels, count, 3), nn.Sigmoid()
    )


def top_down(maps: list[Tensor]) -> list[Tensor]:
    """Adds to each map the coarser ones, brought up by nearest neighbour: FPN's path from coarse to fine."""
    maps = list(maps)
    for i in reversed(range(len(maps) - 1)):
        maps[i] = maps[i] + F.interpolate(maps[i + 1], size=maps[i].shape[-2:], mode="nearest")
    return maps


def extra_names(block: ExtraFPNBlock | None, in_channels: Sequence[int], out_channels: int) -> list[str]:
    """The names of the levels that an extra block adds: it is tried on small maps, for it may be the user's own."""
    if block is None:
        return []
    with torch.no_grad():
        maps = [torch.zeros(1, out_channels, 4, 4) for _ in in_channels]
        inputs = [torch.zeros(1, c, 4, 4) for c in in_channels]
        return list(block(maps, inputs, [str(i) for i in range(len(maps))])[1][len(in_channels) :])
