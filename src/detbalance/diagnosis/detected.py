"""Detections and the objects that they found; what regression does to IoUs (review, section 6.2, figures 12b, 12c)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from ..data.annotations import Annotations
from ..detections import Predictions, load_predictions
from ..taxonomy import Imbalance
from . import indices
from .bootstrap import Resampler
from .columns import Columns
from .finding import Finding, Table
from .wording import count, percent

__all__ = ["detection_ious", "in_order", "ious_before_after", "nearest_objects"]

_PAIRS = 500_000  # compared at once: some 50 MB


def nearest_objects(columns: Columns, detections: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """(D,) IoU of each detection with the object of its class and image that it overlaps most, and that object's row.

    Row -1 and IoU 0 where there is none. Detections must be in the order of their images.
    """
    start = np.cumsum(columns.per_image) - columns.per_image
    partners = columns.per_image[detections.image]
    best, row = np.zeros(len(detections)), np.full(len(detections), -1)
    ends = np.searchsorted(np.cumsum(partners), np.arange(_PAIRS, partners.sum() + _PAIRS, _PAIRS)) + 1
    boxes, first = detections.boxes, 0
    for last in np.minimum(ends, len(detections)):
        number = partners[first:last]
        mine = np.repeat(np.arange(first, last), number)
        other = np.arange(len(mine)) - np.repeat(
            np.cumsum(number) - number - start[detections.image[first:last]], number
        )
        same = columns.kind[other] == detections.label[mine] - 1
        mine, other = mine[same], other[same]
        iou = _paired_iou(boxes[mine], columns.boxes[other])
        order = np.lexsort((iou, mine))
        top = order[np.append(np.diff(mine[order]) > 0, True)] if len(order) else order
        overlapping = top[iou[top] > 0]
        best[mine[overlapping]], row[mine[overlapping]] = iou[overlapping], other[overlapping]
        first = last
    return best, row


def in_order(
    source: str | Path | Sequence[dict] | Predictions, data: Annotations, ids: Literal["rows", "source"] = "rows"
) -> Predictions:
    """Detections read and checked, in the order of their images."""
    read = load_predictions(source, data, ids=ids)
    order = np.argsort(read.image, kind="stable")
    return Predictions(read.image[order], read.label[order], read.bbox[order], read.score[order])


def _paired_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    sides = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])
    shared = np.clip(sides, 0, None).prod(1)
    union = (first[:, 2:] - first[:, :2]).prod(1) + (second[:, 2:] - second[:, :2]).prod(1) - shared
    return shared / np.where(union > 0, union, 1)


def detection_ious(columns: Columns, sampler: Resampler, detections: Predictions, iou: np.ndarray) -> Finding:
    """Share of the detections near an object of their class (IoU >= 0.1) that stay below IoU 0.5: lost to bad placing.

    Balanced: none. Worst: all. The IoU before regression is not in a file of detections: see `ious_before_after`.
    """
    near = np.flatnonzero(iou >= 0.1)
    lost = iou[near] < 0.5
    value = float(lost.mean()) if len(near) else 0.0
    repeats = sampler.histogram(detections.image[near], lost.astype(np.int64), 2)
    counts = np.bincount(np.minimum((iou * 20).astype(np.int64), 19), minlength=20)
    high = np.bincount(np.minimum((iou[detections.score >= 0.5] * 20).astype(np.int64), 19), minlength=20)
    return Finding(
        imbalance=Imbalance.IOU_DISTRIBUTION,
        key="lost_detections",
        value=value,
        severity=None,
        interval=sampler.interval(value, indices.normalise(repeats)[:, 1]),
        measure="detections near an object that stay below IoU 0.5",
        summary=(
            f"{count(len(near), 'detection overlaps', 'detections overlap')} an object of its class by 0.1 or more; "
            f"{percent(value)} of them stay below 0.5."
        ),
        tables=(
            Table(
                "Detections by IoU with the nearest object of their class",
                ("IoU", "detections", "of score 0.5 and more"),
                tuple(((i + 0.5) / 20, int(n), int(m)) for i, (n, m) in enumerate(zip(counts, high))),
                "bar",
                log=True,
            ),
        ),
    )


def ious_before_after(before: np.ndarray, after: np.ndarray, threshold: float = 0.5) -> Finding:
    """Share of the positive candidates whose IoU is lower after regression than before (the review's figure 12b, 12c).

    Balanced: none. Worst: all.
    """
    bins = np.clip(((before - threshold) / (1 - threshold) * 5).astype(np.int64), 0, 4)
    number = np.maximum(np.bincount(bins, minlength=5), 1)
    degraded, lost = (np.bincount(bins, mask, 5) / number for mask in (after < before, after < threshold))
    means = [np.bincount(bins, values, 5) / number for values in (before, after)]
    edges = np.linspace(threshold, 1, 6)
    names = [f"{a:.1f} to {b:.1f}" for a, b in pairwise(edges)]
    grid = np.histogram2d(after, before, (20, 20), ((0, 1), (threshold, 1)))[0]
    value = float((after < before).mean()) if len(before) else 0.0
    return Finding(
        imbalance=Imbalance.IOU_DISTRIBUTION,
        key="degraded",
        value=value,
        severity=None,
        measure="positive candidates that regression makes worse",
        summary=(
            f"Regression lowers the IoU of {percent(value)} of the positive candidates and takes "
            f"{percent(float((after < threshold).mean()) if len(after) else 0)} of them below {threshold:g}."
        ),
        tables=(
            Table(
                "What regression does, by IoU before it",
                ("IoU before", "degraded", "lost", "mean before", "mean after"),
                tuple(zip(names, *(column.tolist() for column in (degraded, lost, *means)))),
                "bar",
                note="The review's figure 12c.",
            ),
            Table(
                "IoU before (x) and after regression (y)",
                ("x", "y", "value"),
                tuple(
                    (threshold + (j + 0.5) * (1 - threshold) / 20, (i + 0.5) / 20, int(grid[i, j]))
                    for i in range(20)
                    for j in range(20)
                ),
                "heatmap",
                log=True,
                note="The review's figure 12b.",
            ),
        ),
    )
