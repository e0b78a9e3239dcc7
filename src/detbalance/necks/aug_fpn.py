"""Augmented feature pyramid network."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from ..common import require
from ..taxonomy import Imbalance
from ._neck import convolution, spatial_weights, top_down
from ._resize import blend
from .fpn import FPN


class AugFPN(FPN):
    """A feature pyramid whose coarsest level gets back what its reduction of channels loses: context from the last map
    of the backbone, pooled to several sizes of its own shape, which then goes down the pyramid to all levels.

    Guo et al., section 3.2, residual feature augmentation: the last map is mean-pooled to `ratios` of its height and
    width (1 at least), each result 1x1-convolved and brought back bilinearly; adaptive spatial fusion weighs them place
    by place, by a 1x1 and a 3x3 convolution of all of them and a sigmoid, and their sum is added to the coarsest
    lateral map. The paper's other two parts belong to the region head: `region_heads.ConsistentSupervision` (section
    3.1) and `region_heads.SoftRoISelection` (section 3.3).

    The pyramid's own parameters keep torchvision's names, so pretrained FPN weights load with `strict=False`.

    Shapes: as `FPN`. Identity: with context convolutions of zeros it is the plain FPN.

    >>> maps = {"0": torch.zeros(1, 8, 13, 9), "1": torch.zeros(1, 16, 7, 5)}
    >>> {name: tuple(x.shape) for name, x in AugFPN([8, 16], 4)(maps).items()}
    {'0': (1, 4, 13, 9), '1': (1, 4, 7, 5)}
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FEATURE_LEVEL,)
    paper: ClassVar[str] = "Guo et al., AugFPN, CVPR 2020, arXiv:1912.05384, sec. 3.2"

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        *,
        extra_blocks: ExtraFPNBlock | None = None,
        ratios: Sequence[float] = (0.1, 0.2, 0.3),
    ):
        """`ratios`: sizes of the pooled maps, as shares of the last map's."""
        super().__init__(in_channels, out_channels, extra_blocks=extra_blocks)
        require(len(ratios) > 0 and all(0 < r <= 1 for r in ratios), "ratios", "shares above 0, 1 at most", ratios)
        self.ratios = tuple(ratios)
        count = len(self.ratios)
        self.context = nn.ModuleList(convolution(in_channels[-1], out_channels) for _ in self.ratios)
        self.fuse = spatial_weights(count, out_channels)

    def forward(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        """The augmented pyramid of the backbone's maps."""
        names, inputs = list(x), list(x.values())
        inner = [block(m) for block, m in zip(self.inner_blocks, inputs)]
        inner[-1] = inner[-1] + self._residual(inputs[-1])
        maps = [block(m) for block, m in zip(self.layer_blocks, top_down(inner))]
        if self.extra_blocks is not None:
            maps, names = self.extra_blocks(maps, inputs, names)
        return OrderedDict(zip(names, maps))

    def _residual(self, x: Tensor) -> Tensor:
        size = x.shape[-2:]
        pooled = [F.adaptive_avg_pool2d(x, [max(1, int(side * ratio)) for side in size]) for ratio in self.ratios]
        contexts = [blend(layer(p), size) for layer, p in zip(self.context, pooled)]
        weights = self.fuse(torch.cat(contexts, 1))
        return sum(weights[:, i : i + 1] * context for i, context in enumerate(contexts))
