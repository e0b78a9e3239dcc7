"""An object put into an image with gradient in place, size, angle and colours."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

__all__ = ["Placement", "composite", "feathered", "window"]


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """Where and how an object is pasted."""

    centre: Float[Tensor, " 2"]
    """x, y in the image, pixels"""
    scale: Float[Tensor, ""]
    angle: Float[Tensor, ""]
    """radians, clockwise as images are drawn"""
    contrast: Float[Tensor, ""]
    """factor on the distance of its colours from their mean"""
    colour: Float[Tensor, " 3"]
    """added to its colours"""


def composite(
    image: Float[Tensor, "3 H W"],
    pixels: Float[Tensor, "3 h w"],
    masks: Float[Tensor, "M h w"],
    centre: tuple[float, float],
    placement: Placement,
) -> tuple[Float[Tensor, "3 H W"], Float[Tensor, "M H W"]]:
    """The image with the object in front of it, and the masks where they have come to lie. Colours are in [0, 1].

    Args:
        image: what is pasted into.
        pixels: a window around the object.
        masks: of the window, the object's first: it is the alpha of the composite.
        centre: x, y of the window that come to lie at the placement's centre.
        placement: where and how.

    A pixel of the image at p shows the window at R^-1 (p - c) / s + `centre`, read bilinearly, nothing beyond its edge;
    it is alpha * object + (1 - alpha) * image, with alpha and alpha * object read, so that no colour from around the
    object comes in.
    """
    alpha = masks[:1]
    mean = (pixels * alpha).sum((1, 2), keepdim=True) / alpha.sum().clamp(min=1e-6)
    coloured = (mean + placement.colour[:, None, None] + placement.contrast * (pixels - mean)).clamp(0, 1)
    planes = torch.cat((coloured * alpha, masks))[None]
    theta = _from_image_to_window(image.shape[-2:], pixels.shape[-2:], centre, placement)
    grid = F.affine_grid(theta[None], [1, 1, *image.shape[-2:]], align_corners=False)
    moved = F.grid_sample(planes, grid, padding_mode="zeros", align_corners=False)[0]
    return image * (1 - moved[3:4]) + moved[:3], moved[3:]


def _from_image_to_window(
    image: tuple[int, int], window: tuple[int, int], centre: tuple[float, float], placement: Placement
) -> Float[Tensor, "2 3"]:
    """The affine map between coordinates that run from -1 to 1, as `affine_grid` has them."""
    (height, width), (high, wide) = image, window
    cos, sin = placement.angle.cos() / placement.scale, placement.angle.sin() / placement.scale
    x, y = width / 2 - placement.centre[0], height / 2 - placement.centre[1]
    rows = (
        (cos * width / wide, sin * height / wide, 2 * (cos * x + sin * y + centre[0]) / wide - 1),
        (-sin * width / high, cos * height / high, 2 * (cos * y - sin * x + centre[1]) / high - 1),
    )
    return torch.stack([torch.stack(row) for row in rows])


def feathered(mask: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """The mask with a soft edge of a pixel on either side: the mean of the nine pixels around each."""
    return F.avg_pool2d(mask[None, None], 3, 1, 1)[0, 0]


def window(
    image: Float[Tensor, "3 H W"], box: Float[Tensor, " 4"], size: int, reach: float
) -> Float[Tensor, "3 size size"]:
    """The box, `reach` times as wide and high, in `size` x `size` pixels; beyond the image as at its edge."""
    height, width = image.shape[-2:]
    x1, y1, x2, y2 = (float(v) for v in box)
    theta = [
        [reach * (x2 - x1) / width, 0, (x1 + x2) / width - 1],
        [0, reach * (y2 - y1) / height, (y1 + y2) / height - 1],
    ]
    grid = F.affine_grid(image.new_tensor([theta]), [1, 1, size, size], align_corners=False)
    return F.grid_sample(image[None], grid, padding_mode="border", align_corners=False)[0]
