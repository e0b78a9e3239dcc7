"""How well anchors fit the objects (review, section 6.3), and where they lie about them (6.5.4, figure 14)."""

from __future__ import annotations

import numpy as np

from ..taxonomy import Imbalance
from . import indices
from .anchors import anchor_matches, recall_by_shape
from .bootstrap import Resampler
from .finding import Finding, Table
from .labelled import Labelled
from .overlaps import coverage
from .scale import SIZES
from .wording import percent

__all__ = ["candidate_overlaps", "missed_objects", "reachable", "relative_position"]

_SHAPES = ("below 1:3", "1:3 to 2:3", "2:3 to 3:2", "3:2 to 3:1", "above 3:1")
_IMAGES = 2000
_DEEPEST = 1000  # more candidates than this over a pixel count as this many


def missed_objects(labelled: Labelled, sampler: Resampler) -> Finding:
    """Share of the objects that no anchor overlaps enough to be positive by its IoU: 1 - anchor recall.

    Balanced: none. Worst: all. Such an object trains nothing, or only an anchor that hardly fits.
    """
    columns, best, threshold = labelled.columns, labelled.best, labelled.threshold
    known = np.flatnonzero(~np.isnan(best))
    missed = best[known] < threshold
    value = float(missed.mean()) if len(known) else 0.0
    repeats = sampler.histogram(columns.image[known], missed.astype(np.int64), 2)
    recall, objects = recall_by_shape(columns.data, labelled.whole.best_iou, threshold)
    by_class, total = (
        np.bincount(columns.kind[chosen], minlength=len(columns.classes)) for chosen in (known[missed], known)
    )
    share = by_class / np.maximum(total, 1)
    order = [k for k in np.argsort(-share, kind="stable") if total[k]]
    by_size = [
        f"{percent(1 - np.nansum(recall[i] * objects[i]) / objects[i].sum())} of the {name} ones"
        for i, name in enumerate(SIZES)
        if objects[i].sum()
    ]
    best_counts = np.histogram(best[known], np.linspace(0, 1, 21))[0]
    return Finding(
        imbalance=Imbalance.LOCATION,
        key="missed_objects",
        value=value,
        severity=None,
        interval=sampler.interval(value, indices.normalise(repeats)[:, 1]),
        measure=f"objects without an anchor of IoU {threshold:g} ({labelled.whole.preset.name})",
        summary=f"{percent(value)} of the objects have no anchor of IoU {threshold:g}: {', '.join(by_size) or 'none'}.",
        tables=(
            Table(
                f"Share of the objects with an anchor of IoU {threshold:g}",
                ("x", "y", "value"),
                tuple(
                    (shape, size, float(recall[i, j]))
                    for i, size in enumerate(SIZES)
                    for j, shape in enumerate(_SHAPES)
                    if objects[i, j]
                ),
                "heatmap",
                note="By width to height and COCO size.",
            ),
            Table(
                "Objects by the IoU of their best anchor",
                ("IoU", "objects"),
                tuple(((i + 0.5) / 20, int(n)) for i, n in enumerate(best_counts)),
                "bar",
            ),
            Table(
                "Objects without a fitting anchor, by class",
                ("class", "share", "objects without"),
                tuple((columns.classes[k], float(share[k]), int(by_class[k])) for k in order),
            ),
        ),
        affected=tuple(columns.classes[k] for k in order if share[k] > 0.25)[:5],
    )


def reachable(threshold: float, side: int = 40, fine: int = 5) -> np.ndarray:
    """(side, side) share of each cell in which the top left corner of a box of IoU >= threshold can lie.

    The object is the unit square, the grid spans [-1, 1]. From a corner (x, y) the best box ends at (1, 1).

    >>> reachable(0.5).sum().round() < reachable(0.4).sum().round()
    np.True_
    """
    line = -1 + 2 * (np.arange(side * fine) + 0.5) / (side * fine)
    inner = 1 - np.maximum(line, 0)
    overlap = inner[:, None] * inner
    area = (1 - line[:, None]) * (1 - line)
    can = overlap / (1 + area - overlap) >= threshold
    return can.reshape(side, fine, side, fine).mean((1, 3))


def relative_position(labelled: Labelled, sampler: Resampler) -> Finding:
    """1 - normalised entropy of where the positives' top left corners lie about those of their objects.

    Balanced: evenly over all places from which a box can reach the threshold. Worst: all in one place.
    """
    can = reachable(labelled.threshold).ravel()
    rows = np.flatnonzero(can)
    counts = labelled.positions.sum(0)
    value = float(indices.entropy_index(counts[rows], can[rows]))
    repeats = indices.entropy_index(labelled.runs.totals(labelled.positions)[:, rows], can[rows])
    place = (-1 + 2 * (np.arange(40) + 0.5) / 40).tolist()
    share = indices.normalise(counts)
    shown = np.abs(np.array(place)) < 0.8
    mean = [float(share.reshape(40, 40).sum(axis) @ place) for axis in (0, 1)]
    return Finding(
        imbalance=Imbalance.LOCATION,
        key="relative_position",
        value=value,
        severity=None,
        interval=sampler.interval(value, repeats),
        measure="top left corners of positives about their object's: 1 - normalised entropy",
        summary=(
            f"On average a positive candidate's top left corner lies {abs(mean[0]):.2f} of the object's width to the "
            f"{'right' if mean[0] > 0 else 'left'} of the object's own and {abs(mean[1]):.2f} of its height "
            f"{'below' if mean[1] > 0 else 'above'} it."
        ),
        tables=(
            Table(
                "Top left corners of the positives about their object",
                ("x", "y", "value"),
                tuple(
                    (place[i % 40], place[i // 40], float(v))
                    for i, v in enumerate(share)
                    if shown[i % 40] and shown[i // 40]
                ),
                "heatmap",
                note="In widths and heights of the object, y downwards; (0, 0) is the object's own corner (figure 14).",
            ),
        ),
    )


def candidate_overlaps(labelled: Labelled, sampler: Resampler) -> Finding:
    """Gini coefficient, over all pixels, of how many positive anchors cover the pixel (review, 6.5.5, figure 15).

    Balanced: every pixel is covered as often. Worst: all positives cover the same few pixels. Counted exactly in up to
    2,000 images, spread evenly over the dataset.
    """
    data, preset = labelled.columns.data, labelled.whole.preset
    images = np.flatnonzero((data.sizes > 0).all(1))
    images = images[:: -(-len(images) // _IMAGES) or 1]
    chosen = data.subset(images)
    frequency = []
    for part in chosen.batches(250):
        matches = anchor_matches(part, preset)
        rows = np.flatnonzero(matches.positive)
        size = preset.resized(part.sizes)[0][matches.image[rows]]
        depth = coverage(matches.anchors[rows] / np.tile(size, 2), matches.image[rows], len(part))
        frequency += [np.bincount(np.minimum(image, _DEEPEST).ravel(), minlength=_DEEPEST + 1) for image in depth]
    table = np.array(frequency).reshape(-1, _DEEPEST + 1)
    pixels = table.sum(0).astype(np.float64)
    value = float(indices.gini_of_frequencies(pixels))
    inner = Resampler(len(table), sampler.repeats, sampler.seed)
    share = pixels / max(pixels.sum(), 1)
    held = share * np.arange(_DEEPEST + 1)
    return Finding(
        imbalance=Imbalance.LOCATION,
        key="candidate_overlaps",
        value=value,
        severity=None,
        interval=sampler.interval(value, indices.gini_of_frequencies(inner.totals(table))),
        measure=f"positive anchors over each pixel ({preset.name}): Gini coefficient / its maximum",
        summary=(
            f"{percent(share[0])} of the pixels lie in no positive candidate; the most covered tenth of the pixels "
            f"holds {percent(_top_tenth(share, held))} of all positive candidates' area."
        ),
        tables=(
            Table(
                "Pixels by the number of positive candidates over them",
                ("candidates over the pixel", "share of the pixels"),
                tuple((n, float(part)) for n, part in enumerate(share) if part),
                "line",
                log=True,
                note=f"{len(table)} images, at 32 x 32 places each (the review's figure 15).",
            ),
        ),
    )


def _top_tenth(share: np.ndarray, held: np.ndarray) -> float:
    """Share of `held` in the last tenth of `share`, both by ascending depth."""
    above = np.cumsum(share[::-1])
    part = np.clip((0.1 - (above - share[::-1])) / np.where(share[::-1] > 0, share[::-1], 1), 0, 1)
    return float((held[::-1] * part).sum() / held.sum()) if held.sum() else 0.0
