"""Which images of a dataset are worth showing, and for which of their boxes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..data.annotations import Annotations

__all__ = ["TRIES", "Choice", "ambiguous", "closest_pair", "crowded", "rarest", "smallest"]

TRIES = 12
"""images of a kind, some of which may be missing or broken, before the kind is given up"""
SEARCHED = 2000
"""images searched for ambiguous objects, the most crowded first"""
CROWD = 150
"""boxes of one image that are searched for the closest pair"""


@dataclass(frozen=True)
class Choice:
    """An image, the rows of the boxes it is shown for, and how many times their size is shown (None: all of it)."""

    image: int
    rows: tuple[int, ...]
    caption: str
    zoom: float | None = None


def crowded(data: Annotations) -> Iterator[Choice]:
    """The images with the most objects."""
    counts = np.bincount(data.image[~data.crowd], minlength=len(data))
    for image in np.argsort(-counts, kind="stable")[:TRIES]:
        yield Choice(int(image), (), f"{counts[image]} {'object' if counts[image] == 1 else 'objects'}")


def rarest(data: Annotations) -> Iterator[Choice]:
    """One object, the largest, of each of the rarest classes."""
    counts = data.counts
    for kind in np.argsort(counts, kind="stable"):
        rows = np.flatnonzero((data.label == kind + 1) & ~data.crowd)
        if len(rows):
            row = int(rows[np.argmax(data.area[rows])])
            yield Choice(int(data.image[row]), (row,), f"{data.classes[kind]}: {len(rows):,} in all", zoom=2.5)


def smallest(data: Annotations) -> Iterator[Choice]:
    """The smallest objects, one an image."""
    rows = np.flatnonzero(~data.crowd)
    seen: set[int] = set()
    for row in rows[np.argsort(data.area[rows], kind="stable")][: 50 * TRIES]:
        if (image := int(data.image[row])) in seen:
            continue
        seen.add(image)
        x1, y1, x2, y2 = data.boxes[row]
        name = data.classes[data.label[row] - 1]
        yield Choice(image, (int(row),), f"{name}: {x2 - x1:.0f} × {y2 - y1:.0f} pixels", zoom=6)


def ambiguous(data: Annotations) -> Iterator[Choice]:
    """The pair of each image that overlaps most, the most overlapping pairs first."""
    objects = np.flatnonzero(~data.crowd)
    starts = np.searchsorted(data.image[objects], np.arange(len(data) + 1))
    counts = np.diff(starts)
    searched = [i for i in np.argsort(-counts, kind="stable")[:SEARCHED] if counts[i] >= 2]
    pairs = []
    for image in searched:
        rows = objects[starts[image] : starts[image + 1]][:CROWD]
        overlap, a, b = closest_pair(data.boxes[rows])
        pairs.append((overlap, int(image), (int(rows[a]), int(rows[b]))))
    for overlap, image, rows in sorted(pairs, key=lambda pair: -pair[0])[:TRIES]:
        if overlap <= 0.1:
            return
        names = " and ".join(dict.fromkeys(data.classes[data.label[row] - 1] for row in rows))
        yield Choice(image, rows, f"{names}: IoU {overlap:.2f}", zoom=2)


def closest_pair(boxes: np.ndarray) -> tuple[float, int, int]:
    """The largest IoU of two of the boxes, and their rows."""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), -1)
    area = np.prod(boxes[:, 2:] - boxes[:, :2], -1)
    iou = np.triu(shared / (area[:, None] + area[None] - shared), 1)
    a, b = divmod(int(iou.argmax()), len(boxes))
    return float(iou[a, b]), a, b
