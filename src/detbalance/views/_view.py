"""What a training image shows of its image, and how much of an object is seen in a window."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.annotations import Annotations

__all__ = ["Box", "View", "known", "objects", "seen", "side_of", "sides"]

Box = tuple[float, float, float, float]
"""xyxy, pixels of the original image"""
_WHOLE = 1 - 1e-6


@dataclass(frozen=True, eq=False)
class View:
    """A window of an image, and what is valid in it (see `valid_ranges`)."""

    window: Box
    """may reach beyond the image, where there is grey"""
    valid: np.ndarray
    """(G,) bool, of the image's objects: those that train, as far as the window shows them. Others are ignored"""
    range: tuple[float, float] | None = None
    """the shortest and the longest side of a valid proposal, pixels of the original image; None: any"""

    @classmethod
    def of_range(
        cls, window: Box, boxes: np.ndarray, valid: np.ndarray, limits: tuple[float, float], visible: float
    ) -> View:
        """The view in which whole objects are valid as told, and cut ones if what is seen of them is within the limits.

        SNIPER, sections 3.2 and 3.4: objects are cut off at the borders of a chip, and such a part is valid if it is of
        a size of the chip's range, be the object too large for it.

        Args:
            window: of the image.
            boxes: (G, 4), the objects.
            valid: (G,) bool.
            limits: shortest and longest side, pixels of the original image.
            visible: share of a cut object that must be seen.
        """
        parts, share = seen(boxes, window)
        side = sides(parts)
        part = (limits[0] <= side) & (side <= limits[1]) & (share >= visible) & (share > 0)
        keep = np.where(share < _WHOLE, part, valid)
        # An object that is valid although it is beyond the range has valid proposals too.
        low, high = side[keep].min(initial=limits[0]), side[keep].max(initial=limits[1])
        return cls(window, keep, (float(low), float(high)))


def seen(boxes: np.ndarray, window: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """(G, 4) what a window shows of each box, and (G,) which share of its area that is; a box of zeros for nothing.

    >>> parts, share = seen(np.array([[0.0, 0, 8, 8], [20, 0, 24, 8]]), (4, 0, 16, 16))
    >>> parts.tolist(), share.tolist()
    ([[4.0, 0.0, 8.0, 8.0], [0.0, 0.0, 0.0, 0.0]], [0.5, 0.0])
    """
    window = np.asarray(window, float)
    low, high = np.maximum(boxes[:, :2], window[:2]), np.minimum(boxes[:, 2:], window[2:])
    there = (high > low).all(1)
    parts = np.where(there[:, None], np.concatenate((low, high), 1), 0.0)
    return parts, _areas(parts) / np.maximum(_areas(boxes), 1e-12)


def sides(boxes: np.ndarray) -> np.ndarray:
    """(G,) the roots of the areas."""
    return np.sqrt(_areas(boxes))


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(1)


def side_of(size: Sequence[float]) -> float:
    """Of an image of that width and height."""
    return math.sqrt(size[0] * size[1])


def objects(annotations: Annotations, i: int) -> tuple[np.ndarray, tuple[float, float]]:
    """(G, 4) the boxes of an image, crowds among them, as far as they lie in it; its width and height.

    Raises ValueError for an image whose size nobody states.
    """
    width, height = (float(side) for side in annotations.sizes[i])
    if not (width and height):
        raise ValueError(f"{annotations.source}: image {str(annotations.file_names[i])!r}: its size is not known")
    return seen(annotations.boxes[annotations.rows(i)], (0, 0, width, height))[0], (width, height)


def known(data: Any, method: object) -> Any:
    """The data, if `fit` was called."""
    if data is None:
        raise ValueError(f"{type(method).__name__} has to know the data first: call fit(annotations, image_size)")
    return data
