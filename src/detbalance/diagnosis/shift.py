"""How far two datasets, or two splits of one, lie apart, property by property."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..taxonomy import Imbalance
from . import indices
from .bootstrap import BINS, Resampler, binned
from .columns import Columns
from .finding import Finding, Severity, Table
from .wording import percent

__all__ = ["shifts"]


@dataclass(frozen=True)
class _Property:
    key: str
    imbalance: Imbalance
    name: str
    measure: str
    distance: Callable[[np.ndarray, np.ndarray], np.ndarray]
    bins: int
    own: tuple[np.ndarray, np.ndarray]
    """image and bin of each item"""
    other: tuple[np.ndarray, np.ndarray]


def shifts(columns: Columns, against: Columns, sampler: Resampler) -> list[Finding]:
    """One finding a property: total variation for classes, Wasserstein distance (share of the range) for the others.

    Balanced: 0, the two are distributed alike. Worst: 1, they share nothing. Two samples of one source differ too: the
    table states the distance that chance alone gives, found by dealing the images of both out anew.
    """
    return [_shift(what, columns.images, against.images, sampler) for what in _properties(columns, against)]


def _properties(columns: Columns, against: Columns) -> list[_Property]:
    names = list(dict.fromkeys(columns.classes + against.classes))
    row_of = {name: i for i, name in enumerate(names)}

    def classes(side: Columns) -> tuple[np.ndarray, np.ndarray]:
        return side.image, np.array([row_of[name] for name in side.classes], np.int64)[side.kind]

    def relative(side: Columns, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return side.image[side.known], binned(values)

    def size(side: Columns) -> tuple[np.ndarray, np.ndarray]:
        return relative(side, np.sqrt(side.relative.prod(1)))

    def angle(side: Columns) -> tuple[np.ndarray, np.ndarray]:
        return side.image, binned(np.arctan2(side.size[:, 1], side.size[:, 0]) / (np.pi / 2))

    place, scale, mix = Imbalance.LOCATION, Imbalance.OBJECT_SCALE, Imbalance.FOREGROUND_FOREGROUND
    listed = [("shift_classes", mix, "class", classes), ("shift_size", scale, "relative size", size)]
    for axis, name in enumerate(("x", "y")):
        listed.append((f"shift_{name}", place, f"centre in {name}", lambda s, a=axis: relative(s, s.centre[:, a])))
    listed.append(("shift_aspect", place, "angle of the diagonal", angle))
    return [
        _Property(
            key,
            imbalance,
            name,
            "total variation" if make is classes else "Wasserstein distance, as a share of the range",
            indices.total_variation if make is classes else _wasserstein,
            len(names) if make is classes else BINS,
            make(columns),
            make(against),
        )
        for key, imbalance, name, make in listed
    ]


def _wasserstein(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Wasserstein-1 distance between shares over equal bins of [0, 1]; at most 1."""
    return np.abs(np.cumsum(p - q, -1))[..., :-1].sum(-1) / max(p.shape[-1] - 1, 1)


def _shift(what: _Property, images: int, other_images: int, sampler: Resampler) -> Finding:
    sides = ((what.own, images), (what.other, other_images))
    share = [indices.normalise(np.bincount(bucket, minlength=what.bins)) for (_, bucket), _ in sides]
    value = float(what.distance(*share))
    drawn = [
        indices.normalise(Resampler(n, sampler.repeats, sampler.seed + i).histogram(*item, what.bins))
        for i, (item, n) in enumerate(sides)
    ]
    chance = _by_chance(what, images, other_images, sampler)
    beyond = "more than" if value > chance else "no more than"
    return Finding(
        imbalance=what.imbalance,
        key=what.key,
        value=value,
        severity=None if value > chance else Severity.NONE,
        interval=sampler.interval(value, what.distance(*drawn)) if sampler.repeats else None,
        measure=f"{what.name}, one dataset against the other: {what.measure}",
        summary=f"The two differ in {what.name} by {percent(value)}, {beyond} by chance ({percent(chance)}).",
        tables=(
            Table(
                f"Shift in {what.name}",
                ("quantity", "value"),
                (("distance", value), ("95 % of the distances by chance are below", chance)),
            ),
        ),
    )


def _by_chance(what: _Property, images: int, other_images: int, sampler: Resampler) -> float:
    """95th percentile of the distance when both sides are drawn from all images together."""
    image = np.concatenate((what.own[0], what.other[0] + images))
    bucket, total = np.concatenate((what.own[1], what.other[1])), images + other_images
    repeats = max(sampler.repeats, 50)
    sides = [
        indices.normalise(Resampler(total, repeats, sampler.seed + 2 + i, draws=n).histogram(image, bucket, what.bins))
        for i, n in enumerate((images, other_images))
    ]
    return float(np.percentile(what.distance(*sides), 95))
