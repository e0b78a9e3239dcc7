"""Object scale imbalance (review, section 5.1): some object sizes are common and others are rare."""

from __future__ import annotations

import numpy as np

from ..taxonomy import Imbalance
from . import indices
from .bootstrap import Resampler
from .columns import Columns
from .finding import Finding, Table
from .wording import percent

__all__ = ["SIZES", "extents", "relative_size", "size_bins", "size_of"]

SIZES = ("small", "medium", "large")
"""COCO's names: area to 32^2, to 96^2, above"""
_LIMITS = (32.0**2, 96.0**2)


def relative_size(columns: Columns, sampler: Resampler, *, target: np.ndarray | None = None) -> Finding:
    """Wasserstein distance of relative object sizes, sqrt(box area / image area), from uniform on [0, 1].

    Balanced: all sizes from a point to the whole image equally often (or the user's sample). Worst: all are points.
    """
    size = np.sqrt(columns.relative.prod(1))
    value, interval = sampler.of_values(size, columns.image[columns.known], target)
    small = np.quantile(size, (0.1, 0.5, 0.9)) if len(size) else np.zeros(3)
    return Finding(
        imbalance=Imbalance.OBJECT_SCALE,
        key="object_size",
        value=value,
        severity=None,
        interval=interval,
        measure="relative size sqrt(box / image area): Wasserstein distance from uniform / its maximum",
        summary=(
            f"The median object measures {percent(small[1])} of its image (square root of the area); a tenth are below "
            f"{percent(small[0])} and a tenth above {percent(small[2])}."
        ),
        tables=(_by_class(columns),),
        affected=_smallest_classes(columns),
        headline=True,
    )


def _by_class(columns: Columns) -> Table:
    size = np.sqrt(columns.relative.prod(1))
    kind, names = columns.kind[columns.known], columns.classes
    order = np.lexsort((size, kind))
    bounds = np.searchsorted(kind[order], np.arange(len(names) + 1))
    rows = []
    for name, first, last in zip(names, bounds[:-1], bounds[1:]):
        if last > first:
            rows.append((name, *np.quantile(size[order[first:last]], (0.1, 0.5, 0.9)).tolist(), int(last - first)))
    return Table(
        title="Relative size by class",
        columns=("class", "10 % below", "median", "90 % below", "boxes"),
        rows=tuple(sorted(rows, key=lambda row: row[2])),
        note="Square root of box area over image area; classes in order of their median.",
    )


def _smallest_classes(columns: Columns, limit: int = 5) -> tuple[str, ...]:
    """Classes of which most boxes are small by COCO's rule, worst first."""
    small, total = (
        np.bincount(columns.kind[chosen], minlength=len(columns.classes))
        for chosen in (columns.area <= _LIMITS[0], slice(None))
    )
    share = small / np.maximum(total, 1)
    return tuple(columns.classes[k] for k in np.argsort(-share, kind="stable") if share[k] > 0.5)[:limit]


def extents(columns: Columns, sampler: Resampler) -> Finding:
    """Relative width, height and area (review, figure 7); the index is the largest of their distances from uniform."""
    parts = {"width": columns.relative[:, 0], "height": columns.relative[:, 1], "area": columns.relative.prod(1)}
    image = columns.image[columns.known]
    found = {name: sampler.of_values(values, image) for name, values in parts.items()}
    worst = max(found, key=lambda name: found[name][0])
    curves = [indices.density(values) for values in parts.values()]
    middles = (np.arange(50) + 0.5) / 50
    return Finding(
        imbalance=Imbalance.OBJECT_SCALE,
        key="extents",
        value=found[worst][0],
        severity=None,
        interval=found[worst][1],
        measure="relative width, height, area: largest Wasserstein distance from uniform / its maximum",
        summary="; ".join(
            f"{percent((values < 0.1).mean() if len(values) else 0)} of the objects have a relative {name} below 0.1"
            for name, values in parts.items()
        )
        + ".",
        tables=(
            Table(
                title="Relative width, height and area",
                columns=("relative value", *parts),
                rows=tuple(zip(middles.tolist(), *(curve.tolist() for curve in curves))),
                chart="line",
                log=True,
                note="Density over all boxes (the review's figure 7); a flat line at 1 would be balanced.",
            ),
            Table(
                title="Distance of width, height and area from uniform",
                columns=("property", "index", "low", "high"),
                rows=tuple((n, v, *(i or (None, None))) for n, (v, i) in found.items()),
            ),
        ),
    )


def size_of(area: np.ndarray) -> np.ndarray:
    """COCO's size of an area: 0 small (to 32^2), 1 medium (to 96^2), 2 large. The bounds belong to the smaller size."""
    return np.digitize(area, _LIMITS, right=True)


def size_bins(columns: Columns, sampler: Resampler, *, target: np.ndarray | None = None) -> Finding:
    """1 - normalised entropy of COCO's three size bins, by the area that the source gives.

    Balanced: a third of the objects in each (or the user's three weights). Worst: all in one.
    """
    bins = size_of(columns.area)
    value, interval = sampler.of_counts(lambda c: indices.entropy_index(c, target), columns.image, bins, 3)
    counts = np.bincount(bins, minlength=3)
    share = counts / max(counts.sum(), 1)
    cross = np.bincount(columns.kind * 3 + bins, minlength=3 * len(columns.classes)).reshape(-1, 3)
    order = np.argsort(-cross.sum(1), kind="stable")
    return Finding(
        imbalance=Imbalance.OBJECT_SCALE,
        key="size_bins",
        value=value,
        severity=None,
        interval=interval,
        measure="COCO size bins: 1 - normalised entropy",
        summary=(
            f"{percent(share[0])} of the objects are small (area to 32 x 32 pixels), {percent(share[1])} medium "
            f"(to 96 x 96) and {percent(share[2])} large."
        ),
        tables=(
            Table("Objects by size", ("size", "boxes"), tuple(zip(SIZES, counts.tolist())), "bar"),
            Table(
                "Objects by class and size",
                ("class", *SIZES),
                tuple((columns.classes[k], *cross[k].tolist()) for k in order if cross[k].sum()),
            ),
        ),
        affected=tuple(name for name, part in zip(SIZES, share) if part < 0.1),
    )
