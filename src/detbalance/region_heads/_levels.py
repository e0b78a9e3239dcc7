"""What several region heads are made of: pooling from every level, the first layer of a box head and the rest."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign, roi_align

__all__ = ["EveryLevel", "KeptHead", "check_pool", "pooled_from", "scale_of"]


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


class KeptHead(nn.Module):
    """A box head whose layers keep their names, taken apart: its first layer, with its activation, and the rest.

    Raises ValueError for a head that is neither torchvision's TwoMLPHead nor a Sequential (its FastRCNNConvFCHead is).
    """

    def __init__(self, head: nn.Module, asker: object) -> None:
        super().__init__()
        self._two_layers = isinstance(head, TwoMLPHead)
        if not (self._two_layers or isinstance(head, nn.Sequential)):
            raise ValueError(
                f"{asker!r}: expected a box_head that is torchvision's TwoMLPHead or a Sequential, to tell its first "
                f"layer from the rest, but got {type(head).__name__}"
            )
        self._names = [name for name, _ in head.named_children()]
        for name, child in head.named_children():
            self.add_module(name, child)
        learning = [i for i, step in enumerate(self._steps()) if isinstance(step, nn.Module) and _learns(step)]
        if not learning:
            raise ValueError(f"{asker!r}: expected a box_head with a layer that learns but got {head!r}")
        self._first = learning[0]

    def _steps(self) -> list[Callable[[Tensor], Tensor]]:
        own = [self.get_submodule(name) for name in self._names]
        return [step for layer in own for step in (layer, F.relu)] if self._two_layers else own

    def copy_of_first(self) -> nn.Module:
        """Another layer like the first, with its weights."""
        return deepcopy(self._steps()[self._first])

    def before(self, x: Float[Tensor, "R C h w"], layer: nn.Module | None = None) -> Tensor:
        """Through the first layer, or another in its place."""
        steps = self._steps()
        x = x.flatten(1) if self._two_layers else x
        for step in steps[: self._first]:
            x = step(x)
        x = (steps[self._first] if layer is None else layer)(x)
        return F.relu(x) if self._activated(steps) else x

    def after(self, x: Tensor) -> Float[Tensor, "R D"]:
        """Through the rest."""
        steps = self._steps()
        for step in steps[self._first + 1 + self._activated(steps) :]:
            x = step(x)
        return x

    def _activated(self, steps: list) -> bool:
        following = steps[self._first + 1 : self._first + 2]
        return bool(following) and (following[0] is F.relu or isinstance(following[0], nn.ReLU))


def _learns(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())
