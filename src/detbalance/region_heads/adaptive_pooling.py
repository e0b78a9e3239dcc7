"""Adaptive feature pooling: every region sees every level."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..common import require
from ..taxonomy import Imbalance
from ..types import RegionParts
from ._kept import KeptHead
from ._levels import EveryLevel, check_pool

__all__ = ["AdaptivePooling"]


@dataclass(frozen=True, kw_only=True)
class AdaptivePooling:
    """Pools each region from all levels of the pyramid and lets the network choose among them: a small region may see
    the context of coarse levels, a large one the detail of fine ones, which the rule of one level by size forbids.

    Liu et al., section 3.2 and figure 6: the grids of the levels go each through a first layer of the box head of their
    own (in the authors' code, too, each level has its own weights), with its activation; the results are fused element
    by element, by the largest (their default) or the sum, and the rest of the head follows. With the neck `PANet` it is
    the paper's detector, but for its masks: the mask head, where there is one, stays as it is.

    The first layer's parameters keep their names and go to the finest level; those of the others, `further`, start as
    copies.

    Shapes: RegionParts -> RegionParts; the pool gives (R, L, C, h, w) for L levels.
    Identity: where all levels show the same, `fuse="max"` is the head as it was.
    Errors: ValueError for a pool that is no MultiScaleRoIAlign of several levels, or a head that is neither TwoMLPHead
    nor a Sequential.

    >>> from detbalance.detectors import build
    >>> from detbalance import Recipe, attach
    >>> model = attach(build("faster_rcnn", classes=2), Recipe(name="mine", region=AdaptivePooling()))
    >>> len(model.roi_heads.box_head.further)
    2
    """

    fuse: str = "max"
    """"max" or "sum" """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.OBJECT_SCALE, Imbalance.FEATURE_LEVEL)
    paper: ClassVar[str] = (
        "Liu et al., Path Aggregation Network for Instance Segmentation, CVPR 2018, arXiv:1803.01534, sec. 3.2"
    )

    def __post_init__(self) -> None:
        require(self.fuse in ("max", "sum"), "fuse", "'max' or 'sum'", self.fuse)

    def __call__(self, parts: RegionParts) -> RegionParts:
        pool = check_pool(parts.pool, self)
        head = _FusedHead(parts.head, len(pool.featmap_names), self)
        return replace(parts, pool=EveryLevel(pool), head=head)


class _FusedHead(KeptHead):
    """A box head whose first layer is there once for each level."""

    def __init__(self, head: nn.Module, levels: int, settings: AdaptivePooling) -> None:
        super().__init__(head, settings)
        self.fuse = settings.fuse
        self.further = nn.ModuleList(self.copy_of_first() for _ in range(levels - 1))

    def forward(self, x: Float[Tensor, "R L C h w"]) -> Float[Tensor, "R D"]:
        finest, *others = x.unbind(1)
        levels = [self.before(finest), *(self.before(grid, layer) for grid, layer in zip(others, self.further))]
        fused = torch.stack(levels)
        return self.after(fused.amax(0) if self.fuse == "max" else fused.sum(0))
