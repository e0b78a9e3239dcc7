"""Parallel feature pyramid network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from ..common import require
from ..taxonomy import Imbalance
from ._neck import Neck
from ._resize import blend


class ParallelFPN(Neck):
    """Makes the levels side by side instead of one upon the other: spatial pyramid pooling of the same features gives
    all of them one abstractness, and each then gathers context from all the others.

    Kim et al., section 3 (the review's figure 10d). The last `depth` maps, each 1x1-convolved and brought up to the
    finest level, are joined into one (H channels) and pooled to every level's size by the mean. A bottleneck makes of
    each pooled map a thin one (H / (levels - 1) channels). Multi-scale context aggregation makes a level from its own
    pooled map beside the thin ones of all other levels, brought to its size (mean down, bilinear up), by two 3x3
    convolutions. The paper joins two or three maps; here all by default. Convolutions come after batch norm and ReLU,
    which wants batches of several images.

    Shapes: as `FPN`.

    >>> maps = {"0": torch.zeros(1, 8, 13, 9), "1": torch.zeros(1, 16, 7, 5)}
    >>> {name: tuple(x.shape) for name, x in ParallelFPN([8, 16], 4)(maps).items()}
    {'0': (1, 4, 13, 9), '1': (1, 4, 7, 5)}
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FEATURE_LEVEL,)
    paper: ClassVar[str] = "Kim et al., Parallel Feature Pyramid Network for Object Detection, ECCV 2018, sec. 3"

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        *,
        extra_blocks: ExtraFPNBlock | None = None,
        depth: int | None = None,
    ):
        """`depth`: how many of the last maps are pooled; None: all. The others are then not used."""
        super().__init__(extra_blocks)
        levels = len(in_channels)
        require(depth is None or 1 <= depth <= levels, "depth", f"None or 1 to {levels}", depth)
        self.depth = depth or levels
        joined = self.depth * out_channels
        self.heads = nn.ModuleList(_layer(c, out_channels) for c in in_channels[-self.depth :])
        self.join = _layer(joined, joined)
        others = levels - 1
        thin = max(joined // max(others, 1), 1)
        self.thin = nn.ModuleList(
            nn.Sequential(_layer(joined, max(thin // 2, 1)), _layer(max(thin // 2, 1), thin, 3))
            for _ in range(levels if others else 0)
        )
        self.gather = nn.ModuleList(
            nn.Sequential(_layer(joined + others * thin, out_channels, 3), _layer(out_channels, out_channels, 3))
            for _ in in_channels
        )

    def merge(self, inputs: list[Tensor]) -> list[Tensor]:
        """The levels, each from the pooled map and its context."""
        size = inputs[0].shape[-2:]
        joined = self.join(torch.cat([blend(f(x), size) for f, x in zip(self.heads, inputs[-self.depth :])], 1))
        wide = [F.adaptive_avg_pool2d(joined, x.shape[-2:]) for x in inputs]
        thin = [f(x) for f, x in zip(self.thin, wide)]
        levels = []
        for i, gather in enumerate(self.gather):
            context = [blend(x, wide[i].shape[-2:]) for j, x in enumerate(thin) if j != i]
            levels.append(gather(torch.cat([wide[i], *context], 1)))
        return levels


def _layer(inputs: int, outputs: int, kernel: int = 1) -> nn.Sequential:
    """A convolution after batch norm and ReLU."""
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(), convolution)
