"""Foreground-foreground imbalance of the dataset (review, section 4.2.1): a few classes own most of the objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..taxonomy import Imbalance
from . import indices
from .bootstrap import Resampler
from .columns import Columns
from .finding import Finding, Table
from .groups import groups_of
from .wording import count, percent, times

__all__ = ["class_counts", "class_images", "class_target"]

_INDICES = (
    ("Gini coefficient / its maximum", indices.gini_index),
    ("1 - normalised entropy", indices.entropy_index),
    ("1 - smallest / largest", indices.ratio_index),
    ("1 - (effective number of classes - 1) / (K - 1)", indices.effective_number_index),
)


def class_target(classes: Sequence[str], target: Mapping[str, float] | Sequence[float] | None) -> np.ndarray | None:
    """A user's desired class distribution as positive weights, one a class. Raises ValueError for anything else."""
    if target is None:
        return None
    if isinstance(target, Mapping):
        if unknown := sorted(set(target) ^ set(classes)):
            raise ValueError(f"target of 'classes': expected a weight for each class, but {unknown[:5]} differ")
        target = [target[name] for name in classes]
    weights = np.asarray(target, np.float64)
    if weights.shape != (len(classes),) or not (np.isfinite(weights).all() and (weights > 0).all()):
        raise ValueError(f"target of 'classes': expected {len(classes)} positive weights but got {target!r}")
    return weights


def _compared(kind: np.ndarray, classes: Sequence[str], target: np.ndarray | None) -> np.ndarray:
    """Rows of the classes that are compared: all that occur, or all when a target asks for all.

    A class without a box can be neither learned nor evaluated, and exports are full of such placeholders: it is
    reported but leaves the index alone, which it would otherwise push to its maximum.
    """
    occurs = np.bincount(kind, minlength=len(classes)) > 0
    return np.flatnonzero(occurs if target is None else np.ones(len(classes), bool))


def class_counts(columns: Columns, sampler: Resampler, *, target: np.ndarray | None = None) -> Finding:
    """Gini coefficient of the boxes per class, and beside it three other indices of the same counts.

    Balanced: as many boxes of every class that occurs (or the user's target). Worst: one class owns all.
    """
    rows = _compared(columns.kind, columns.classes, target)
    position = np.full(len(columns.classes), -1)
    position[rows] = np.arange(len(rows))
    repeats = sampler.histogram(columns.image, position[columns.kind], len(rows))
    boxes = np.bincount(columns.kind, minlength=len(columns.classes))
    table = []
    for name, index in _INDICES:
        value = float(index(boxes[rows], target))
        table.append((name, value, *(sampler.interval(value, index(repeats, target)) or (None, None))))
    shown = _sorted(columns, boxes)
    return Finding(
        imbalance=Imbalance.FOREGROUND_FOREGROUND,
        key="classes",
        value=table[0][1],
        severity=None,
        interval=None if table[0][2] is None else (table[0][2], table[0][3]),
        measure="boxes per class: Gini coefficient / its maximum",
        summary=_summary(columns.classes, boxes, rows),
        tables=(shown, _class_table(columns, boxes), _index_table(table, boxes[rows])),
        affected=_rarest(columns.classes, boxes),
        headline=True,
    )


def _summary(classes: Sequence[str], boxes: np.ndarray, rows: np.ndarray) -> str:
    if not boxes.sum():
        return "The dataset has no boxes."
    most, least = int(boxes.argmax()), int(rows[boxes[rows].argmin()])
    empty = len(classes) - int((boxes > 0).sum())
    tail = f" {count(empty, 'class has', 'classes have')} no box at all." if empty else ""
    if len(rows) < 2:
        return f"Only one class has boxes: {classes[most]}.{tail}"
    ratio = f", {times(boxes[most] / boxes[least])} times fewer" if boxes[least] else ""
    return (
        f"{classes[most]} owns {percent(boxes[most] / boxes.sum())} of the {count(boxes.sum())} boxes; "
        f"{classes[least]} has {count(boxes[least])}{ratio}. The {len(rows)} classes count for learning as much as "
        f"{indices.effective_number(boxes):.1f} equally frequent ones would.{tail}"
    )


def _sorted(columns: Columns, boxes: np.ndarray) -> Table:
    images = np.bincount(columns.presence[1], minlength=len(boxes))
    order = np.argsort(-boxes, kind="stable")
    return Table(
        title="Boxes and images per class",
        columns=("class", "boxes", "images"),
        rows=tuple((columns.classes[k], int(boxes[k]), int(images[k])) for k in order),
        chart="bar",
        log=True,
        note="Bars of equal height would be balanced; the scale is logarithmic.",
    )


def _class_table(columns: Columns, boxes: np.ndarray) -> Table:
    images = np.bincount(columns.presence[1], minlength=len(boxes))
    order = np.argsort(-boxes, kind="stable")
    total, group = max(int(boxes.sum()), 1), groups_of(images, columns.data.frequency)
    return Table(
        title="Every class in numbers",
        columns=("class", "boxes", "images", "share of boxes", "boxes per image with it", "group"),
        rows=tuple(
            (
                columns.classes[k],
                int(boxes[k]),
                int(images[k]),
                boxes[k] / total,
                boxes[k] / max(images[k], 1),
                group[k],
            )
            for k in order
        ),
    )


def _index_table(rows: list[tuple], boxes: np.ndarray) -> Table:
    smallest = boxes.min() if len(boxes) else 0
    facts = [
        ("largest / smallest class", float(boxes.max() / smallest) if smallest else None, None, None),
        ("effective number of classes", float(indices.effective_number(boxes)) if len(boxes) else None, None, None),
    ]
    return Table(
        title="The same counts by other indices",
        columns=("index", "value", "low", "high"),
        rows=tuple(rows + facts),
        note="The indices lie in [0, 1] and are 0 for balanced; low and high bound the 95 % interval over images.",
    )


def _rarest(classes: Sequence[str], boxes: np.ndarray, limit: int = 5) -> tuple[str, ...]:
    """Classes with less than half of an equal share, rarest first."""
    occurs = boxes > 0
    fair = boxes.sum() / max(occurs.sum(), 1)
    return tuple(classes[k] for k in np.argsort(boxes, kind="stable") if boxes[k] < fair / 2)[:limit]


def class_images(columns: Columns, sampler: Resampler, *, target: np.ndarray | None = None) -> Finding:
    """Gini coefficient of the images per class: what repeated drawing of images can and cannot mend.

    Balanced: every class that occurs is in as many images. Worst: one class is in all the images, the others in none.
    """
    image, kind = columns.presence
    rows = _compared(kind, columns.classes, target)
    position = np.full(len(columns.classes), -1)
    position[rows] = np.arange(len(rows))
    value, interval = sampler.of_counts(
        lambda counts: indices.gini_index(counts, target), image, position[kind], len(rows)
    )
    images = np.bincount(kind, minlength=len(columns.classes))
    if len(rows):
        least = int(rows[images[rows].argmin()])
        summary = (
            f"{columns.classes[int(images.argmax())]} is in {percent(images.max() / columns.images)} of the images, "
            f"{columns.classes[least]} in {percent(images[least] / columns.images)}."
        )
    else:
        summary = "No image has a box."
    return Finding(
        imbalance=Imbalance.FOREGROUND_FOREGROUND,
        key="class_images",
        value=value,
        severity=None,
        interval=interval,
        measure="images per class: Gini coefficient / its maximum",
        summary=summary,
        affected=_rarest(columns.classes, images),
    )
