"""Where a piece may lie: enough of it in the image, and not too much on another."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from torch import Tensor

from ._draw import uniforms

_TRIES = 20  # the authors' number (Dwibedi et al.)


def place(
    wide: int,
    high: int,
    size: tuple[int, int],
    boxes: Float[Tensor, "G 4"],
    *,
    outside: float = 0.0,
    overlap: float = 1.0,
) -> tuple[int, int] | None:
    """Left and top, even over all places; None if none is found.

    Args:
        wide, high: of the piece.
        size: height and width of the image.
        boxes: those there are.
        outside: share of the piece's area that may lie outside of the image.
        overlap: largest IoU with any of the boxes.
    """
    # Numpy: these are small numbers, of which torch would make the greater part of a paste's time.
    extent, image = np.array([wide, high], float), np.array(size[::-1], float)
    low, high_end = -outside * extent, image - (1 - outside) * extent
    corner = np.rint(low + np.maximum(high_end - low, 0) * uniforms(_TRIES, 2).numpy())
    start, end = np.maximum(corner, 0), np.minimum(corner + extent, image)
    good = np.maximum(end - start, 0).prod(1) >= (1 - outside) * extent.prod()
    if len(boxes) and overlap < 1:
        good &= _most_common(start, end, boxes.numpy()) <= overlap
    if not good.any():
        return None
    first = int(good.argmax())
    return int(corner[first, 0]), int(corner[first, 1])


def _most_common(start: np.ndarray, end: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """(N,) the largest IoU of each place with any of the boxes."""
    low, high = np.maximum(start[:, None], boxes[:, :2]), np.minimum(end[:, None], boxes[:, 2:])
    common = np.maximum(high - low, 0).prod(2)
    union = (end - start).prod(1)[:, None] + (boxes[:, 2:] - boxes[:, :2]).prod(1) - common
    return (common / np.maximum(union, 1e-12)).max(1)
