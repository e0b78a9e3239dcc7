"""Foreground-foreground imbalance of the batch (review, sections 4.2.2 and 4.4.3)."""

from __future__ import annotations

import numpy as np

from ..taxonomy import Imbalance
from .bootstrap import Resampler
from .columns import Columns
from .finding import Finding, Table
from .indices import normalise, total_variation
from .wording import count, percent

__all__ = ["batch_classes"]

_BATCHES = (1, 2, 4, 8, 16, 32, 64)


def batch_classes(columns: Columns, sampler: Resampler, *, batch: int = 16, draws: int = 1000) -> Finding:
    """Expected total variation between the class distribution of a batch and the dataset's.

    Balanced: every batch looks like the dataset. Worst: every batch shows only what is rare elsewhere. The distance is
    simulated as training draws its batches, shuffled without replacement; the share of classes that a batch lacks is
    exact.
    """
    classes = len(columns.classes)
    images = np.bincount(columns.presence[1], minlength=classes)
    rng = np.random.default_rng(sampler.seed)
    everything, whole = np.ones(columns.images, np.int64), np.bincount(columns.kind, minlength=classes)
    size = min(batch, columns.images)
    rows = [
        (b, _distance(columns, everything, whole, b, draws, rng), _missing(images, columns.images, b))
        for b in sorted({*(b for b in _BATCHES if b <= columns.images), size})
    ]
    value, missing = rows[[row[0] for row in rows].index(size)][1:]
    counts = sampler.histogram(columns.image, columns.kind, classes)
    repeats = [_distance(columns, w, c, size, draws // 10, rng) for w, c in zip(sampler.weights, counts)]
    return Finding(
        imbalance=Imbalance.FOREGROUND_FOREGROUND,
        key="batch_classes",
        value=value,
        severity=None,
        interval=sampler.interval(value, np.array(repeats)),
        measure=f"classes of a batch of {size}: expected total variation from the dataset's",
        summary=(
            f"In a batch of {count(size, 'image')}, {percent(value)} of the boxes would have to change class to match "
            f"the dataset, on average, and {percent(missing)} of the classes do not occur."
        ),
        tables=(
            Table(
                "Batches against the dataset",
                ("images in the batch", "distance from the dataset", "share of classes missing"),
                tuple(rows),
                "line",
            ),
        ),
        affected=tuple(
            columns.classes[k] for k in np.argsort(images, kind="stable") if 0 < images[k] * size < columns.images
        )[:5],
    )


def _missing(images: np.ndarray, total: int, size: int) -> float:
    """Exact expected share of the occurring classes that a batch of different images lacks (hypergeometric).

    >>> round(_missing(np.array([1, 10]), total=10, size=2), 3)
    0.4
    """
    images = images[images > 0]
    absent = np.ones(len(images))
    for drawn in range(size):
        absent *= np.clip(total - images - drawn, 0, None) / (total - drawn)
    return float(absent.mean()) if len(images) else 0.0


def _distance(
    columns: Columns, times: np.ndarray, counts: np.ndarray, size: int, draws: int, rng: np.random.Generator
) -> float:
    """Mean total variation between batches and `counts`; image i is in the dataset times[i] times.

    Batches without objects have no class distribution and are left out.
    """
    pool, classes = np.repeat(np.arange(columns.images), times), len(columns.classes)
    if not counts.any():
        return 0.0
    epochs = -(-draws // (len(pool) // size))
    shuffled = rng.permuted(np.tile(pool, (epochs, 1)), axis=1)[:, : len(pool) // size * size]
    drawn = shuffled.ravel()[: draws * size]
    objects = columns.per_image[drawn]
    start = np.cumsum(columns.per_image) - columns.per_image
    box = np.arange(objects.sum()) - np.repeat(np.cumsum(objects) - objects - start[drawn], objects)
    batch = np.repeat(np.arange(len(drawn)) // size, objects)
    table = np.bincount(batch * classes + columns.kind[box], minlength=-(-len(drawn) // size) * classes)
    table = table.reshape(-1, classes)
    share = normalise(table[table.any(1)])
    return float(total_variation(share, normalise(counts)).mean()) if len(share) else 0.0
