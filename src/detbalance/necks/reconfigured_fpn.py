"""Deep feature pyramid reconfiguration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from ..common import require
from ..taxonomy import Imbalance
from ._neck import Neck, convolution, excitation, lateral
from ._resize import blend


class ReconfiguredFPN(Neck):
    """Each level takes from the tensor of all backbone maps what its task needs: global attention weighs the channels,
    local convolutions mix them, and the result is added to the level's own map.

    Kong et al., section 3: P_l = W_l x_l + R_l(X s_l), where X holds all maps in the size of level l, s_l are squeeze
    and excitation weights of its channels (reduction `ratio`) and R_l is 1x1, 3x3 and 1x1 convolutions with batch
    norm and ReLU between. The first of them is linear, so it is applied to each map in its own size and the results are
    brought to the level's and added: the same, without ever holding X. The squeeze is each map's mean in its own size,
    one for all levels. The widths between are a quarter, as in a residual bottleneck; the paper's are not known here.

    Shapes: as `FPN`. Identity: with a last convolution of zeros it is `FeatureHierarchy`.

    >>> maps = {"0": torch.zeros(1, 8, 13, 9), "1": torch.zeros(1, 16, 7, 5)}
    >>> {name: tuple(x.shape) for name, x in ReconfiguredFPN([8, 16], 4)(maps).items()}
    {'0': (1, 4, 13, 9), '1': (1, 4, 7, 5)}
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FEATURE_LEVEL,)
    paper: ClassVar[str] = (
        "Kong et al., Deep Feature Pyramid Reconfiguration for Object Detection, ECCV 2018, arXiv:1808.07993, sec. 3"
    )

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        *,
        extra_blocks: ExtraFPNBlock | None = None,
        ratio: int = 16,
    ):
        """`ratio`: by how much the attention squeezes the channels."""
        super().__init__(extra_blocks)
        require(ratio >= 1, "ratio", "1 or greater", ratio)
        self.inner_blocks = lateral(in_channels, out_channels)
        self.levels = nn.ModuleList(_Level(in_channels, out_channels, ratio) for _ in in_channels)

    def merge(self, inputs: list[Tensor]) -> list[Tensor]:
        """Each map and what is added to it."""
        squeezed = torch.cat([x.mean((2, 3), keepdim=True) for x in inputs], 1)
        own = [block(x) for block, x in zip(self.inner_blocks, inputs)]
        return [x + level(inputs, squeezed, x.shape[-2:]) for x, level in zip(own, self.levels)]


class _Level(nn.Module):
    """The residual of one level."""

    def __init__(self, in_channels: Sequence[int], out_channels: int, ratio: int):
        super().__init__()
        self.channels = list(in_channels)
        width = max(out_channels // 4, 1)
        self.attention = excitation(sum(in_channels), ratio=ratio)
        self.mix = nn.ModuleList(nn.Conv2d(c, width, 1, bias=False) for c in in_channels)
        self.local = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            convolution(width, out_channels),
        )

    def forward(self, inputs: list[Tensor], squeezed: Tensor, size: Sequence[int]) -> Tensor:
        weights = self.attention(squeezed).split(self.channels, 1)
        return self.local(sum(blend(f(w * x), size) for f, w, x in zip(self.mix, weights, inputs)))
