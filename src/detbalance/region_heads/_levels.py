"""Pooling from the levels of a pyramid, as several region heads do it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.ops import MultiScaleRoIAlign, roi_align

__all__ = ["EveryLevel", "check_pool", "pooled_from", "scale_of"]


def check_pool(pool: nn.Module, asker: object) -> MultiScaleRoIAlign:
    """The pool, if it pools from a pyramid by torchvision's way. Raises ValueError for any other."""
    if not isinstance(pool, MultiScaleRoIAlign) or len(pool.featmap_names) < 2:
        raise ValueError(
            f"{asker!r}: expected a box_roi_pool that is a MultiScaleRoIAlign of two or more levels, to pool from all "
            f"of them, but got {pool!r}"
        )
    return pool


def scale_of(feature: Float[Tensor, "B C H W"], image_shapes: list[tuple[int, int]]) -> float:
    """Cells a pixel, a power of two, from the largest height: torchvision's own reckoning.

    >>> scale_of(torch.zeros(1, 1, 13, 20), [(100, 160), (96, 80)])
    0.125
    """
    height = max(shape[0] for shape in image_shapes)
    return 2.0 ** float(torch.tensor(feature.shape[-2] / height).log2().round())


def pooled_from(
    feature: Float[Tensor, "B C H W"],
    boxes: list[Float[Tensor, "N 4"]],
    image_shapes: list[tuple[int, int]],
    pool: MultiScaleRoIAlign,
) -> Float[Tensor, "R C h w"]:
    """The features of all boxes in one map, in the size that `pool` gives."""
    scale = scale_of(feature, image_shapes)
    boxes = [b.to(feature.dtype) if b.dtype == torch.float64 else b for b in boxes]
    return roi_align(feature, boxes, pool.output_size, spatial_scale=scale, sampling_ratio=pool.sampling_ratio)


class EveryLevel(nn.Module):
    """Pools each region from every level of the pyramid, with the settings of the pool that it replaces.

    Shapes: as MultiScaleRoIAlign's, but (R, L, C, h, w), fine to coarse.
    """

    def __init__(self, pool: MultiScaleRoIAlign) -> None:
        super().__init__()
        self.pool = pool

    def forward(
        self,
        features: dict[str, Float[Tensor, "B C H W"]],
        boxes: list[Float[Tensor, "N 4"]],
        image_shapes: list[tuple[int, int]],
    ) -> Float[Tensor, "R L C h w"]:
        """The regions of all images, one after the other."""
        maps = [features[name] for name in self.pool.featmap_names]
        return torch.stack([pooled_from(m, boxes, image_shapes, self.pool).to(maps[0].dtype) for m in maps], 1)
