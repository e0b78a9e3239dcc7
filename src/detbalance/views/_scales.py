"""The scales of an image pyramid, each with the sizes of objects that it is made for."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..valid_ranges import check_ranges, limits
from ._view import Box, side_of, sides

__all__ = ["check_scales", "chip_of", "valid_at", "window_at"]


def check_scales(scales: Sequence[float], ranges: Sequence[tuple[float, float]]) -> None:
    """Raise ValueError for scales of which none shows an image as a whole, or ranges that do not go with them."""
    if not (len(scales) and min(scales) > 0 and max(scales) < math.inf and min(scales) <= 1):
        raise ValueError(f"scales must be one or more, above 0, and one of them 1 or less, but is {scales!r}")
    check_ranges(ranges, len(scales))


def chip_of(size: tuple[float, float], scale: float) -> tuple[float, float]:
    """Width and height of what is shown at a scale, pixels of the image; below 1 more than the image."""
    return size[0] / scale, size[1] / scale


def window_at(corner: Sequence[float], size: tuple[float, float], scale: float) -> Box:
    """The window of a chip that begins there."""
    width, height = chip_of(size, scale)
    return float(corner[0]), float(corner[1]), float(corner[0] + width), float(corner[1] + height)


def valid_at(
    boxes: np.ndarray, size: tuple[float, float], ranges: Sequence[tuple[float, float]], fits: np.ndarray, finest: list
) -> np.ndarray:
    """(S, G) which objects are valid at each scale: of a size in its range, and no longer than its chips.

    An object that is too long for the chips of all its scales is valid at the next coarser one whose chips hold it, or
    it would be learnt in pieces alone.

    Args:
        boxes: (G, 4) of the image.
        size: of the image, width and height.
        ranges: of each scale, shares of the image's side.
        fits: (S, G) bool, which objects a chip of each scale can hold.
        finest: the scales, the finest first.

    >>> bar, dot = [0.0, 0, 60, 2], [0.0, 0, 9, 9]
    >>> fits = np.array([[False, True], [True, True]])
    >>> valid_at(np.array([bar, dot]), (100, 100), ((0, 0.2), (0.1, 1)), fits, [0, 1]).tolist()
    [[False, True], [True, False]]
    """
    side = sides(boxes)
    bounds = np.array([limits(valid, side_of(size)) for valid in ranges])
    valid = (bounds[:, :1] <= side) & (side <= bounds[:, 1:]) & fits
    lost = np.flatnonzero(~valid.any(0) & fits.any(0))
    next_coarser = np.asarray(finest)[fits[finest][:, lost].argmax(0)]
    valid[next_coarser, lost] = True
    return valid
