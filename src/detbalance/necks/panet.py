"""Path aggregation network."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from ..taxonomy import Imbalance
from ._neck import convolution, top_down
from ._resize import fit
from .fpn import FPN


class PANet(FPN):
    """A feature pyramid with a second path, from fine to coarse: what fine maps know about edges and places reaches the
    coarse levels over a few layers instead of through the whole backbone.

    Liu et al., section 3.1: N_0 = P_0, N_i+1 = ReLU(conv3x3(P_i+1 + ReLU(conv3x3, stride 2 (N_i)))). Extra levels are
    made from the N. The pyramid's own parameters keep torchvision's names, so pretrained FPN weights load with
    `strict=False`. The paper's adaptive feature pooling is in the region head: `region_heads.AdaptivePooling`.

    Shapes: as `FPN`; each level half as high and wide as the one before, rounded up or down.

    >>> import torch
    >>> maps = {"0": torch.zeros(1, 8, 13, 9), "1": torch.zeros(1, 16, 7, 5)}
    >>> {name: tuple(x.shape) for name, x in PANet([8, 16], 4)(maps).items()}
    {'0': (1, 4, 13, 9), '1': (1, 4, 7, 5)}
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FEATURE_LEVEL,)
    paper: ClassVar[str] = (
        "Liu et al., Path Aggregation Network for Instance Segmentation, CVPR 2018, arXiv:1803.01534, sec. 3.1"
    )

    def __init__(self, in_channels: Sequence[int], out_channels: int, *, extra_blocks: ExtraFPNBlock | None = None):
        super().__init__(in_channels, out_channels, extra_blocks=extra_blocks)
        steps = len(in_channels) - 1
        self.down = nn.ModuleList(convolution(out_channels, out_channels, 3, stride=2) for _ in range(steps))
        self.merge = nn.ModuleList(convolution(out_channels, out_channels, 3) for _ in range(steps))

    def forward(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        """The pyramid of the backbone's maps after both paths."""
        names, inputs = list(x), list(x.values())
        inner = top_down([block(m) for block, m in zip(self.inner_blocks, inputs)])
        pyramid = [block(m) for block, m in zip(self.layer_blocks, inner)]
        maps = pyramid[:1]
        for down, merge, level in zip(self.down, self.merge, pyramid[1:]):
            lower = fit(F.relu(down(maps[-1])), level.shape[-2:])
            maps.append(F.relu(merge(level + lower)))
        if self.extra_blocks is not None:
            maps, names = self.extra_blocks(maps, inputs, names)
        return OrderedDict(zip(names, maps))
