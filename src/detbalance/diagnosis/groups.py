"""Rare, common and frequent classes, as LVIS groups them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..taxonomy import Imbalance
from .bootstrap import Resampler
from .columns import Columns
from .finding import Finding, Table
from .wording import count

__all__ = ["class_groups", "groups_of"]


def groups_of(images: np.ndarray, stated: Sequence[str] | None = None) -> list[str]:
    """LVIS's groups by the number of training images: rare to 10, common to 100, frequent above; as stated, if so.

    >>> groups_of(np.array([0, 10, 11, 101]))
    ['none', 'rare', 'common', 'frequent']
    """
    names = {"r": "rare", "c": "common", "f": "frequent"}
    if stated is not None:
        return [names.get(letter, str(letter)) for letter in stated]
    return [("none", "rare", "common", "frequent")[int(i)] for i in np.digitize(images, (1, 11, 101))]


def class_groups(columns: Columns, sampler: Resampler) -> Finding:
    """Share of the classes that are rare (LVIS: seen in ten images or fewer), which is where detectors fail.

    Balanced: no class is rare. Worst: all are.
    """
    classes = len(columns.classes)
    images = np.bincount(columns.presence[1], minlength=classes)
    boxes = np.bincount(columns.kind, minlength=classes)
    group = groups_of(images, columns.data.frequency)
    occurs = max(int((images > 0).sum()), 1)
    rare = [k for k in range(classes) if group[k] == "rare" and images[k]]
    repeats = sampler.histogram(*columns.presence, classes)
    value = len(rare) / occurs
    rows = tuple(
        (name, sum(g == name for g in group), int(sum(b for g, b in zip(group, boxes) if g == name)))
        for name in ("frequent", "common", "rare", "none")
    )
    return Finding(
        imbalance=Imbalance.FOREGROUND_FOREGROUND,
        key="rare_classes",
        value=value,
        severity=None,
        interval=sampler.interval(value, ((repeats <= 10) & (repeats > 0)).sum(1) / occurs),
        measure="share of the classes seen in ten images or fewer",
        summary=(
            f"{count(len(rare), 'class is', 'classes are')} rare (ten images or fewer), {rows[1][1]} common (to 100), "
            f"{rows[0][1]} frequent."
        ),
        tables=(Table("Rare, common and frequent classes", ("group", "classes", "boxes"), rows, "bar", log=True),),
        affected=tuple(columns.classes[k] for k in sorted(rare, key=lambda k: images[k])[:5]),
    )
