"""Soft selection of levels: every region sees all of them, weighed place by place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..necks._neck import spatial_weights
from ..taxonomy import Imbalance
from ..types import RegionParts
from ._levels import EveryLevel, check_pool

__all__ = ["SoftRoISelection"]


@dataclass(frozen=True, kw_only=True)
class SoftRoISelection:
    """Pools each region from all levels of the pyramid and adds them up with weights that the network learns for every
    cell of the region, where the rule by size takes one level and throws the others away.

    Guo et al., AugFPN, section 3.3, as in the authors' code: the grids of all levels, put together, pass a 1x1
    convolution to the pyramid's channels, a ReLU, a 3x3 convolution to one map a level, and a sigmoid; these weigh the
    grids, which are summed. The box head stays as it is.

    Shapes: RegionParts -> RegionParts; the pool gives (R, C, h, w).
    Identity: with weights of zeros in the last convolution it is half the sum of all levels.
    Errors: ValueError for a pool that is no MultiScaleRoIAlign of several levels.

    >>> from detbalance.detectors import build
    >>> from detbalance import Recipe, attach
    >>> model = attach(build("faster_rcnn", classes=2), Recipe(name="mine", region=SoftRoISelection()))
    >>> sum(p.numel() for p in model.roi_heads.box_roi_pool.parameters())  # 3 * 64 to 64, to 3
    14083
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.OBJECT_SCALE, Imbalance.FEATURE_LEVEL)
    paper: ClassVar[str] = "Guo et al., AugFPN, CVPR 2020, arXiv:1912.05384, sec. 3.3"

    def __call__(self, parts: RegionParts) -> RegionParts:
        return replace(parts, pool=_SoftPool(check_pool(parts.pool, self), parts.channels))


class _SoftPool(EveryLevel):
    """All levels' grids, weighed and summed."""

    def __init__(self, pool, channels: int) -> None:
        super().__init__(pool)
        self.select = spatial_weights(len(pool.featmap_names), channels)

    def forward(self, features, boxes, image_shapes) -> Float[Tensor, "R C h w"]:
        grids = super().forward(features, boxes, image_shapes)
        weights = self.select(grids.flatten(1, 2))
        return torch.einsum("rlhw,rlchw->rchw", weights, grids.to(weights.dtype))
