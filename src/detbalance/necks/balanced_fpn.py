"""Balanced feature pyramid (Libra R-CNN)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from ..taxonomy import Imbalance
from ._neck import convolution
from ._resize import resize
from .fpn import FPN
from .nonlocal_block import NonLocal


class BalancedFPN(FPN):
    """A feature pyramid whose levels are averaged into one map, refined there and handed back to every level, so that
    each level sees all resolutions equally, not chiefly its neighbours.

    Pang et al., section 3.2: C = mean of all levels (the extra ones too) resized to one, refined, and added to each
    level as a residual. Finer maps are brought down by adaptive max-pooling, coarser ones up by nearest neighbour. The
    paper prefers the non-local refinement, which starts as the identity; "conv" is its 3x3 convolution. The pyramid's
    own parameters keep torchvision's names, so pretrained FPN weights load with `strict=False`.

    Shapes: as `FPN`. Identity: with a refinement that gives zero it is the plain FPN.

    >>> maps = {"0": torch.zeros(1, 8, 13, 9), "1": torch.zeros(1, 16, 7, 5)}
    >>> {name: tuple(x.shape) for name, x in BalancedFPN([8, 16], 4)(maps).items()}
    {'0': (1, 4, 13, 9), '1': (1, 4, 7, 5)}
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FEATURE_LEVEL,)
    paper: ClassVar[str] = "Pang et al., Libra R-CNN, CVPR 2019, arXiv:1904.02701, sec. 3.2"

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        *,
        extra_blocks: ExtraFPNBlock | None = None,
        refine_level: int | None = None,
        refine: Literal["conv", "nonlocal"] = "nonlocal",
    ):
        """`refine_level`: output level at which the maps meet, 0 is the finest; None: the middle one."""
        super().__init__(in_channels, out_channels, extra_blocks=extra_blocks)
        if refine not in ("conv", "nonlocal"):
            raise ValueError(f"refine must be 'conv' or 'nonlocal', but is {refine!r}")
        if refine_level is not None and refine_level < 0:
            raise ValueError(f"refine_level must be None, 0 or greater, but is {refine_level!r}")
        self.refine_level = refine_level
        self.refine = NonLocal(out_channels) if refine == "nonlocal" else convolution(out_channels, out_channels, 3)

    def forward(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        """The balanced pyramid of the backbone's maps."""
        pyramid = super().forward(x)
        maps = list(pyramid.values())
        level = len(maps) // 2 if self.refine_level is None else self.refine_level
        if level >= len(maps):
            raise ValueError(f"refine_level must be below the number of levels, {len(maps)}, but is {level}")
        size = maps[level].shape[-2:]
        mean = torch.stack([resize(m, size) for m in maps]).mean(0)
        shared = self.refine(mean)
        return OrderedDict((name, m + resize(shared, m.shape[-2:])) for name, m in pyramid.items())
