"""Rules for dirty data: what is repaired, excluded or noted, counted with examples. Shared by all forms. Numpy only.

Every form hands a `Draft` (columns that may hold anything) to `clean`, which applies the rules and makes `Annotations`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from .annotations import Annotations, Problem
from .draft import Draft
from .errors import DataError
from .files import printable, stays_inside

__all__ = ["RULES", "Log", "Rule", "clean"]

LARGEST = 1e7
"""no image is this wide; a larger coordinate is not a coordinate"""
EXAMPLES = 5


@dataclass(frozen=True)
class Rule:
    """What is done about one kind of dirt."""

    action: str
    text: str
    fatal: bool = False
    """with strict=True the first case ends the reading with a DataError"""


RULES = {
    # records
    "unusable record": Rule("excluded", "a record in which a needed field is missing or wrong is left out", True),
    "value of another type": Rule("repaired", "a number written as text, or the like, is converted"),
    "unknown image": Rule("excluded", "a box of an image that the dataset does not list is left out"),
    "unknown category": Rule("excluded", "a box of a class that the dataset does not define is left out", True),
    # boxes
    "unusable number": Rule("excluded", "a box with a NaN, infinite or absurd (over 1e7) coordinate is left out", True),
    "negative size": Rule("excluded", "a box whose right or lower edge lies before the other one is left out", True),
    "zero-size box": Rule("excluded", "a box without area is left out: it can match no candidate"),
    "box outside the image": Rule("excluded", "a box that has no part inside its image is left out"),
    "box beyond the image": Rule("repaired", "a box that reaches beyond its image is clipped to it"),
    "unusable area": Rule("repaired", "an area that is not a positive number is replaced by that of the box"),
    "duplicate box": Rule("noted", "boxes equal in image, class and corners are kept and count as often as they stand"),
    "duplicate annotation id": Rule("noted", "boxes that share an id are all kept"),
    "crowd region": Rule("noted", "a region of many objects is kept and flagged: counts and training leave it out"),
    "difficult object": Rule("noted", "kept and flagged"),
    "polygon label": Rule("noted", "the box around the polygon is taken"),
    "counts from zero": Rule("noted", "coordinates of 0 occur, so all corners are taken as they stand"),
    # images
    "duplicate image id": Rule("excluded", "of images that share an id the first is kept and gets the boxes"),
    "image listed twice": Rule("noted", "an image file that is listed under several ids is kept as several images"),
    "image in two splits": Rule("noted", "kept in both: results on the second split are flattered"),
    "image in no split": Rule("noted", "kept; not trained or tested on where the dataset has splits of its own"),
    "image without boxes": Rule("noted", "kept: it is background"),
    "unusable image size": Rule("repaired", "a size that is no whole number from 1 to 1e6 counts as unknown"),
    "size taken from the image": Rule("repaired", "the source does not state the size; the image file does"),
    "unknown image size": Rule("noted", "size 0; boxes are not clipped on the right and below"),
    "virtual image size": Rule("noted", "relative boxes of an absent image are placed in 640 x 640 pixels"),
    "unusable file name": Rule("noted", "a name that is empty or leaves the folder is never opened", True),
    "file name without folders": Rule("repaired", "the images are found under the last part of the names stated"),
    "image file absent": Rule("noted", "kept for counting; the image cannot be trained on or shown", True),
    "unreadable image file": Rule("noted", "kept for counting; the image cannot be trained on or shown", True),
    "image of another size": Rule("noted", "kept; the boxes are in the stated size"),
    # classes
    "duplicate category": Rule("repaired", "categories of one name are one class; of one id, the first is kept"),
    "unusable class name": Rule("repaired", "control characters are replaced, overlong names cut, empty ones numbered"),
    "category without boxes": Rule("noted", "kept as a class"),
    "stray label": Rule("noted", "at most 3 boxes while other classes have ten times as many; kept as a class"),
    # files
    "file not read": Rule("noted", "a file that is no dataset, or that repeats others, is left aside"),
    "unreadable annotation file": Rule("excluded", "one file of many that cannot be read is left out", True),
}  # fmt: skip
"""every kind of dirt, and its rule"""


class Log:
    """Counts what was found, with up to five examples of each kind."""

    def __init__(self, *, strict: bool = False):
        self.strict = strict
        self.counts: dict[str, int] = {}
        self.examples: dict[str, list[str]] = {}

    def add(self, kind: str, example: str, count: int = 1) -> None:
        """Note one case. Raises DataError if the rule is fatal under strict."""
        if self.strict and RULES[kind].fatal:
            raise DataError(
                f"{printable(example, 500)} ({kind}; read with strict=False to count and exclude such records)"
            )
        self.counts[kind] = self.counts.get(kind, 0) + count
        examples = self.examples.setdefault(kind, [])
        if len(examples) < EXAMPLES:
            examples.append(printable(example, 300))

    def rows(self, kind: str, rows: np.ndarray, describe: Callable[[int], str]) -> None:
        """Note all cases of a mask, or of row numbers, of which only the examples are described."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        for row in rows[:EXAMPLES].tolist():
            self.add(kind, describe(row))
        if len(rows) > EXAMPLES:
            self.counts[kind] += len(rows) - EXAMPLES

    def problems(self) -> tuple[Problem, ...]:
        """What was found, in the order of RULES."""
        return tuple(
            Problem(kind, rule.action, self.counts[kind], rule.text, tuple(self.examples[kind]))
            for kind, rule in RULES.items()
            if kind in self.counts
        )


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
    _notes(result, draft, rows, log)
    return replace(result, problems=log.problems())


def _sizes(draft: Draft, log: Log) -> np.ndarray:
    """(I, 2) int64 sizes, 0 where unknown or unusable."""
    sizes = np.asarray(draft.sizes, np.float64).reshape(-1, 2)
    stated = (sizes != 0).any(1)
    good = np.isfinite(sizes).all(1) & (sizes >= 1).all(1) & (sizes <= 1e6).all(1)

    def describe(i):
        return f"{draft.file[i]}: image {draft.file_names[i]!r}: width, height: {sizes[i].tolist()}"

    for i, name in enumerate(draft.file_names):
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


def _notes(result: Annotations, draft: Draft, rows: np.ndarray, log: Log) -> None:
    """Note what is kept as it is but worth knowing."""
    for kind, column in (("crowd region", draft.crowd), ("difficult object", draft.difficult)):
        if column is not None:
            log.rows(kind, rows[np.asarray(column, bool)[rows]], draft.where)
    table = np.column_stack((result.image, result.label, result.boxes))
    log.rows("duplicate box", _repeated(table), lambda i: _kept_where(result, i))
    seen = np.zeros(len(result), bool)
    seen[result.image] = True
    log.rows("image without boxes", ~seen, lambda i: f"{draft.file[i]}: image {draft.file_names[i]!r}")
    total = np.bincount(result.label - 1, minlength=len(result.classes))
    log.rows("category without boxes", total == 0, lambda k: f"{result.source}: category {result.classes[k]!r}")
    used = np.sort(total[total > 0])
    few = used <= 3
    if few.any() and not few.all() and used[~few][0] >= 10 * used[few][-1]:
        stray = (total > 0) & (total <= 3)
        log.rows("stray label", stray, lambda k: f"{result.source}: category {result.classes[k]!r}: {total[k]} boxes")
    if (result.split != "").any():
        log.rows("image in no split", result.split == "", lambda i: f"{result.source}: image {draft.file_names[i]!r}")
    _shared_files(result, log)


def _shared_files(result: Annotations, log: Log) -> None:
    """Note image files that are listed several times, in one split or in two."""
    names, first = np.unique(result.file_names, return_index=True)
    if len(names) == len(result):
        return
    original = first[np.searchsorted(names, result.file_names)]
    again = original != np.arange(len(result))
    leaked = again & (result.split != result.split[original])

    def describe(i):
        places = " and ".join(repr(str(result.split[j])) for j in (original[i], i))
        return f"{result.source}: image {str(result.file_names[i])!r}: listed in split {places}"

    log.rows("image listed twice", again & ~leaked, describe)
    log.rows("image in two splits", leaked, describe)


def _kept_where(result: Annotations, row: int) -> str:
    name = str(result.file_names[result.image[row]])
    return f"{result.source}: image {name!r}: {result.classes[result.label[row] - 1]} at {result.boxes[row].tolist()}"


def _repeated(table: np.ndarray) -> np.ndarray:
    """(B,) mask of rows that equal an earlier row."""
    order = np.lexsort(table.T[::-1])
    ordered = table[order]
    again = np.zeros(len(table), bool)
    if len(table):
        again[order[1:]] = (ordered[1:] == ordered[:-1]).all(1)
    return again


def _id_column(ids: list) -> np.ndarray:
    """Image ids as int64 where all are whole numbers, else as text."""
    if all(isinstance(i, int) and abs(i) < 2**63 for i in ids):
        return np.array(ids, np.int64)
    return np.array([str(i) for i in ids], dtype=str)
