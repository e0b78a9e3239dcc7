"""Multi-level feature pyramid network (M2Det)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from ..common import require
from ..taxonomy import Imbalance
from ._neck import Neck, excitation, lateral
from ._resize import fit


class MLFPN(Neck):
    """A row of small pyramids, each deeper in the network than the one before; every level of the result holds that
    level of all of them, shallow and abstract alike, weighed by attention.

    Zhao et al., section 3.1. FFMv1 joins backbone maps in the finest size: the finest by 3x3 (`planes` channels), the
    others by 1x1 (twice as many) and nearest neighbour. Each thinned U-shape module goes down by 3x3 convolutions of
    stride two and up again by nearest neighbour, adding what it passed by 3x3, smoothed by 1x1. The first sees the
    joined map, reduced to half of `planes` by 1x1; each later one that (reduced anew) beside the finest map of the
    module before (FFMv2). Scale-wise aggregation stacks the modules' maps of one size and weighs their channels by
    squeeze and excitation. Every convolution has batch norm, which wants batches of several images.

    The paper joins two backbone maps; here all, unless `sources` names some. A 1x1 convolution at the end gives the
    number of channels that shared heads want. (Public code shares one reduction and one attention among modules and
    sizes by repeating the same module in a list; here each has its own, as in the paper.)

    Shapes: as `FPN`.

    >>> maps = {"0": torch.zeros(2, 8, 13, 9), "1": torch.zeros(2, 16, 7, 5)}
    >>> {name: tuple(x.shape) for name, x in MLFPN([8, 16], 4, modules=2)(maps).items()}
    {'0': (2, 4, 13, 9), '1': (2, 4, 7, 5)}
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FEATURE_LEVEL,)
    paper: ClassVar[str] = "Zhao et al., M2Det, AAAI 2019, arXiv:1811.04533, sec. 3.1"

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        *,
        extra_blocks: ExtraFPNBlock | None = None,
        modules: int = 8,
        planes: int | None = None,
        sources: Sequence[int] | None = None,
    ):
        """`planes`: channels within a module, None: out_channels; `sources`: levels that are joined, None: all."""
        super().__init__(extra_blocks)
        levels = len(in_channels)
        planes = out_channels if planes is None else planes
        self.sources = tuple(range(levels)) if sources is None else tuple(sorted(sources))
        require(modules >= 1, "modules", "1 or greater", modules)
        require(planes >= 2, "planes", "2 or greater", planes)
        known = len(self.sources) > 0 and set(self.sources) <= set(range(levels))
        require(known, "sources", f"levels of 0 to {levels - 1}", sources)
        first, *others = (in_channels[i] for i in self.sources)
        self.join = nn.ModuleList([_layer(first, planes, 3), *(_layer(c, 2 * planes, 1) for c in others)])
        joined, thin = (1 + 2 * len(others)) * planes, planes // 2
        self.reduce = nn.ModuleList(_layer(joined, thin, 1) for _ in range(modules))
        self.pyramids = nn.ModuleList(_UShape(thin + (planes if i else 0), planes, levels) for i in range(modules))
        self.attend = nn.ModuleList(excitation(modules * planes) for _ in in_channels)
        self.layer_blocks = lateral([modules * planes] * levels, out_channels)

    def merge(self, inputs: list[Tensor]) -> list[Tensor]:
        """The modules one after the other, and their levels side by side."""
        sizes = [x.shape[-2:] for x in inputs]
        chosen = [inputs[i] for i in self.sources]
        joined = torch.cat([fit(f(x), sizes[0]) for f, x in zip(self.join, chosen)], 1)
        pyramids: list[list[Tensor]] = []
        for reduce, pyramid in zip(self.reduce, self.pyramids):
            seen = [reduce(joined), *(p[0] for p in pyramids[-1:])]
            pyramids.append(pyramid(torch.cat(seen, 1), sizes))
        stacks = [torch.cat(level, 1) for level in zip(*pyramids)]
        weighed = [x * f(x.mean((2, 3), keepdim=True)) for f, x in zip(self.attend, stacks)]
        return [block(x) for block, x in zip(self.layer_blocks, weighed)]


class _UShape(nn.Module):
    """The thinned U-shape module: (B, inputs, H, W) of the finest size -> `planes` channels in each of the sizes."""

    def __init__(self, inputs: int, planes: int, levels: int):
        super().__init__()
        channels = [inputs] + [planes] * (levels - 1)
        self.down = nn.ModuleList(_layer(c, planes, 3, stride=2) for c in channels[:-1])
        self.turn = _layer(channels[-1], planes, 1)
        self.across = nn.ModuleList(_layer(c, planes, 3) for c in channels[:-1])
        self.smooth = nn.ModuleList(_layer(planes, planes, 1) for _ in channels[:-1])

    def forward(self, x: Tensor, sizes: list[torch.Size]) -> list[Tensor]:
        passed = [x]
        for layer, size in zip(self.down, sizes[1:]):
            passed.append(fit(layer(passed[-1]), size))
        up = self.turn(passed[-1])
        levels = [up]
        for across, smooth, x in zip(reversed(self.across), reversed(self.smooth), reversed(passed[:-1])):
            up = across(x) + fit(up, x.shape[-2:])
            levels.insert(0, smooth(up))
        return levels


_layer = partial(Conv2dNormActivation, activation_layer=nn.ReLU, inplace=False)
