"""Example images of a dataset: its rarest classes, smallest objects, most crowded images and most ambiguous objects."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ..data.annotations import Annotations, DataError
from ..taxonomy import Imbalance
from . import choices
from .choices import TRIES, Choice

__all__ = ["Gallery", "Picture", "galleries"]

EACH = 4
"""pictures of a kind"""
SIDE = 360
"""longest side of a picture, pixels: some 20 kB as JPEG, so that all of them weigh less than the charts' library"""
BOXES = 150
"""boxes drawn in one picture"""


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


def galleries(data: Annotations) -> list[Gallery]:
    """What can be shown of a dataset; [] where its image files are not at hand."""
    if data.root is None or not len(data.boxes):
        return []
    kinds: list[tuple[Imbalance, str, str, Callable[[Annotations], Iterator[Choice]]]] = [
        (
            Imbalance.FOREGROUND_BACKGROUND,
            "Most crowded images",
            "Where an image holds many objects, it owns most of the positive candidates of its batch.",
            choices.crowded,
        ),
        (
            Imbalance.FOREGROUND_FOREGROUND,
            "Rarest classes",
            "Objects of the classes with the fewest boxes. Are they all that there is to see of them?",
            choices.rarest,
        ),
        (
            Imbalance.OBJECT_SCALE,
            "Smallest objects",
            "Enlarged. If you cannot tell what it is, a detector hardly will.",
            choices.smallest,
        ),
        (
            Imbalance.IOU_DISTRIBUTION,
            "Most ambiguous objects",
            "Objects that overlap most: a candidate there fits both. An object marked twice shows here, too.",
            choices.ambiguous,
        ),
    ]
    found = (Gallery(i, title, note, _first_pictures(data, choose(data))) for i, title, note, choose in kinds)
    return [gallery for gallery in found if gallery.pictures]


def _first_pictures(data: Annotations, chosen: Iterator[Choice]) -> tuple[Picture, ...]:
    pictures: list[Picture] = []
    for tried, choice in enumerate(chosen):
        if len(pictures) == EACH or tried == TRIES:
            break
        picture = _picture(data, choice)
        pictures += [picture] if picture else []
    return tuple(pictures)


def _picture(data: Annotations, choice: Choice) -> Picture | None:
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


def _boxes_in(data: Annotations, choice: Choice, scale: np.ndarray, window: np.ndarray) -> Iterator[dict]:
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
