"""Which anchors train: foreground or background (review, section 4.1), of which class and level (4.2.2, 5.2)."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from ..taxonomy import Imbalance
from . import indices
from .bootstrap import Resampler
from .finding import Finding, Table
from .labelled import Labelled
from .wording import count, percent, times

__all__ = ["class_positives", "foreground", "level_positives"]


def foreground(labelled: Labelled, sampler: Resampler, *, desired: float = 1.0) -> Finding:
    """Negative to positive anchors, as L / (1 + L) with L the powers of ten between their ratio and the desired one.

    Balanced: as many negatives as positives (the user may desire 3, the ratio of hard negative mining). Worst: no
    positive at all.
    """
    whole = labelled.whole
    counts = np.stack((whole.positives, whole.negatives, whole.ignored), 1)
    positive, negative, ignored = counts.sum(0).tolist()
    repeats = sampler.totals(counts)
    value = float(indices.log_ratio_index(negative, positive, desired))
    images, name = max(int((counts.sum(1) > 0).sum()), 1), whole.preset.name
    strides = whole.preset.strides
    if positive:
        without = int((whole.positives == 0).sum())
        summary = (
            f"Under {name}'s anchors {count(negative / images)} candidates of an image show background and "
            f"{positive / images:,.0f} an object: {times(negative / positive)} to 1."
            + (f" {count(without, 'image has', 'images have')} no positive at all." if without else "")
        )
    else:
        summary = f"No anchor of {name} is positive in any image."
    return Finding(
        imbalance=Imbalance.FOREGROUND_BACKGROUND,
        key="foreground",
        value=value,
        severity=None,
        interval=sampler.interval(value, indices.log_ratio_index(repeats[:, 1], repeats[:, 0], desired)),
        measure=f"negative to positive anchors ({name}): decades / (1 + decades)",
        summary=summary,
        tables=(
            Table(
                "Candidates of an average image",
                ("label", "candidates"),
                (("background", negative / images), ("ignored", ignored / images), ("object", positive / images)),
                "bar",
                log=True,
                note="The review's figure 4a.",
            ),
            Table(
                "Candidates of an average image by pyramid level",
                ("stride", "object", "ignored", "background"),
                tuple((stride, *(row[[0, 2, 1]] / images).tolist()) for stride, row in zip(strides, whole.per_level)),
                "bar",
                log=True,
            ),
            _per_image(whole.positives, "Images by number of positive candidates", "positives"),
        ),
        headline=True,
    )


def _per_image(numbers: np.ndarray, title: str, axis: str) -> Table:
    limits = np.array([0, 1, 3, 10, 30, 100, 300, 1000, 3000])
    counts = np.bincount(np.searchsorted(limits, numbers, "right") - 1, minlength=len(limits))
    names = ["0", *(f"{a} to {b - 1}" for a, b in pairwise(limits[1:])), f"{limits[-1]} and more"]
    return Table(title, (axis, "images"), tuple(zip(names, counts.tolist())), "bar")


def class_positives(labelled: Labelled, sampler: Resampler, *, target: np.ndarray | None = None) -> Finding:
    """Gini coefficient of the positive anchors per class: the imbalance that the classifier is trained with.

    Balanced: as many positives for every class that occurs (or the user's target). Worst: one class owns all.
    """
    columns, classes = labelled.columns, len(labelled.columns.classes)
    boxes = np.bincount(columns.kind, minlength=classes)
    positives = np.bincount(columns.kind, labelled.per_object, classes)
    rows = np.flatnonzero((boxes > 0) | (target is not None))
    repeats = sampler.histogram(columns.image, columns.kind, classes, labelled.per_object)[:, rows]
    value = float(indices.gini_index(positives[rows], target))
    order = np.argsort(-positives, kind="stable")
    missed = [columns.classes[k] for k in rows if not positives[k]]
    tail = f" {count(len(missed), 'class gets', 'classes get')} none." if missed else ""
    per_box = positives / np.maximum(boxes, 1)
    most, least = (int(k) for k in (per_box.argmax(), rows[per_box[rows].argmin()])) if len(rows) else (0, 0)
    return Finding(
        imbalance=Imbalance.FOREGROUND_FOREGROUND,
        key="class_positives",
        value=value,
        severity=None,
        interval=sampler.interval(value, indices.gini_index(repeats, target)),
        measure=f"positive anchors per class ({labelled.whole.preset.name}): Gini coefficient / its maximum",
        summary=(
            f"A box of {columns.classes[most]} gets {per_box[most]:.1f} positive candidates, one of "
            f"{columns.classes[least]} {per_box[least]:.1f}.{tail}"
            if len(rows)
            else "The dataset has no boxes."
        ),
        tables=(
            Table(
                "Positive candidates per class in an average image",
                ("class", "positives per image", "positives per box"),
                tuple(
                    (columns.classes[k], float(positives[k] / max(columns.images, 1)), float(per_box[k])) for k in order
                ),
                "bar",
                log=True,
                note="The review's figure 4b.",
            ),
        ),
        affected=tuple(missed[:5]),
    )


def level_positives(labelled: Labelled, sampler: Resampler, *, target: np.ndarray | None = None) -> Finding:
    """1 - normalised entropy of the positive anchors per pyramid level: how much gradient flows through each.

    The review's "cardinality" (section 5.4.1). Balanced: the same for every level (or the user's weights). Worst: one
    level gets all.
    """
    preset, counts = labelled.whole.preset, labelled.levels.sum(0)
    value = float(indices.entropy_index(counts, target))
    repeats = indices.entropy_index(labelled.runs.totals(labelled.levels), target)
    names = [f"stride {stride}" for stride in preset.strides]
    share = indices.normalise(counts)
    return Finding(
        imbalance=Imbalance.FEATURE_LEVEL,
        key="level_positives",
        value=value,
        severity=None,
        interval=sampler.interval(value, repeats),
        measure=f"positive anchors per pyramid level ({preset.name}): 1 - normalised entropy",
        summary=(
            f"The level of {names[int(share.argmax())]} gets {percent(share.max())} of the positive candidates, that "
            f"of {names[int(share.argmin())]} {percent(share.min())}."
        ),
        tables=(
            Table(
                "Objects and positive candidates per pyramid level",
                ("level", "positives", "objects by FPN's rule"),
                tuple(zip(names, counts.tolist(), labelled.whole.objects_per_level.tolist())),
                "bar",
            ),
        ),
        affected=tuple(name for name, part in zip(names, share) if part < 0.5 / len(names)),
        headline=True,
    )
