"""Which classes come together: a detector may learn the company in place of the object."""

from __future__ import annotations

import numpy as np

from ..taxonomy import Imbalance
from .bootstrap import Resampler
from .columns import Columns
from .finding import Finding, Table
from .wording import percent

__all__ = ["cooccurrence"]

_MOST = 2000  # classes compared, the most frequent: the table of pairs grows with their square


def cooccurrence(columns: Columns, sampler: Resampler, *, shown: int = 20) -> Finding:
    """How far classes depend on company: the mean over classes a of the largest P(b | a) - P(b), of images.

    Balanced: 0, every class comes with the others as often as chance has it. Worst: every class has a companion that
    is always there with it and nowhere else. Of more than 2,000 classes the most frequent are compared.
    """
    image, kind = columns.presence
    names = columns.classes
    if len(names) > _MOST:
        kept = np.argsort(-np.bincount(kind, minlength=len(names)), kind="stable")[:_MOST]
        place = np.full(len(names), -1)
        place[kept] = np.arange(_MOST)
        image, kind = image[place[kind] >= 0], place[kind[place[kind] >= 0]]
        names = tuple(names[k] for k in kept)
    classes = len(names)
    first, second, where = _pairs(image, kind)
    images = np.bincount(kind, minlength=classes)
    together = np.bincount(first * classes + second, minlength=classes**2).reshape(classes, classes)
    excess = _excess(together, images, columns.images)
    value = float(_dependence(excess, images))
    repeats = np.empty(sampler.repeats)
    pair = first * classes + second
    for i, (drawn, single) in enumerate(zip(sampler.weights, sampler.histogram(image, kind, classes))):
        repeat = np.bincount(pair, drawn[where], classes**2).reshape(classes, classes)
        repeats[i] = _dependence(_excess(repeat, single, columns.images), images)
    companion = excess.argmax(1) if classes else np.zeros(0, int)
    strongest = [k for k in np.argsort(-excess.max(1, initial=0), kind="stable") if images[k]][:shown]
    rows = tuple(
        (
            names[k],
            names[companion[k]],
            float(together[k, companion[k]] / images[k]),
            float(images[companion[k]] / columns.images),
            int(together[k, companion[k]]),
        )
        for k in strongest
        if together[k, companion[k]]
    )
    if rows:
        name, other, share, base, _ = rows[0]
        summary = f"{percent(share)} of the images with {name} also show {other}, which is in {percent(base)} of all."
    else:
        summary = "No two classes share an image."
    common = np.argsort(-images, kind="stable")[:shown]
    return Finding(
        imbalance=Imbalance.FOREGROUND_FOREGROUND,
        key="cooccurrence",
        value=value,
        severity=None,
        interval=sampler.interval(value, repeats),
        measure="dependence on company: mean over classes of the largest P(b | a) - P(b)",
        summary=summary,
        tables=(
            Table(
                "Classes and their most faithful companions",
                ("class", "companion", "share of its images", "share of all images", "images"),
                rows,
            ),
            Table(
                "Images in which two classes meet",
                ("x", "y", "value"),
                tuple(
                    (names[a], names[b], int(together[a, b]))
                    for a in common
                    for b in common
                    if a != b and images[a] and images[b]
                ),
                "heatmap",
                log=True,
                note=f"The {len(common)} most frequent classes." if len(common) < classes else "",
            ),
        ),
    )


def _pairs(image: np.ndarray, kind: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every ordered pair of different classes of an image: first, second, image. `image` ascends."""
    number = np.bincount(image) if len(image) else np.zeros(0, np.int64)
    partners = number[image] if len(image) else number
    first = np.repeat(np.arange(len(image)), partners)
    start = np.cumsum(partners) - partners
    begin = (np.cumsum(number) - number)[image] if len(image) else partners
    second = np.arange(len(first)) - np.repeat(start - begin, partners)
    different = first != second
    return kind[first[different]], kind[second[different]], image[first[different]]


def _excess(together: np.ndarray, images: np.ndarray, total: int) -> np.ndarray:
    """(K, K) P(b | a) - P(b); 0 on the diagonal and for classes that do not occur."""
    excess = together / np.maximum(images, 1)[:, None] - images / max(total, 1)
    np.fill_diagonal(excess, 0)
    return np.where((images > 0)[:, None], excess, 0)


def _dependence(excess: np.ndarray, images: np.ndarray) -> float:
    occurs = images > 0
    return excess.max(1, initial=0)[occurs].mean() if occurs.any() else 0.0
