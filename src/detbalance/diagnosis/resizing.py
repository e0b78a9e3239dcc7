"""What object sizes lose when images are resized for training."""

from __future__ import annotations

import numpy as np

from ..taxonomy import Imbalance
from . import indices
from .bootstrap import Resampler
from .columns import Columns
from .finding import Finding, Table
from .scale import SIZES, size_of
from .wording import percent

__all__ = ["TRAINING_SIZE", "resize_loss", "resized_by"]

TRAINING_SIZE = (800, 1333)
"""torchvision's default: the shorter side becomes 800 pixels unless the longer would pass 1333"""


def resized_by(sizes: np.ndarray, shorter: float, longer: float) -> np.ndarray:
    """(I,) factor that resizes images (I, 2): the shorter side to `shorter`, unless the longer would pass `longer`.

    >>> resized_by(np.array([[640, 480], [2000, 500]]), 800, 1333).round(4).tolist()
    [1.6667, 0.6665]
    """
    sizes = np.asarray(sizes, np.float64)
    return np.minimum(shorter / sizes.min(1), longer / sizes.max(1))


def resize_loss(
    columns: Columns, sampler: Resampler, *, training_size: tuple[int, int] = TRAINING_SIZE, stride: float = 8
) -> Finding:
    """Share of the objects whose shorter side, resized for training, is below one cell of the finest pyramid level.

    Balanced: none. Worst: all. The cell is 8 pixels (level P3); such an object has no feature of its own.
    """
    known, image = columns.known, columns.image[columns.known]
    shorter_side = columns.size[known].min(1)
    base, ratio = size_of(columns.area[known]), training_size[1] / training_size[0]
    sizes = sorted({320, 512, 640, training_size[0]})
    rows = []
    for side in sizes:
        after, lost = _resized(columns, shorter_side, side, round(side * ratio), stride)
        shares = np.bincount(after, minlength=3) / max(len(after), 1)
        rows.append((side, *shares.tolist(), float(lost.mean()) if len(lost) else 0.0))
    after, vanished = _resized(columns, shorter_side, *training_size, stride)
    moved = np.bincount(base * 3 + after, minlength=9).reshape(3, 3)
    transitions = [(name, *row) for name, row in zip(SIZES, moved.tolist())]
    value = float(vanished.mean()) if len(vanished) else 0.0
    repeats = sampler.histogram(image, vanished.astype(np.int64), 2)
    by_class = np.bincount(columns.kind[known][vanished], minlength=len(columns.classes))
    total = np.bincount(columns.kind[known], minlength=len(columns.classes))
    share = by_class / np.maximum(total, 1)
    order = np.argsort(-share, kind="stable")
    worst = [k for k in order if share[k] > 0.1][:5]
    return Finding(
        imbalance=Imbalance.OBJECT_SCALE,
        key="resize_loss",
        value=value,
        severity=None,
        interval=sampler.interval(value, indices.normalise(repeats)[:, 1]),
        measure=f"share of the objects narrower than {stride:.0f} pixels at the training size",
        summary=(
            f"Resized for training (shorter side {training_size[0]}, longer at most {training_size[1]}), "
            f"{percent(value)} of the objects are narrower than {stride:.0f} pixels, a cell of the finest level."
        ),
        tables=(
            Table(
                "What the training size does to the sizes",
                ("shorter side", *SIZES, "narrower than a cell"),
                tuple(rows),
                "line",
                note="Share of the objects in each of COCO's size bins after resizing.",
            ),
            Table(
                f"Size before (rows) and after resizing to {training_size[0]}", ("before", *SIZES), tuple(transitions)
            ),
            Table(
                f"Narrower than a cell at {training_size[0]}, by class",
                ("class", "share", "boxes"),
                tuple(
                    (columns.classes[k], float(share[k]), int(by_class[k]))
                    for k in np.argsort(-share, kind="stable")
                    if by_class[k]
                ),
            ),
        ),
        affected=tuple(columns.classes[k] for k in worst),
    )


def _resized(
    columns: Columns, shorter_side: np.ndarray, side: float, longest: float, stride: float
) -> tuple[np.ndarray, np.ndarray]:
    """Size bin of each object in the resized image, and whether it is narrower than a cell there."""
    scale = resized_by(columns.image_size, side, longest)
    return size_of(columns.area[columns.known] * scale**2), shorter_side * scale < stride
