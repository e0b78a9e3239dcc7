"""How often each pixel is covered (review, section 6.5.5, figure 15): some regions train the detector many times."""

from __future__ import annotations

import numpy as np

from ..taxonomy import Imbalance
from . import indices
from .bootstrap import Resampler
from .columns import Columns
from .finding import Finding, Table
from .wording import percent

__all__ = ["coverage", "overlaps"]

_SIDE = 32
_AT_ONCE = 1024
_DEEPEST = 100  # more objects than this over a pixel count as this many


def coverage(
    corners: np.ndarray, image: np.ndarray, images: int, side: int = _SIDE, weight: np.ndarray | None = None
) -> np.ndarray:
    """(images, side, side) how many boxes cover the centre of each cell; `corners` (n, 4) are relative, xyxy in [0, 1].

    Each box is four entries of a difference table, so the time does not depend on the boxes' sizes.

    >>> coverage(np.array([[0, 0, 1, 1], [0, 0, 0.5, 1]]), np.array([0, 0]), 1, side=2).tolist()
    [[[2, 1], [2, 1]]]
    """
    first = np.clip(np.ceil(corners[:, :2] * side - 0.5), 0, side).astype(np.int64)
    last = np.clip(np.ceil(corners[:, 2:] * side - 0.5), 0, side).astype(np.int64)
    weight = np.ones(len(image), np.int64) if weight is None else weight
    table = np.zeros(images * (side + 1) ** 2)
    for x, y, sign in ((first, first, 1), (last, first, -1), (first, last, -1), (last, last, 1)):
        place = (image * (side + 1) + y[:, 1]) * (side + 1) + x[:, 0]
        table += np.bincount(place, sign * weight, len(table))
    table = table.reshape(images, side + 1, side + 1).cumsum(1).cumsum(2)
    return np.rint(table[:, :side, :side]).astype(np.int64)


def overlaps(columns: Columns, sampler: Resampler) -> Finding:
    """Gini coefficient, over all pixels of all images, of how many objects cover the pixel.

    Balanced: every pixel is covered as often as any other. Worst: all objects cover the same few pixels. Positive
    candidates lie on the objects, so these pixels make up the positive loss.
    """
    known, sizes = columns.known, np.tile(columns.image_size, 2)
    image, corners = columns.image[known], columns.boxes[known] / sizes
    most = min(int(columns.per_image.max(initial=0)), _DEEPEST)
    frequency = np.zeros((columns.images, most + 1), np.int32)
    for first in range(0, columns.images, _AT_ONCE):
        last = min(first + _AT_ONCE, columns.images)
        rows = slice(*np.searchsorted(image, (first, last)))
        depth = coverage(corners[rows], image[rows] - first, last - first).reshape(last - first, -1).clip(max=most)
        place = np.arange(last - first)[:, None] * (most + 1) + depth
        frequency[first:last] = np.bincount(place.ravel(), minlength=(last - first) * (most + 1)).reshape(-1, most + 1)
    frequency[(columns.data.sizes <= 0).any(1)] = 0
    pixels = frequency.sum(0).astype(np.float64)
    value = float(indices.gini_of_frequencies(pixels))
    repeats = indices.gini_of_frequencies(sampler.totals(frequency))
    share = pixels / max(pixels.sum(), 1)
    total = (share * np.arange(most + 1)).sum()
    crowded = (share * np.arange(most + 1))[2:].sum() / total if total else 0.0
    return Finding(
        imbalance=Imbalance.LOCATION,
        key="overlaps",
        value=value,
        severity=None,
        interval=sampler.interval(value, repeats),
        measure="objects over each pixel: Gini coefficient / its maximum",
        summary=(
            f"{percent(share[0])} of the pixels lie in no object, {percent(share[1:2].sum())} in one and "
            f"{percent(share[2:].sum())} in several, which hold {percent(crowded)} of all object area."
        ),
        tables=(
            Table(
                "Pixels by the number of objects that cover them",
                ("objects over the pixel", "share of the pixels"),
                tuple((n, float(part)) for n, part in enumerate(share) if part),
                "bar",
                log=True,
                note=f"Counted at {_SIDE} x {_SIDE} places of each image (the review's figure 15, with the objects).",
            ),
        ),
    )
