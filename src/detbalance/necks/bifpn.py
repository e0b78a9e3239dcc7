"""Weighted bidirectional feature pyramid (EfficientDet)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from ..taxonomy import Imbalance
from ._neck import extra_names
from ._resize import resize


class BiFPN(nn.Module):
    """A stack of light cells, each a path from coarse to fine and one back, in which every merge learns how much each
    map is worth: no level is favoured by the architecture.

    Tan et al., section 3: in each cell T_i = conv(P_i + up(T_i+1)), then O_i = conv(P_i + T_i + down(O_i-1)), T missing
    at both ends, where a sum is fast normalised fusion, weights relu(w) / (sum relu(w) + 1e-4), and conv is SiLU, 3x3
    depthwise, 1x1, batch norm. Finer maps come down by adaptive max-pooling, so that any sizes fit. The extra levels
    take part. Batch norm, as in the paper, wants batches of several images.

    Shapes: as `FPN`, for any sizes that fall from level to level.

    >>> maps = {"0": torch.zeros(1, 8, 13, 9), "1": torch.zeros(1, 16, 7, 5)}
    >>> {name: tuple(x.shape) for name, x in BiFPN([8, 16], 4)(maps).items()}
    {'0': (1, 4, 13, 9), '1': (1, 4, 7, 5)}
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FEATURE_LEVEL,)
    paper: ClassVar[str] = "Tan et al., EfficientDet, CVPR 2020, arXiv:1911.09070, sec. 3"

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        *,
        extra_blocks: ExtraFPNBlock | None = None,
        repeats: int = 3,
    ):
        """`repeats`: number of cells; EfficientDet-D0 has 3."""
        super().__init__()
        if repeats < 1:
            raise ValueError(f"repeats must be 1 or greater, but is {repeats!r}")
        self.inner_blocks = nn.ModuleList(  # named as in torchvision's FPN, whose lateral weights load
            Conv2dNormActivation(c, out_channels, 1, padding=0, norm_layer=None, activation_layer=None)
            for c in in_channels
        )
        self.extra_blocks = extra_blocks
        levels = len(in_channels) + len(extra_names(extra_blocks, in_channels, out_channels))
        self.cells = nn.Sequential(*(_Cell(levels, out_channels) for _ in range(repeats)))

    def forward(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        """The pyramid of the backbone's maps."""
        names, inputs = list(x), list(x.values())
        maps = [block(m) for block, m in zip(self.inner_blocks, inputs)]
        if self.extra_blocks is not None:
            maps, names = self.extra_blocks(maps, inputs, names)
        return OrderedDict(zip(names, self.cells(maps)))


class _Cell(nn.Module):
    """One way down and up again, fine to coarse in the list."""

    def __init__(self, levels: int, channels: int):
        super().__init__()
        inner = max(levels - 2, 0)
        self.descend = nn.ModuleList(_Merge(2, channels) for _ in range(inner))
        ends = [2, *[3] * inner, 2] if levels > 1 else []
        self.ascend = nn.ModuleList(_Merge(count, channels) for count in ends)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        if len(maps) == 1:  # nothing to merge
            return maps
        above, between = maps[-1], {}
        for i in reversed(range(1, len(maps) - 1)):
            above = between[i] = self.descend[i - 1](maps[i], above)
        out = [self.ascend[0](maps[0], above)]
        for i in range(1, len(maps)):
            middle = (between[i],) if i in between else ()
            out.append(self.ascend[i](maps[i], *middle, out[-1]))
        return out


class _Merge(nn.Module):
    """The weighted mean of maps, in the size of the first, then a separable convolution."""

    def __init__(self, count: int, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(count))
        self.convolution = nn.Sequential(
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01),
        )

    def forward(self, *maps: Tensor) -> Tensor:
        weight = self.weight.relu()
        weight = weight / (weight.sum() + 1e-4)
        return self.convolution(sum(w * resize(m, maps[0].shape[-2:]) for w, m in zip(weight, maps)))
