"""Rules for dirty data, shared by all forms: what is repaired, excluded or noted; and the log that counts it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .annotations import Problem
from .errors import DataError, printable

__all__ = ["RULES", "Log", "Rule"]

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
    "file not read": Rule("noted", "a file that is no dataset, is not there, or repeats others, is left aside"),
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
