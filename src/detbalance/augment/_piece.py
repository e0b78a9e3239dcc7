"""An object cut out of an image, with what lies on it, ready to be scaled, turned and pasted."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as nn_F

from ..types import Target
from ._blend import REACH
from ._saliency import salient

CUTS = ("saliency", "box")


@dataclass(frozen=True, eq=False)
class Piece:
    """Row 0 is the object; the others lie on it, wholly within its box, and travel with it."""

    pixels: Float[Tensor, "3 h w"]
    masks: Bool[Tensor, "N h w"]
    labels: Int[Tensor, " N"]
    corner: tuple[int, int] = (0, 0)
    """left and top of the object where it was cut"""

    @cached_property
    def bounds(self) -> tuple[int, int, int, int]:
        """xyxy of the object in the window; the window reaches further, for the blend."""
        return _bounds(self.masks[0].numpy())


def bounds(masks: Bool[Tensor, "N h w"]) -> Int[Tensor, "N 4"]:
    """xyxy, tight around each mask; zeros where a mask is empty.

    >>> bounds(torch.tensor([[[0, 0, 0], [0, 1, 1]], [[0, 0, 0], [0, 0, 0]]]).bool()).tolist()
    [[1, 1, 3, 2], [0, 0, 0, 0]]
    """
    return torch.tensor([_bounds(mask) for mask in masks.numpy()], dtype=torch.long).reshape(-1, 4)


def _bounds(mask: np.ndarray) -> tuple[int, int, int, int]:
    columns, rows = (mask.any(axis).nonzero()[0] for axis in (0, 1))
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def cut(image: Tensor, target: Target, row: int, *, how: str) -> Piece | None:
    """Cut an object out: along its mask where the target has masks, else along what is salient, or along its box.

    Objects that lie within its box come along if at least half of them is cut out too. None if there is nothing to cut.
    """
    height, width = image.shape[-2:]
    boxes = target["boxes"].as_subclass(Tensor).double()
    whole = torch.cat((boxes[:, :2].floor(), boxes[:, 2:].ceil()), 1).long()
    whole = torch.minimum(whole.clamp(min=0), torch.tensor([width, height] * 2))
    x1, y1, x2, y2 = whole[row].tolist()
    if x2 <= x1 or y2 <= y1:
        return None
    ring = max(REACH, round(0.2 * min(x2 - x1, y2 - y1)))
    left, top, right, bottom = max(x1 - ring, 0), max(y1 - ring, 0), min(x2 + ring, width), min(y2 + ring, height)
    window = (..., slice(top, bottom), slice(left, right))
    pixels = in_unit(image[window])
    within = (boxes[:, :2] > boxes[row, :2]).all(1) & (boxes[:, 2:] < boxes[row, 2:]).all(1)
    if "masks" in target:
        masks = target["masks"].as_subclass(Tensor)[window] > 0
    else:
        masks = filled(whole - torch.tensor([left, top, left, top]), (bottom - top, right - left))
        if how == "saliency":
            other = masks.clone()
            other[row] = False
            box = (x1 - left, y1 - top, x2 - left, y2 - top)
            masks[row] = torch.from_numpy(salient(pixels.numpy(), box, other[~within].any(0).numpy()))
    own = masks[row]
    along = within & ((masks & own).sum((1, 2)) * 2 >= masks.sum((1, 2)).clamp(min=1))
    rows = torch.cat((torch.tensor([row]), along.nonzero().squeeze(1)))
    piece = trimmed(pixels, masks[rows] & own, target["labels"][rows])
    if piece is None:
        return None
    x1, y1, _, _ = _bounds(own.numpy())
    return replace(piece, corner=(left + x1, top + y1))


def filled(boxes: Int[Tensor, "N 4"], size: tuple[int, int]) -> Bool[Tensor, "N h w"]:
    """Masks of whole boxes."""
    y, x = torch.arange(size[0]), torch.arange(size[1])
    rows = (y >= boxes[:, 1:2]) & (y < boxes[:, 3:4])
    columns = (x >= boxes[:, 0:1]) & (x < boxes[:, 2:3])
    return rows[:, :, None] & columns[:, None, :]


def trimmed(pixels: Tensor, masks: Tensor, labels: Tensor) -> Piece | None:
    """The window set to the object and the reach of the blends around it; None if there is no object left."""
    x1, y1, x2, y2 = _bounds(masks[0].numpy())
    if x2 <= x1:
        return None
    height, width = masks.shape[-2:]
    # Beyond the edge of its image the piece goes on as at the edge.
    short = [max(0, REACH - room) for room in (x1, width - x2, y1, height - y2)]
    if any(short):
        pixels = nn_F.pad(pixels[None], short, mode="replicate")[0]
        masks = nn_F.pad(masks, short)
    x1, y1, x2, y2 = x1 + short[0], y1 + short[2], x2 + short[0], y2 + short[2]
    window = (..., slice(y1 - REACH, y2 + REACH), slice(x1 - REACH, x2 + REACH))
    masks = masks[window]
    if len(masks) > 1:
        kept = torch.cat((torch.ones(1, dtype=torch.bool), masks[1:].flatten(1).any(1)))
        masks, labels = masks[kept], labels[kept]
    return Piece(pixels[window], masks, labels)


class Cuts:
    """The objects of a dataset, cut out. What was cut is kept, up to `limit` bytes, and what was used longest ago goes
    first; a cut is always the same, so that it makes no difference to the result what is there."""

    def __init__(self, limit: int = 64 << 20) -> None:
        self.limit, self.used = limit, 0
        self._kept: OrderedDict[tuple, Piece | None] = OrderedDict()

    def __call__(self, others: Callable, image: int, row: int, *, how: str) -> Piece | None:
        """`cut` of an object of image and target `others(image)`."""
        key = (image, row, how)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        piece = self._kept[key] = cut(*others(image), row, how=how)
        self.used += _size(piece)
        while self.used > self.limit:
            self.used -= _size(self._kept.popitem(last=False)[1])
        return piece

    def __reduce__(self) -> tuple:
        """Another process begins with nothing."""
        return Cuts, (self.limit,)


def _size(piece: Piece | None) -> int:
    return 100 if piece is None else 1000 + piece.pixels.nbytes + piece.masks.nbytes


def turned(
    piece: Piece, *, scale: float | tuple[float, float] = 1.0, degrees: float = 0.0, flip: bool = False
) -> Piece | None:
    """The piece mirrored, then scaled (one factor, or those of width and height), then turned; None if it vanishes."""
    across, down = scale if isinstance(scale, tuple) else (scale, scale)
    planes = torch.cat((piece.pixels, piece.masks.to(piece.pixels.dtype)))[None]
    planes = planes.flip(-1) if flip else planes
    size = max(1, round(down * planes.shape[-2])), max(1, round(across * planes.shape[-1]))
    if size != tuple(planes.shape[-2:]):
        planes = nn_F.interpolate(planes, size, mode="bilinear", antialias=True)
    if degrees:
        planes = _rotated(planes, math.radians(degrees))
    return trimmed(planes[0, :3], planes[0, 3:] > 0.5, piece.labels)


def _rotated(planes: Tensor, angle: float) -> Tensor:
    """Turned about the middle, in a window that holds all of it."""
    height, width = planes.shape[-2:]
    cos, sin = math.cos(angle), math.sin(angle)
    wide = math.ceil(abs(cos) * width + abs(sin) * height)
    high = math.ceil(abs(sin) * width + abs(cos) * height)
    # From the new window to the old one, both in [-1, 1].
    matrix = [[cos * wide / width, sin * high / width, 0], [-sin * wide / height, cos * high / height, 0]]
    grid = nn_F.affine_grid(planes.new_tensor([matrix]), [1, 1, high, wide], align_corners=False)
    pixels = nn_F.grid_sample(planes[:, :3], grid, padding_mode="border", align_corners=False)
    masks = nn_F.grid_sample(planes[:, 3:], grid, padding_mode="zeros", align_corners=False)
    return torch.cat((pixels, masks), 1)


def in_unit(image: Tensor) -> Tensor:
    """float32 in [0, 1] of an image of bytes; a float image as it is."""
    image = image.as_subclass(Tensor)
    return image.float() / 255 if image.dtype == torch.uint8 else image.float()
