"""Scale-transferrable detection network."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from math import isqrt
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from ..common import require
from ..taxonomy import Imbalance
from ._neck import Neck, convolution, extra_names
from ._resize import fit


class STDN(Neck):
    """Every level is cut from one deep map, so that all levels are equally abstract: coarse ones by mean pooling, one
    as it is, and fine ones by the scale transfer layer, which lays channels out as places and so costs nothing.

    Zhou et al., section 3.2. Scale transfer by r: y[c, r i + a, r j + b] = x[c r^2 + a r + b, i, j], pixel shuffling.
    The channels of a level fall by r^2; heads that all levels share want one number, so a 1x1 convolution follows,
    which the paper does not need. Channels that r^2 does not divide are left out, and where there are fewer than r^2,
    r is halved and the rest is done by nearest neighbour.

    What differs without a DenseNet: in its last block each layer sees the earlier maps, and each level is made from a
    layer of its own. Here the deep map is the backbone's last one beside the finer ones brought down to its size by
    the mean, as DenseNet's transitions do (`dense=True`), or the last one alone (`dense=False`; the others are then
    not used). Extra levels are mean-pooled by two; of `extra_blocks` their names and number are taken.

    Shapes: as `FPN`. Identity: at the size of the last map it is a 1x1 convolution of the deep map.

    >>> maps = {"0": torch.zeros(1, 8, 13, 9), "1": torch.zeros(1, 16, 7, 5)}
    >>> {name: tuple(x.shape) for name, x in STDN([8, 16], 4)(maps).items()}
    {'0': (1, 4, 13, 9), '1': (1, 4, 7, 5)}
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FEATURE_LEVEL,)
    paper: ClassVar[str] = "Zhou et al., Scale-Transferrable Object Detection, CVPR 2018, sec. 3.2"

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        *,
        extra_blocks: ExtraFPNBlock | None = None,
        dense: bool = True,
    ):
        """`dense`: whether the finer maps take part in the deep one."""
        super().__init__()
        require(len(in_channels) > 0, "in_channels", "the channels of one map or more", in_channels)
        self.dense = dense
        self.extra = tuple(extra_names(extra_blocks, in_channels, out_channels))
        channels = sum(in_channels) if dense else in_channels[-1]
        steps = range(len(in_channels) - 1, -1, -1)
        self.factors = tuple(min(2**step, _largest_power_of_two(isqrt(channels))) for step in steps)
        factors = (*self.factors, *[1] * len(self.extra))
        self.project = nn.ModuleList(convolution(channels // r**2, out_channels) for r in factors)

    def forward(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        """The pyramid of the last map."""
        return OrderedDict(zip((*x, *self.extra), self.merge(list(x.values()))))

    def merge(self, inputs: list[Tensor]) -> list[Tensor]:
        """The levels, fine to coarse, the extra ones too."""
        size = inputs[-1].shape[-2:]
        used = inputs if self.dense else inputs[-1:]
        deep = torch.cat([F.adaptive_avg_pool2d(x, size) for x in reversed(used)], 1)
        maps = []
        for factor, like in zip(self.factors, inputs):
            divisible = deep[:, : deep.shape[1] // factor**2 * factor**2]
            maps.append(fit(F.pixel_shuffle(divisible, factor), like.shape[-2:]))
        for _ in self.extra:
            deep = F.avg_pool2d(deep, 2, ceil_mode=True, count_include_pad=False)
            maps.append(deep)
        return [layer(m) for layer, m in zip(self.project, maps)]


def _largest_power_of_two(bound: int) -> int:
    return 1 << (bound.bit_length() - 1)
