"""IoU distribution imbalance (review, section 6.2, figure 12a) and candidates near the threshold (9.3)."""

from __future__ import annotations

import numpy as np

from ..taxonomy import Imbalance
from . import indices
from .bootstrap import Resampler
from .finding import Finding, Table
from .labelled import Labelled
from .scale import SIZES
from .wording import count, percent

__all__ = ["near_threshold", "positive_ious"]


def positive_ious(labelled: Labelled, sampler: Resampler, *, target: np.ndarray | None = None) -> Finding:
    """Wasserstein distance of the positives' IoU from uniform between the threshold and 1.

    Balanced: all IoUs from the threshold to 1 equally often, the distribution that Oksuz et al. found best, or the
    user's sample. Worst: all at the threshold (or all at 1). Positives below it (the best anchors of objects that no
    anchor fits) count as at it.
    """
    first, name = round(100 * labelled.threshold), labelled.whole.preset.name
    counts = _above(labelled.ious.sum(0), first)
    wanted = None if target is None else np.histogram(target, np.linspace(first / 100, 1, 101 - first))[0]
    value = float(indices.wasserstein_counts(counts, wanted))
    repeats = indices.wasserstein_counts(_above(labelled.runs.totals(labelled.ious), first), wanted)
    total, tenth = max(counts.sum(), 1), counts[:10].sum()
    high = counts[round(0.8 * 100) - first :].sum() if first < 80 else counts.sum()
    by_class, by_size = _split(labelled)
    return Finding(
        imbalance=Imbalance.IOU_DISTRIBUTION,
        key="positive_ious",
        value=value,
        severity=None,
        interval=sampler.interval(value, repeats),
        measure=f"IoU of the positive anchors ({name}): Wasserstein distance from uniform / its maximum",
        summary=(
            f"{percent(tenth / total)} of the {count(counts.sum(), 'positive candidate')} pass the threshold "
            f"{labelled.threshold:g} by less than 0.1; {percent(high / total)} reach an IoU of 0.8."
        ),
        tables=(
            Table(
                "Positive candidates by IoU",
                ("IoU", "share"),
                tuple(((first + i + 0.5) / 100, float(n / total)) for i, n in enumerate(counts)),
                "line",
                note="A level line would be balanced (the review's figure 12a).",
            ),
            by_size,
            by_class,
        ),
        affected=tuple(row[0] for row in by_class.rows if row[2] > 0.8)[:5],
        headline=True,
    )


def _above(histogram: np.ndarray, first: int) -> np.ndarray:
    """Hundredths from `first` on; what lies below counts in the first."""
    kept = histogram[..., first:].astype(np.float64)
    kept[..., 0] += histogram[..., :first].sum(-1)
    return kept


def _split(labelled: Labelled) -> tuple[Table, Table]:
    """Mean IoU and share just above the threshold, by class and by size."""
    table, middle = labelled.whole.iou_by_class_size, (np.arange(100) + 0.5) / 100
    just = round(100 * labelled.threshold) + 10

    def rows(names, parts):
        numbers = ((name, part, part.sum()) for name, part in zip(names, parts))
        return tuple(
            (name, float(part @ middle / n), float(part[:just].sum() / n), int(n)) for name, part, n in numbers if n
        )

    heads = "mean IoU", "share within 0.1 of the threshold", "positives"
    classes = sorted(rows(labelled.columns.classes, table.sum(1)), key=lambda row: -row[2])
    return (
        Table("IoU of the positives by class", ("class", *heads), tuple(classes)),
        Table("IoU of the positives by size of their object", ("size", *heads), rows(SIZES, table.sum(0))),
    )


def near_threshold(labelled: Labelled, sampler: Resampler) -> Finding:
    """Share of the positives that a threshold higher by 0.05 would not take: labels that hang on a convention.

    Balanced: none. Worst: all. Evenly spread IoUs from 0.5 to 1 would give 0.1 (review, section 9.3).
    """
    first = round(100 * labelled.threshold)

    def share(histogram: np.ndarray) -> np.ndarray:
        return histogram[..., : first + 5].sum(-1) / np.maximum(histogram.sum(-1), 1)

    value = float(share(labelled.ious.sum(0)))
    claimed, preset = labelled.whole.claimed_iou, labelled.whole.preset
    low = max(0, round(100 * preset.negative) - 5)
    return Finding(
        imbalance=Imbalance.IOU_DISTRIBUTION,
        key="near_threshold",
        value=value,
        severity=None,
        interval=sampler.interval(value, share(labelled.runs.totals(labelled.ious))),
        measure=f"share of the positives within 0.05 of the threshold {labelled.threshold:g}",
        summary=(
            f"{percent(value)} of the positive candidates would not be positive were the threshold "
            f"{labelled.threshold + 0.05:g} instead of {labelled.threshold:g}; "
            f"{count(labelled.whole.ignored.sum(), 'candidate lies', 'candidates lie')} between the thresholds and are "
            "ignored."
        ),
        tables=(
            Table(
                "Candidates that overlap an object, by IoU",
                ("IoU", "candidates"),
                tuple(((i + 0.5) / 100, int(claimed[i])) for i in range(low, 100)),
                "line",
                log=True,
                note="Positive and ignored candidates, with the object that each overlaps most.",
            ),
        ),
    )
