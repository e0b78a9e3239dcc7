"""An image mirrored, scaled and laid into a window, and the target that follows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as nn_F
from torchvision.transforms.v2 import functional as F

from ..types import Target
from . import _draw as draw
from ._canvas import with_objects
from ._piece import bounds

GREY = 114 / 255  # what is beyond an image
_SMALLEST = 1.0  # side of a box in pixels


@dataclass(frozen=True)
class Frame:
    """Where an image lies: mirrored if `flip`, then of size `scaled` (height, width), then seen through a window of
    `size` whose corner is at (`left`, `top`) of it; either may be negative."""

    given: tuple[int, int]
    scaled: tuple[int, int]
    size: tuple[int, int]
    left: int = 0
    top: int = 0
    flip: bool = False

    @property
    def factors(self) -> tuple[float, float]:
        """Of width and height."""
        return self.scaled[1] / self.given[1], self.scaled[0] / self.given[0]

    @classmethod
    def jittered(cls, given: tuple[int, int], size: tuple[int, int], scale: tuple[float, float]) -> Frame:
        """Large-scale jittering: mirrored half of the time, a random multiple of the size that fits the window; what is
        larger is cut at random, what is smaller lies at the top left."""
        fit = min(size[0] / given[0], size[1] / given[1])
        factor = fit * draw.uniform(*scale)
        scaled = max(1, round(factor * given[0])), max(1, round(factor * given[1]))
        top, left = (draw.whole(0, max(0, scaled[i] - size[i])) for i in (0, 1))
        return cls(given, scaled, size, left, top, draw.uniform() < 0.5)

    def image(self, image: Tensor) -> Tensor:
        """(3, H, W) of the given type, a plain tensor; grey beyond the image."""
        image = image.as_subclass(Tensor)
        grey = round(255 * GREY) if image.dtype == torch.uint8 else GREY
        return self._laid(F.resize(self._mirrored(image), list(self.scaled), antialias=True), grey)

    def target(self, target: Target, hidden: float) -> Target:
        """The objects in the window; those of which more than the share `hidden` lies beyond it are left out."""
        boxes = target["boxes"].as_subclass(Tensor)
        if self.flip:
            boxes = torch.stack((self.given[1] - boxes[:, 2], boxes[:, 1], self.given[1] - boxes[:, 0], boxes[:, 3]), 1)
        moved = boxes * boxes.new_tensor(self.factors * 2) - boxes.new_tensor([self.left, self.top] * 2)
        height, width = self.size
        shown = torch.stack((moved[:, 0::2].clamp(0, width), moved[:, 1::2].clamp(0, height)), 2).flatten(1)
        inside, masks = _area(shown) / _area(moved).clamp(min=1e-6), target.get("masks")
        if masks is not None:
            masks = F.resize(self._mirrored(masks.as_subclass(Tensor)), list(self.scaled), F.InterpolationMode.NEAREST)
            whole = (masks > 0).sum((1, 2))
            masks = self._laid(masks, 0)
            inside, shown = (masks > 0).sum((1, 2)) / whole.clamp(min=1), bounds(masks > 0).to(boxes.dtype)
        keep = (inside >= 1 - hidden) & ((shown[:, 2:] - shown[:, :2]) >= _SMALLEST).all(1)
        masks = None if masks is None else masks[keep]
        return with_objects(target, shown[keep], target["labels"][keep], masks, self.size)

    def corner(self, left: int, top: int, wide: int) -> tuple[int, int]:
        """Where the corner of something comes to lie that is so wide."""
        across, down = self.factors
        left = self.given[1] - left - wide if self.flip else left
        return round(left * across) - self.left, round(top * down) - self.top

    def _mirrored(self, planes: Tensor) -> Tensor:
        return planes.flip(-1) if self.flip else planes

    def _laid(self, planes: Tensor, fill: float) -> Tensor:
        """The window on the planes; a negative pad cuts off."""
        height, width = self.size
        right, bottom = width + self.left - self.scaled[1], height + self.top - self.scaled[0]
        return nn_F.pad(planes, (-self.left, right, -self.top, bottom), value=fill)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).prod(1)
