"""Detections as numpy columns, and their file form: COCO results JSON. Numpy only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from .atomic import write_bytes
from .data.annotations import Annotations, DataError

__all__ = ["Predictions", "load_predictions", "save_predictions"]


class _Record(msgspec.Struct):
    """One detection of a COCO results file."""

    image_id: int | str
    category_id: int
    bbox: tuple[float, float, float, float]
    score: float


@dataclass(frozen=True, eq=False)
class Predictions:
    """The detections of a dataset, D of them, in the order of the file."""

    image: np.ndarray
    """(D,) int64, row of the image"""
    label: np.ndarray
    """(D,) int64, 1..K"""
    bbox: np.ndarray
    """(D, 4) float64, x, y, width, height in pixels, as the file has them"""
    score: np.ndarray
    """(D,) float64"""

    def __len__(self) -> int:
        """Number of detections."""
        return len(self.score)

    @property
    def boxes(self) -> np.ndarray:
        """(D, 4) xyxy pixels."""
        return np.concatenate((self.bbox[:, :2], self.bbox[:, :2] + self.bbox[:, 2:]), axis=1)

    def above(self, score: float) -> Predictions:
        """The detections that score at least so much."""
        keep = self.score >= score
        return Predictions(self.image[keep], self.label[keep], self.bbox[keep], self.score[keep])


def save_predictions(
    path: str | Path, boxes: Iterable[np.ndarray], labels: Iterable[np.ndarray], scores: Iterable[np.ndarray]
) -> Path:
    """Write detections as COCO results JSON: one array an image, in the order of `Annotations`; boxes xyxy.

    The ids are those of `Annotations.to_coco()`: image row + 1 and label 1..K. The file appears whole or not at all.
    """
    records = []
    for row, (box, label, score) in enumerate(zip(boxes, labels, scores, strict=True)):
        box = np.asarray(box, np.float64).reshape(-1, 4)
        label, score = np.asarray(label).reshape(-1), np.asarray(score, np.float64).reshape(-1)
        if not len(box) == len(label) == len(score):
            raise ValueError(
                f"expected as many labels and scores as boxes of image {row} ({len(box)}) "
                f"but got {len(label)}, {len(score)}"
            )
        if not (np.isfinite(box).all() and np.isfinite(score).all()):
            raise ValueError(f"expected finite boxes and scores but got NaN or infinity in image {row}")
        xywh = np.concatenate((box[:, :2], box[:, 2:] - box[:, :2]), axis=1)
        columns = zip(label.tolist(), xywh.tolist(), score.tolist())
        records += [{"image_id": row + 1, "category_id": int(k), "bbox": b, "score": s} for k, b, s in columns]
    return write_bytes(path, msgspec.json.encode(records))


def load_predictions(
    source: str | Path | Sequence[dict] | Predictions,
    annotations: Annotations,
    *,
    ids: Literal["rows", "source"] = "rows",
) -> Predictions:
    """Read and check COCO results: a file, a list of its records, or `Predictions` (returned as they are).

    `ids="rows"` expects the ids of `Annotations.to_coco()` (image row + 1, label 1..K), which `save_predictions`
    writes; `ids="source"` the dataset's own image and category ids, which other tools write.
    Raises DataError that names the file, the record and the field.
    """
    if isinstance(source, Predictions):
        return source
    name = str(source) if isinstance(source, (str, Path)) else "predictions"
    records = _decode(source, name)
    box = np.array([r.bbox for r in records], np.float64).reshape(-1, 4)
    score = np.array([r.score for r in records], np.float64)
    _check(name, "bbox", np.isfinite(box).all(1) & (box[:, 2:] >= 0).all(1), "finite numbers, no negative size", box)
    _check(name, "score", np.isfinite(score), "a finite number", score)
    image = _rows(name, "image_id", [r.image_id for r in records], annotations.image_ids, ids)
    label = _rows(name, "category_id", [r.category_id for r in records], annotations.category_ids, ids)
    return Predictions(image, label + 1, box, score)


def _decode(source: str | Path | Sequence[dict], name: str) -> list[_Record]:
    try:
        if isinstance(source, (str, Path)):
            return msgspec.json.decode(Path(source).read_bytes(), type=list[_Record])
        return msgspec.convert(list(source), type=list[_Record])
    except OSError as error:
        raise DataError(f"{name}: cannot be read: {error.strerror}") from None
    except msgspec.ValidationError as error:
        place = re.search(r"`\$\[(\d+)\](?:\.(\w+))?", str(error))
        where = f": record {int(place[1]) + 1}" + (f", field {place[2]}" if place[2] else "") if place else ""
        raise DataError(f"{name}{where}: {str(error).split(' - at ')[0]} (COCO results were expected)") from None
    except msgspec.DecodeError as error:
        raise DataError(f"{name}: not valid JSON: {error}") from None


def _check(name: str, field: str, good: np.ndarray, expected: str, values: Sequence) -> None:
    if not good.all():
        first = int(np.argmin(good))
        raise DataError(f"{name}: record {first + 1}, field {field}: expected {expected} but got {values[first]!r}")


def _rows(name: str, field: str, values: list, own: np.ndarray, ids: str) -> np.ndarray:
    """Rows 0.. of the images or classes that the records name."""
    if ids == "rows":
        row_of = {i + 1: i for i in range(len(own))}
        expected = f"1..{len(own)} (row of the dataset; the dataset's own ids need ids='source')"
    elif ids == "source":
        row_of = {key: i for i, key in enumerate(own.tolist())}
        expected = "an id of the dataset"
    else:
        raise ValueError(f"expected ids to be 'rows' or 'source' but got {ids!r}")
    rows = np.array([row_of.get(value, -1) for value in values], np.int64)
    _check(name, field, rows >= 0, expected, values)
    return rows
