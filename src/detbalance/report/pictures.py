"""Example images of a dataset: its rarest classes, smallest objects, most crowded images and most ambiguous objects."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ..data.annotations import Annotations, DataError
from ..taxonomy import Imbalance

__all__ = ["Gallery", "Picture", "galleries"]

EACH = 4
"""pictures of a kind"""
TRIES = 12
"""files that may be missing or broken before a kind is given up"""
SIDE = 360
"""longest side of a picture, pixels: some 20 kB as JPEG, so that all of them weigh less than the charts' library"""
BOXES = 150
"""boxes drawn in one picture"""
SEARCHED = 2000
"""images searched for ambiguous objects, the most crowded first"""


@dataclass(frozen=True)
class Picture:
    """A thumbnail as a data address, with the boxes that lie in it, as percentages of its sides."""

    source: str
    width: int
    height: int
    caption: str
    boxes: tuple[dict, ...]


@dataclass(frozen=True)
class Gallery:
    """Pictures that show one thing."""

    imbalance: Imbalance
    title: str
    note: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class _Choice:
    """An image, the rows of the boxes it is shown for, and how many times their size is shown (None: all of it)."""

    image: int
    rows: tuple[int, ...]
    caption: str
    zoom: float | None = None


def galleries(data: Annotations) -> list[Gallery]:
    """What can be shown of a dataset; [] where its image files are not at hand."""
    if data.root is None or not len(data.boxes):
        return []
    kinds: list[tuple[Imbalance, str, str, Callable[[Annotations], Iterator[_Choice]]]] = [
        (
            Imbalance.FOREGROUND_BACKGROUND,
            "Most crowded images",
            "Where an image holds many objects, it owns most of the positive candidates of its batch.",
            _crowded,
        ),
        (
            Imbalance.FOREGROUND_FOREGROUND,
            "Rarest classes",
            "Objects of the classes with the fewest boxes. Are they all that there is to see of them?",
            _rarest,
        ),
        (
            Imbalance.OBJECT_SCALE,
            "Smallest objects",
            "Enlarged. If you cannot tell what it is, a detector hardly will.",
            _smallest,
        ),
        (
            Imbalance.IOU_DISTRIBUTION,
            "Most ambiguous objects",
            "Objects that overlap most: a candidate there fits both. An object marked twice shows here, too.",
            _ambiguous,
        ),
    ]
    found = (Gallery(i, title, note, _first_pictures(data, choose(data))) for i, title, note, choose in kinds)
    return [gallery for gallery in found if gallery.pictures]


def _first_pictures(data: Annotations, choices: Iterator[_Choice]) -> tuple[Picture, ...]:
    pictures: list[Picture] = []
    for tried, choice in enumerate(choices):
        if len(pictures) == EACH or tried == TRIES:
            break
        picture = _picture(data, choice)
        pictures += [picture] if picture else []
    return tuple(pictures)


def _crowded(data: Annotations) -> Iterator[_Choice]:
    counts = np.bincount(data.image, minlength=len(data))
    for image in np.argsort(-counts, kind="stable")[:TRIES]:
        yield _Choice(int(image), (), f"{counts[image]} objects")


def _rarest(data: Annotations) -> Iterator[_Choice]:
    """One object, the largest, of each of the rarest classes."""
    counts = data.counts
    for kind in np.argsort(counts, kind="stable"):
        rows = np.flatnonzero((data.label == kind + 1) & ~data.crowd)
        if len(rows):
            row = int(rows[np.argmax(data.area[rows])])
            yield _Choice(int(data.image[row]), (row,), f"{data.classes[kind]}: {len(rows):,} in all", zoom=2.5)


def _smallest(data: Annotations) -> Iterator[_Choice]:
    """The smallest objects, one an image."""
    rows = np.flatnonzero(~data.crowd)
    seen: set[int] = set()
    for row in rows[np.argsort(data.area[rows], kind="stable")][: 50 * TRIES]:
        if (image := int(data.image[row])) in seen:
            continue
        seen.add(image)
        x1, y1, x2, y2 = data.boxes[row]
        name = data.classes[data.label[row] - 1]
        yield _Choice(image, (int(row),), f"{name}: {x2 - x1:.0f} × {y2 - y1:.0f} pixels", zoom=6)


def _ambiguous(data: Annotations) -> Iterator[_Choice]:
    """The pair of each image that overlaps most, the most overlapping pairs first."""
    starts = data.starts
    counts = np.diff(starts)
    searched = [i for i in np.argsort(-counts, kind="stable")[:SEARCHED] if counts[i] >= 2]
    pairs = [(*_closest_pair(data.boxes[starts[i] : starts[i] + BOXES][: counts[i]]), i) for i in searched]
    for overlap, a, b, image in sorted(pairs, key=lambda pair: -pair[0])[:TRIES]:
        if overlap <= 0.1:
            return
        rows = int(starts[image] + a), int(starts[image] + b)
        names = " and ".join(dict.fromkeys(data.classes[data.label[row] - 1] for row in rows))
        yield _Choice(int(image), rows, f"{names}: IoU {overlap:.2f}", zoom=2)


def _closest_pair(boxes: np.ndarray) -> tuple[float, int, int]:
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), -1)
    area = np.prod(boxes[:, 2:] - boxes[:, :2], -1)
    iou = np.triu(shared / (area[:, None] + area[None] - shared), 1)
    a, b = divmod(int(iou.argmax()), len(boxes))
    return float(iou[a, b]), a, b


def _picture(data: Annotations, choice: _Choice) -> Picture | None:
    """None where the file is missing, broken, or outside the dataset's folder."""
    from PIL import Image

    try:
        with Image.open(data.path(choice.image)) as opened:
            sides = np.array([*opened.size] * 2, np.float64)
            noted = np.array([*data.sizes[choice.image]] * 2, np.float64)
            scale = np.where(noted > 0, sides / np.maximum(noted, 1), 1.0)
            window = _window(data.boxes[list(choice.rows)] * scale, sides, choice.zoom)
            if choice.zoom is None:
                opened.draft("RGB", (SIDE, SIDE))
            shrunk = np.array([*opened.size] * 2) / sides
            cut = opened.convert("RGB").crop(tuple((window * shrunk).round().astype(int)))
            factor = SIDE / max(cut.size)
            size = tuple(max(1, round(side * factor)) for side in cut.size)
            cut = cut.resize(size, Image.Resampling.BICUBIC if factor > 1 else Image.Resampling.LANCZOS)
            buffer = io.BytesIO()
            cut.save(buffer, "JPEG", quality=78)
    except (DataError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    source = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
    return Picture(source, *size, choice.caption, tuple(_boxes_in(data, choice, scale, window)))


def _window(boxes: np.ndarray, sides: np.ndarray, zoom: float | None) -> np.ndarray:
    """The part of the image that is shown: the boxes with their surroundings, at least 48 pixels wide, 4:3."""
    if zoom is None or not len(boxes):
        return np.array([0, 0, *sides[:2]])
    low, high = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    wide = max(48.0, zoom * (high - low).max())
    shape = np.minimum(np.array([wide, 0.75 * wide]).clip(min=(high - low) * 1.15), sides[:2])
    corner = np.clip((low + high - shape) / 2, 0, sides[:2] - shape)
    return np.concatenate((np.floor(corner), np.ceil(corner + shape)))


def _boxes_in(data: Annotations, choice: _Choice, scale: np.ndarray, window: np.ndarray) -> Iterator[dict]:
    rows = data.rows(choice.image)
    origin, shape = np.tile(window[:2], 2), np.tile(window[2:] - window[:2], 2)
    every = np.clip(100 * (data.boxes[rows] * scale - origin) / shape, 0, 100)
    seen = [r for r, b in enumerate(every) if b[2] > b[0] and b[3] > b[1]]
    first = rows.start
    for r in sorted(seen, key=lambda r: first + r not in choice.rows)[:BOXES]:
        x1, y1, x2, y2 = every[r].round(2).tolist()
        yield {
            "left": x1,
            "top": y1,
            "width": round(x2 - x1, 2),
            "height": round(y2 - y1, 2),
            "name": data.classes[data.label[first + r] - 1],
            "chosen": first + r in choice.rows,
        }
