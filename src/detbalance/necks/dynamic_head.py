"""Dynamic head: attention over scales, places and tasks, stacked on a pyramid."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from math import gcd
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from ..common import require
from ..deformable import OffsetConv2d, read_moved
from ..taxonomy import Imbalance
from ._neck import excitation
from .fpn import FPN


class DynamicHead(FPN):
    """A feature pyramid and blocks upon it in which every level looks at its neighbours: where to look, how much each
    level counts and which channels serve the task is learnt from the features themselves.

    Dai et al., section 3.2, equations 3 to 5. Spatial: deformable 3x3 convolutions (with masks) of the level, of the
    next coarser one (brought up bilinearly) and of the next finer one (stride two), all at the places that the level
    itself predicts. Scale: each of the three is multiplied by hard sigmoid(ReLU(w . its mean + b)), and their mean is
    taken. Task: max(a1 x + b1, a2 x + b2) for each channel, with a1 in [0, 2] and the others in [-1, 1] (b in
    [-1/2, 1/2]) from the mean. Weights are shared by all levels, the extra ones too; group norm needs no large batch.
    Offsets start at zero. (The authors' code convolves the coarse map with the offsets of a finer grid before it
    brings it up; here places and offsets belong together.)

    Shapes: as `FPN`.

    >>> maps = {"0": torch.zeros(1, 8, 13, 9), "1": torch.zeros(1, 16, 7, 5)}
    >>> {name: tuple(x.shape) for name, x in DynamicHead([8, 16], 4)(maps).items()}
    {'0': (1, 4, 13, 9), '1': (1, 4, 7, 5)}
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FEATURE_LEVEL,)
    paper: ClassVar[str] = "Dai et al., Dynamic Head, CVPR 2021, arXiv:2106.08322, sec. 3.2"

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        *,
        extra_blocks: ExtraFPNBlock | None = None,
        blocks: int = 6,
    ):
        """`blocks`: how many are stacked."""
        super().__init__(in_channels, out_channels, extra_blocks=extra_blocks)
        require(blocks >= 1, "blocks", "1 or greater", blocks)
        neighbours = (len(in_channels) + (extra_blocks is not None)) > 1
        self.blocks = nn.Sequential(*(_Block(out_channels, neighbours) for _ in range(blocks)))

    def forward(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        """The pyramid after all blocks."""
        pyramid = super().forward(x)
        return OrderedDict(zip(pyramid, self.blocks(list(pyramid.values()))))


class _Block(nn.Module):
    """The three attentions, from one list of maps to another."""

    def __init__(self, channels: int, neighbours: bool):
        super().__init__()
        self.where = OffsetConv2d(channels, 27, 3, padding=1)
        self.own = _Deformed(channels)
        self.coarser = _Deformed(channels) if neighbours else None
        self.finer = _Deformed(channels, stride=2) if neighbours else None
        self.scale = nn.Sequential(nn.Conv2d(channels, 1, 1), nn.ReLU(), nn.Hardsigmoid())
        self.task = _Task(channels)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        out = []
        for i, x in enumerate(maps):
            offset, mask = self.where(x).split((18, 9), 1)
            mask = mask.sigmoid()
            seen = [self.own(x, offset, mask)]
            if i + 1 < len(maps):
                coarse = F.interpolate(maps[i + 1], size=x.shape[-2:], mode="bilinear", align_corners=False)
                seen.append(self.coarser(coarse, offset, mask))
            if i:
                seen.append(self.finer(_doubled(maps[i - 1], x), offset, mask))
            weighed = [y * self.scale(y.mean((2, 3), keepdim=True)) for y in seen]
            out.append(self.task(sum(weighed) / len(weighed)))
        return out


class _Deformed(nn.Module):
    """Deformable 3x3 convolution with masks, and group norm."""

    def __init__(self, channels: int, stride: int = 1):
        super().__init__()
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(channels, channels, 3, 3))
        nn.init.normal_(self.weight, std=0.01)
        self.norm = nn.GroupNorm(gcd(16, channels), channels)

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        """(B, C, H, W), (B, 18, h, w) rows and columns in turn, (B, 9, h, w) -> (B, C, h, w)."""
        seen = read_moved(x, offset, stride=self.stride).to(mask.dtype) * mask[:, None]
        return self.norm(torch.einsum("bckhw,ock->bohw", seen, self.weight.flatten(2).to(seen.dtype)))


class _Task(nn.Module):
    """The activation that depends on the input (dynamic ReLU, Chen et al. 2020)."""

    def __init__(self, channels: int):
        super().__init__()
        self.coefficients = excitation(channels, 4 * channels, ratio=4)
        self.coefficients[-1] = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        slope, shift, slope2, shift2 = (self.coefficients(x.mean((2, 3), keepdim=True)) - 0.5).chunk(4, 1)
        return torch.maximum(x * (2 * slope + 1) + shift, x * 2 * slope2 + shift2)


def _doubled(x: Tensor, like: Tensor) -> Tensor:
    """A map that a stride of two brings to the size of `like`; one that the backbone rounded down is stretched."""
    height, width = like.shape[-2:]
    if ((x.shape[-2] + 1) // 2, (x.shape[-1] + 1) // 2) == (height, width):
        return x
    return F.interpolate(x, size=(2 * height, 2 * width), mode="bilinear", align_corners=False)
