"""How many objects, and of how many classes, an image holds (review, figure 5b and 5c)."""

from __future__ import annotations

import numpy as np

from ..taxonomy import Imbalance
from . import indices
from .bootstrap import Resampler
from .columns import Columns
from .finding import Finding, Table
from .wording import count, percent

__all__ = ["objects_per_image"]


def objects_per_image(columns: Columns, sampler: Resampler) -> Finding:
    """Gini coefficient of the objects per image: a batch's gradient belongs to its crowded images.

    Balanced: every image has as many. Worst: one image has all.
    """
    objects = columns.per_image
    distinct = np.bincount(columns.presence[0], minlength=columns.images)
    top = int(objects.max(initial=0))
    value = float(indices.gini_index(objects))
    # The Gini coefficient of a resample needs only how many images have n objects.
    repeats = sampler.histogram(np.arange(columns.images), objects, top + 1) if columns.images else np.zeros((0, 1))
    frequency = np.bincount(objects, minlength=top + 1)
    tenth = np.sort(objects)[::-1][: max(1, round(len(objects) / 10))].sum() / max(objects.sum(), 1)
    return Finding(
        imbalance=Imbalance.FOREGROUND_FOREGROUND,
        key="objects_per_image",
        value=value,
        severity=None,
        interval=sampler.interval(value, indices.gini_of_frequencies(repeats)),
        measure="objects per image: Gini coefficient / its maximum",
        summary=(
            f"An image has {objects.mean() if len(objects) else 0:.1f} objects on average and up to {top}; the most "
            f"crowded tenth of the images holds {percent(tenth)} of the objects. "
            f"{count(int((objects == 0).sum()), 'image has', 'images have')} none."
        ),
        tables=(
            _frequencies("Images by number of objects", "objects in the image", frequency),
            _frequencies("Images by number of classes", "classes in the image", np.bincount(distinct)),
        ),
    )


def _frequencies(title: str, axis: str, images: np.ndarray) -> Table:
    rows = tuple((number, int(n)) for number, n in enumerate(images) if n)
    return Table(title, (axis, "images"), rows, "bar", log=True)
