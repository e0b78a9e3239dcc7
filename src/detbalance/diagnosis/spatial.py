"""Object location imbalance (review, section 6.3) and the objects' shape (6.5.6): where they are, and how they lie."""

from __future__ import annotations

from math import exp, lgamma, log

import numpy as np

from ..taxonomy import Imbalance
from . import indices
from .bootstrap import Resampler, binned
from .columns import Columns
from .finding import Finding, Table
from .wording import count, percent

__all__ = ["GRID", "aspect", "centres", "chance_distance"]

GRID = 8
"""cells a side in which centres are compared with uniform"""
_DRAWN = 16  # cells a side of the chart


def chance_distance(boxes: int, cells: int) -> float:
    """Total variation from uniform that chance alone gives to boxes thrown evenly into cells.

    Half the sum of the cells' mean absolute deviations, each by de Moivre's formula for the binomial distribution.

    >>> round(chance_distance(640, 64), 3), round(chance_distance(1, 64), 3)
    (0.124, 0.984)
    """
    if boxes < 1 or cells < 2:
        return 0.0
    p, most = 1 / cells, boxes // cells + 1
    ways = lgamma(boxes + 1) - lgamma(most + 1) - lgamma(boxes - most + 1)
    deviation = 2 * most * exp(ways + most * log(p) + (boxes - most + 1) * log(1 - p))
    return cells * deviation / boxes / 2


def _beyond_chance(counts: np.ndarray, boxes: int, target: np.ndarray) -> np.ndarray:
    """Total variation from the target, less what chance gives to so few boxes, over the most that is possible."""
    chance = chance_distance(boxes, counts.shape[-1])
    worst = 1 - target.min()
    distance = indices.total_variation(indices.normalise(counts), target)
    return np.clip((distance - chance) / max(worst - chance, 1e-12), 0, 1) * (counts.sum(-1) > 0)


def _cell(centre: np.ndarray, side: int) -> np.ndarray:
    """Row-major cell of centres (n, 2) given as x, y."""
    column, row = binned(centre, side).T
    return row * side + column


def centres(columns: Columns, sampler: Resampler, *, target: np.ndarray | None = None) -> Finding:
    """Total variation of the objects' centres from uniform on an 8 x 8 grid, less what chance gives to so few objects.

    It is the share of the objects that would have to move to another cell. Balanced: evenly spread over the image (or
    the user's 8 x 8 weights, top row first). Worst: all in one cell.
    """
    wanted = indices.normalise(np.ones(GRID * GRID) if target is None else np.asarray(target, np.float64).ravel())
    cell, image = _cell(columns.centre, GRID), columns.image[columns.known]
    value, interval = sampler.of_counts(
        lambda counts: _beyond_chance(counts, len(cell), wanted), image, cell, GRID * GRID
    )
    middle = (np.abs(columns.centre - 0.5) < 0.25).all(1)
    rows = _per_class(columns, cell, wanted)
    return Finding(
        imbalance=Imbalance.LOCATION,
        key="centres",
        value=value,
        severity=None,
        interval=interval,
        measure="centres on an 8 x 8 grid: total variation from uniform, corrected for chance",
        summary=(
            f"{percent(value)} of the objects would have to move for an even spread over the image; "
            f"{percent(middle.mean() if len(middle) else 0)} lie in its middle quarter."
        ),
        tables=(_map(columns), rows),
        affected=tuple(row[0] for row in rows.rows if row[1] >= 0.5)[:5],
        headline=True,
    )


def _map(columns: Columns) -> Table:
    cells = np.bincount(_cell(columns.centre, _DRAWN), minlength=_DRAWN**2) * _DRAWN**2 / max(len(columns.known), 1)
    place = ((np.arange(_DRAWN) + 0.5) / _DRAWN).tolist()
    return Table(
        title="Where the objects' centres lie",
        columns=("x", "y", "value"),
        rows=tuple((place[i % _DRAWN], place[i // _DRAWN], float(v)) for i, v in enumerate(cells)),
        chart="heatmap",
        note="Density over the image, y downwards; 1 everywhere would be balanced (the review's figure 13).",
    )


def _per_class(columns: Columns, cell: np.ndarray, wanted: np.ndarray) -> Table:
    kind = columns.kind[columns.known]
    table = np.bincount(kind * GRID**2 + cell, minlength=len(columns.classes) * GRID**2).reshape(-1, GRID**2)
    middle = np.zeros((len(columns.classes), 2))
    for axis in range(2):
        total = np.bincount(kind, columns.centre[:, axis], len(columns.classes))
        middle[:, axis] = total / np.maximum(table.sum(1), 1)
    rows = [
        (name, float(_beyond_chance(part, int(part.sum()), wanted)), *middle[k].tolist(), int(part.sum()))
        for k, (name, part) in enumerate(zip(columns.classes, table))
        if part.any()
    ]
    return Table(
        title="Distance from an even spread, by class",
        columns=("class", "distance", "mean x", "mean y", "boxes"),
        rows=tuple(sorted(rows, key=lambda row: -row[1])),
        note="Corrected for chance: a class of few boxes looks uneven in any case.",
    )


def aspect(columns: Columns, sampler: Resampler, *, target: np.ndarray | None = None) -> Finding:
    """Wasserstein distance of the boxes' diagonals from uniform angles between lying (0) and standing (90 degrees).

    Boxes that are upright know no more of the orientation than this angle, arctan(h / w). Balanced: all angles equally
    often (or the user's sample, as shares of 90 degrees). Worst: all lie flat, or all stand.
    """
    angle = np.arctan2(columns.size[:, 1], columns.size[:, 0]) / (np.pi / 2)
    value, interval = sampler.of_values(angle, columns.image, target)
    ratio = columns.size[:, 0] / columns.size[:, 1]
    limits = (0.25, 0.5, 1 / np.sqrt(2), np.sqrt(2), 2, 4)
    names = ("below 1:4", "1:4 to 1:2", "1:2 to 1:1.4", "about square", "1.4:1 to 2:1", "2:1 to 4:1", "above 4:1")
    counts = np.bincount(np.digitize(ratio, limits), minlength=len(names))
    share = counts / max(counts.sum(), 1)
    order = np.lexsort((ratio, columns.kind))
    bounds = np.searchsorted(columns.kind[order], np.arange(len(columns.classes) + 1))
    per_class = [
        (name, *np.quantile(ratio[order[a:b]], (0.1, 0.5, 0.9)).tolist(), int(b - a))
        for name, a, b in zip(columns.classes, bounds[:-1], bounds[1:])
        if b > a
    ]
    return Finding(
        imbalance=Imbalance.LOCATION,
        key="aspect",
        value=value,
        severity=None,
        interval=interval,
        measure="angle of the boxes' diagonals: Wasserstein distance from uniform / its maximum",
        summary=(
            f"{percent(share[:3].sum())} of the {count(counts.sum(), 'box', 'boxes')} stand, {percent(share[3])} are "
            f"about square and {percent(share[4:].sum())} lie; {percent(share[[0, 1, 5, 6]].sum())} exceed 2:1, "
            "beyond the usual anchors' ratios."
        ),
        tables=(
            Table("Width to height", ("width : height", "boxes"), tuple(zip(names, counts.tolist())), "bar"),
            Table(
                "Width over height by class",
                ("class", "10 % below", "median", "90 % below", "boxes"),
                tuple(sorted(per_class, key=lambda row: row[2])),
            ),
        ),
    )
