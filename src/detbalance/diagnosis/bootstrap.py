"""Bootstrap over images: how far would an index move had other images of the same kind been collected?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .indices import wasserstein_counts, wasserstein_uniform

__all__ = ["BINS", "Resampler", "binned"]

BINS = 256
"""bins of [0, 1] in which the repeats of a continuous property are counted; its index itself is exact"""
_CELLS = 4_000_000  # numbers of one dense block: 16 MB


def binned(values: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Rows of the equal bins of [0, 1] that values lie in.

    >>> binned(np.array([0.0, 0.5, 1.0]), 4).tolist()
    [0, 2, 3]
    """
    return np.clip((np.asarray(values) * bins).astype(np.int64), 0, bins - 1)


class Resampler:
    """Draws the images with replacement, again and again, and recounts without reading anything twice.

    Images are the unit because boxes of one image are not independent. Every index here is a function of counts, and
    the counts of a repeat are (how often each image was drawn) @ (counts per image): one matrix product for them all.

    >>> sampler = Resampler(3, repeats=2, seed=0)
    >>> sampler.weights.sum(1).tolist()
    [3, 3]
    >>> sampler.histogram(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 1]), 2).sum(1).shape
    (2,)
    """

    def __init__(self, images: int, repeats: int = 200, seed: int = 0, draws: int | None = None) -> None:
        if repeats < 0:
            raise ValueError(f"expected bootstrap >= 0 repeats but got {repeats}")
        self.images, self.repeats, self.seed = images, repeats, seed
        rng = np.random.default_rng(seed)
        draws = images if draws is None else draws
        self.weights = np.zeros((repeats, images), np.uint8)  # nobody is drawn 256 times when the mean is 1
        for row in self.weights if images else ():
            row[:] = np.bincount(rng.integers(images, size=draws), minlength=images)

    def histogram(
        self, image: np.ndarray, bucket: np.ndarray, bins: int, weights: np.ndarray | None = None
    ) -> np.ndarray:
        """(R, bins) counts in each repeat of items that lie in image (n,), ascending, and in bucket (n,)."""
        if 40 * len(bucket) < self.images * bins:  # so sparse that counting beats the product
            return self._counted(image, bucket, bins, weights)
        out = np.zeros((self.repeats, bins))
        step = max(1, _CELLS // max(bins, 1))
        for first in range(0, self.images, step):
            last = min(first + step, self.images)
            rows = slice(*np.searchsorted(image, (first, last)))
            cell = (image[rows] - first) * bins + bucket[rows]
            part = None if weights is None else weights[rows]
            dense = np.bincount(cell, part, (last - first) * bins).reshape(last - first, bins)
            out += self.weights[:, first:last].astype(np.float32) @ dense.astype(np.float32)
        return out

    def _counted(self, image: np.ndarray, bucket: np.ndarray, bins: int, weights: np.ndarray | None) -> np.ndarray:
        out = np.empty((self.repeats, bins))
        for counts, drawn in zip(out, self.weights):
            share = drawn[image] if weights is None else drawn[image] * weights
            counts[:] = np.bincount(bucket, share, bins)
        return out

    def totals(self, values: np.ndarray) -> np.ndarray:
        """(R, C) sums in each repeat of values per image (I, C)."""
        values = np.asarray(values, np.float64)
        step = max(1, _CELLS // max(self.repeats, 1))
        blocks = (slice(first, first + step) for first in range(0, self.images, step))
        return sum((self.weights[:, rows] @ values[rows] for rows in blocks), np.zeros((self.repeats, values.shape[1])))

    def interval(self, value: float, repeats: np.ndarray) -> tuple[float, float] | None:
        """95 % interval: the repeats' 2.5 and 97.5 percentiles, moved so that their median is the value.

        The move takes out the bias of resampling (a repeat misses rare classes, so it always looks less balanced).
        """
        if not len(repeats):
            return None
        low, middle, high = np.percentile(repeats, (2.5, 50, 97.5))
        return float(np.clip(value + low - middle, 0, 1)), float(np.clip(value + high - middle, 0, 1))

    def of_counts(
        self,
        index: Callable[[np.ndarray], np.ndarray],
        image: np.ndarray,
        bucket: np.ndarray,
        bins: int,
        value: float | None = None,
    ) -> tuple[float, tuple[float, float] | None]:
        """An index of the counts of `bucket`, with its interval; `value` is the exact one where the bins are coarse."""
        counts = np.bincount(bucket, minlength=bins)
        exact = float(index(counts)) if value is None else value
        return exact, self.interval(exact, index(self.histogram(image, bucket, bins)))

    def of_values(
        self, values: np.ndarray, image: np.ndarray, target: np.ndarray | None = None
    ) -> tuple[float, tuple[float, float] | None]:
        """Wasserstein index of values in [0, 1] against uniform, or against a sample of desired ones; its interval."""
        wanted = None if target is None else np.bincount(binned(target), minlength=BINS)
        value = wasserstein_uniform(values) if target is None else None
        return self.of_counts(lambda c: wasserstein_counts(c, wanted), image, binned(values), BINS, value)
