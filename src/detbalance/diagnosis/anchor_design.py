"""Anchors made for a dataset (review, section 6.5.3): sizes and ratios of the best recall, shared out most evenly.

The start is k-means with the distance 1 - IoU (Redmon and Farhadi, YOLO9000, section 2); from there differential
evolution (Storn and Price 1997) goes by the exact labels of `anchor_statistics`, which no formula approximates: what
rounding, the grid and the images' sizes do to an anchor is in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..anchor_settings import AnchorSettings, default_anchors
from ..data.annotations import Annotations
from . import indices
from ._anchor_space import Space, sides_of
from .anchors import anchor_statistics

__all__ = ["AnchorDesign", "AnchorFit", "design_anchors", "measure_anchors"]

GROUPS = 5
"""equal parts of the objects by size, over which positives are to be even"""
CLASSES = 20
"""classes that the terminal shows"""


@dataclass(frozen=True, eq=False)
class AnchorFit:
    """How well some anchors fit a dataset. K classes, B objects with an image of known size."""

    settings: AnchorSettings
    threshold: float
    """IoU from which an anchor is positive"""
    best_iou: np.ndarray
    """(B,) of each object with the anchor that overlaps it most"""
    positives: np.ndarray
    """(B,) anchors that are positive for each object"""
    label: np.ndarray
    """(B,) class, 0..K-1"""
    group: np.ndarray
    """(B,) which fifth of the objects by size, 0 the smallest"""
    classes: int

    @property
    def missed(self) -> float:
        """Share of the objects that no anchor overlaps enough: 1 - recall."""
        return float((self.best_iou < self.threshold).mean())

    @property
    def without(self) -> int:
        """Objects that are no anchor's."""
        return int((self.positives == 0).sum())

    @cached_property
    def by_class(self) -> np.ndarray:
        """(K,) positives an object; nan for a class without objects."""
        return _mean_by(self.positives, self.label, self.classes)

    @cached_property
    def by_size(self) -> np.ndarray:
        """(GROUPS,) positives an object."""
        return _mean_by(self.positives, self.group, GROUPS)

    @property
    def unevenness(self) -> tuple[float, float]:
        """Gini coefficients of positives an object, over the classes and over the sizes: 0 where all have as many."""
        over_class, over_size = (float(indices.gini_index(m[~np.isnan(m)])) for m in (self.by_class, self.by_size))
        return over_class, over_size

    def score(self, evenness: float) -> float:
        """What the search makes small: missed objects, and `evenness` times the mean unevenness."""
        return self.missed + evenness * sum(self.unevenness) / 2


@dataclass(frozen=True, eq=False)
class AnchorDesign:
    """Anchors before and after, measured on all images."""

    before: AnchorFit
    clustered: AnchorFit
    """by k-means alone"""
    after: AnchorFit
    classes: tuple[str, ...]

    @property
    def fits(self) -> dict[str, AnchorFit]:
        """The three by name."""
        return {"before": self.before, "k-means": self.clustered, "designed": self.after}

    def tables(self) -> list[Any]:
        """For the terminal (rich tables): the whole, by size of the objects, by class."""
        from rich.table import Table

        threshold = f"no anchor of IoU {self.after.threshold:g}"
        names = ("anchors", threshold, "objects without", "positives an object", "uneven by class", "by size")
        whole = Table(*names, title="anchors of all images")
        for name, fit in self.fits.items():
            uneven = (f"{value:.3f}" for value in fit.unevenness)
            missed, mean = f"{100 * fit.missed:.1f} %", f"{fit.positives.mean():.2f}"
            whole.add_row(name, missed, f"{fit.without:,}", mean, *uneven)
        sizes = [f"{k + 1}. fifth" for k in range(GROUPS)]
        few = np.argsort(self.before.by_class, kind="stable")[:CLASSES]
        which = f", the {CLASSES} that had fewest" if len(self.classes) > CLASSES else ""
        by_size = self._means("positives an object, by size", sizes, "by_size", range(GROUPS))
        return [whole, by_size, self._means(f"by class{which}", self.classes, "by_class", few)]

    def _means(self, title: str, labels: Sequence[str], part: str, rows: Iterable[int]) -> Any:
        from rich.table import Table
        from rich.text import Text

        table = Table("", *self.fits, title=title)
        for row in rows:
            means = [getattr(fit, part)[row] for fit in self.fits.values()]
            table.add_row(Text(labels[row]), *("-" if np.isnan(m) else f"{m:.2f}" for m in means))
        return table


def measure_anchors(annotations: Annotations, settings: AnchorSettings, image_size: tuple[int, int]) -> AnchorFit:
    """Label every anchor of every image, and see who gets them."""
    preset = settings.preset(image_size)
    counted = anchor_statistics(annotations, preset)
    known = np.flatnonzero(~np.isnan(counted.best_iou))
    area = sides_of(annotations, known, image_size, preset.fixed_size is not None).prod(1)
    rank = np.empty(len(known), np.int64)
    rank[np.argsort(area, kind="stable")] = np.arange(len(known))
    return AnchorFit(
        settings=settings,
        threshold=preset.positive,
        best_iou=counted.best_iou[known],
        positives=counted.positives_per_box[known],
        label=annotations.label[known] - 1,
        group=rank * GROUPS // max(len(known), 1),
        classes=len(annotations.classes),
    )


def design_anchors(
    annotations: Annotations,
    *,
    detector: str = "retinanet",
    size: str = "nano",
    image_size: tuple[int, int] = (192, 256),
    evenness: float = 0.25,
    images: int = 200,
    generations: int = 40,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> AnchorDesign:
    """Search the anchors of a detector's levels; as many sizes, scales and ratios as it has, so that its head fits.

    Of the anchors found, those of k-means and the detector's own, the best on all images is `after`: never worse than
    before. The same seed finds the same.

    Args:
        annotations: the training images.
        detector, size, image_size: as `detectors.build`.
        evenness: weight of the unevenness over classes and sizes beside the share of missed objects.
        images: drawn for the search; the figures are of all.
        generations: of differential evolution.
        progress: called with (generations done, generations in all).

    Raises ValueError for a detector without anchors to choose, and for a dataset without objects of known place.
    """
    if images < 1 or generations < 1 or not evenness >= 0:
        raise ValueError(
            f"expected images >= 1, generations >= 1, evenness >= 0 but got {images}, {generations}, {evenness}"
        )
    own = default_anchors(detector, size)
    random = np.random.default_rng(seed)
    used = np.unique(annotations.image[~annotations.crowd])
    used = used[(annotations.sizes[used] > 0).all(1)]
    if not len(used):
        raise ValueError(f"{annotations.source or 'the dataset'} has no objects in images of known size")
    sample = annotations.subset(random.choice(used, min(images, len(used)), replace=False))
    space = Space(own, image_size)
    clustered = space.clustered(annotations, seed)

    def score(point: np.ndarray) -> float:
        return measure_anchors(sample, space.settings(point), image_size).score(evenness)

    found = _evolve(score, space.bounds, [space.point(own), space.point(clustered)], generations, random, progress)
    fits = [measure_anchors(annotations, each, image_size) for each in (own, clustered, space.settings(found))]
    return AnchorDesign(fits[0], fits[1], min(fits, key=lambda fit: fit.score(evenness)), annotations.classes)


def _evolve(score, bounds, starts, generations, random, progress) -> np.ndarray:
    from scipy.optimize import differential_evolution

    low, high = np.array(bounds).T
    starts = np.clip(starts, low, high)
    count = max(16, 3 * len(low))
    near = starts[random.integers(len(starts), size=count)] + random.normal(0, 0.15, (count, len(low))) * (high - low)
    first = np.concatenate((starts, near.clip(low, high)))[:count]
    done = 0

    def tell(*_) -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, generations)

    result = differential_evolution(
        score, bounds, init=first, maxiter=generations, polish=False, tol=0, atol=0, callback=tell,
        seed=int(random.integers(2**31)),
    )  # fmt: skip
    return result.x


def _mean_by(values: np.ndarray, key: np.ndarray, count: int) -> np.ndarray:
    number = np.bincount(key, minlength=count)
    total = np.bincount(key, values, len(number))
    return np.divide(total, number, out=np.full(len(number), np.nan), where=number > 0)
