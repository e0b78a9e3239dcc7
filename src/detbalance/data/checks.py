"""Applies the rules for dirty data: a draft, whose columns may hold anything, becomes Annotations. Numpy only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from .annotations import Annotations
from .draft import Draft
from .errors import DataError, printable
from .files import stays_inside
from .notes import note
from .rules import Log

__all__ = ["clean"]

LARGEST = 1e7
"""no image is this wide; a larger coordinate is not a coordinate"""


def clean(draft: Draft, log: Log, *, source: str = "") -> Annotations:
    """Apply the rules to a draft and make Annotations of it. Raises DataError where nothing usable is left."""
    if not draft.image_ids:
        raise DataError(f"{source}: the dataset has no images")
    if not draft.classes:
        raise DataError(f"{source}: the dataset names no classes")
    sizes = _sizes(draft, log)
    rows, boxes = _boxes(draft, sizes, log)
    area = _areas(draft, rows, boxes, log)

    def chosen(column):
        return None if column is None else np.asarray(column, bool)[rows]

    result = Annotations.from_arrays(
        classes=_names(draft.classes, source, log),
        sizes=sizes,
        image=draft.image[rows],
        label=draft.label[rows],
        boxes=boxes,
        file_names=np.array(draft.file_names, dtype=str),
        area=area,
        crowd=chosen(draft.crowd),
        difficult=chosen(draft.difficult),
        image_ids=_id_column(draft.image_ids),
        category_ids=draft.category_ids,
        split=None if draft.split is None else np.array(draft.split, dtype=str),
        root=draft.root,
        source=source,
        form=draft.form,
        frequency=None if draft.frequency is None else tuple(draft.frequency),
        negatives=None if draft.negatives is None else tuple(draft.negatives),
        not_exhaustive=None if draft.not_exhaustive is None else tuple(draft.not_exhaustive),
    )
    note(result, draft, rows, log)
    return replace(result, problems=log.problems())


def _sizes(draft: Draft, log: Log) -> np.ndarray:
    """(I, 2) int64 sizes, 0 where unknown or unusable."""
    sizes = np.asarray(draft.sizes, np.float64).reshape(-1, 2)
    stated = (sizes != 0).any(1)
    good = np.isfinite(sizes).all(1) & (sizes >= 1).all(1) & (sizes <= 1e6).all(1)

    def describe(i):
        return f"{draft.file[i]}: image {draft.file_names[i]!r}: width, height: {sizes[i].tolist()}"

    for i, name in enumerate(draft.file_names):  # the cheap tests first: there may be a million names
        if (not name or ".." in name or ":" in name or "\0" in name or name[0] in "/\\") and not stays_inside(name):
            log.add("unusable file name", f"{draft.file[i]}: image {draft.image_ids[i]!r}: file_name: {name!r}")
    log.rows("unusable image size", stated & ~good, describe)
    log.rows("unknown image size", ~stated, describe)
    return np.where(good[:, None], sizes, 0).astype(np.int64)


def _boxes(draft: Draft, sizes: np.ndarray, log: Log) -> tuple[np.ndarray, np.ndarray]:
    """Rows that are kept, and their boxes clipped to the images."""
    boxes = np.asarray(draft.boxes, np.float64).reshape(-1, 4)
    with np.errstate(invalid="ignore", over="ignore"):
        wide, high = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
        finite = np.isfinite(boxes).all(1) & (np.abs(boxes) <= LARGEST).all(1)
    negative = finite & ((wide < 0) | (high < 0))
    empty = finite & ~negative & ((wide == 0) | (high == 0))
    limit = np.where(sizes > 0, sizes, np.inf)[draft.image]
    clipped = boxes.copy()
    clipped[:, 0::2] = np.clip(boxes[:, 0::2], 0, limit[:, :1])
    clipped[:, 1::2] = np.clip(boxes[:, 1::2], 0, limit[:, 1:])
    usable = finite & ~negative & ~empty
    outside = usable & ((clipped[:, 2] <= clipped[:, 0]) | (clipped[:, 3] <= clipped[:, 1]))
    kept = usable & ~outside
    # Rounding in the source (relative coordinates, two decimals) is no dirt: under a hundredth of a pixel is not told.
    with np.errstate(invalid="ignore"):
        beyond = kept & (np.abs(clipped - boxes) > 0.01).any(1)

    def describe(i):
        x1, y1, x2, y2 = boxes[i].tolist()
        return f"{draft.where(i)}: {draft.box_field}: x {x1:g} to {x2:g}, y {y1:g} to {y2:g}"

    def describe_size(i):
        return f"{describe(i)} in an image of {sizes[draft.image[i], 0]} x {sizes[draft.image[i], 1]}"

    log.rows("unusable number", ~finite, describe)
    log.rows("negative size", negative, describe)
    log.rows("zero-size box", empty, describe)
    log.rows("box outside the image", outside, describe_size)
    log.rows("box beyond the image", beyond, describe_size)
    rows = np.flatnonzero(kept)
    return rows, clipped[rows]


def _areas(draft: Draft, rows: np.ndarray, boxes: np.ndarray, log: Log) -> np.ndarray:
    """The stated areas where they are positive numbers, else those of the boxes. NaN stands for: not stated."""
    own = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    if draft.area is None:
        return own
    stated = np.asarray(draft.area, np.float64)[rows]
    good = (stated > 0) & (stated <= LARGEST**2)
    bad = ~good & ~np.isnan(stated)
    log.rows("unusable area", rows[bad], lambda i: f"{draft.where(i)}: area: {draft.area[i]}")
    return np.where(good, stated, own)


def _names(classes: Iterable[str], source: str, log: Log) -> list[str]:
    """Class names that can be printed."""
    names = []
    for number, name in enumerate(classes, 1):
        good = printable(name.strip(), 100) or f"class {number}"
        if good != name.strip():
            log.add("unusable class name", f"{source}: class {number}: name: {printable(name, 60)!r}")
        names.append(good)
    return names


def _id_column(ids: list) -> np.ndarray:
    """Image ids as int64 where all are whole numbers, else as text."""
    if all(isinstance(i, int) and abs(i) < 2**63 for i in ids):
        return np.array(ids, np.int64)
    return np.array([str(i) for i in ids], dtype=str)
