"""How unequal is a distribution? Every index is 0 for the balanced distribution and 1 in the limit of the worst.

Balanced means equal to a *target* distribution: uniform unless the caller names another (review, section 9.2, asks what
is balanced, what is desired and how far a distribution is from it: the target answers the first two, the index the
third). Counts lie along the last axis; leading axes are separate distributions, so that all bootstrap repeats of an
index are one call. A distribution without any count, or with a single class, is balanced: its index is 0.
"""

from __future__ import annotations

import numpy as np

__all__ = [
    "density",
    "effective_number",
    "effective_number_index",
    "entropy_index",
    "gini_index",
    "gini_of_frequencies",
    "kl_divergence",
    "log_ratio_index",
    "normalise",
    "ratio_index",
    "total_variation",
    "wasserstein_counts",
    "wasserstein_uniform",
    "worst_wasserstein",
]


def normalise(counts: np.ndarray) -> np.ndarray:
    """Counts as shares that sum to 1 along the last axis; all zero where nothing was counted."""
    counts = np.asarray(counts, np.float64)
    total = counts.sum(-1, keepdims=True)
    return counts / np.where(total > 0, total, 1)


def _shares(counts: np.ndarray, target: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Shares p and the target's shares q. Where nothing was counted p is q, so that the index is 0."""
    p = normalise(counts)
    size = p.shape[-1]
    q = np.full(size, 1 / max(size, 1)) if target is None else normalise(target)
    if target is not None and (q.shape != (size,) or not (q > 0).all()):
        raise ValueError(f"expected a target of {size} positive weights but got {np.asarray(target).tolist()}")
    return np.where(p.sum(-1, keepdims=True) > 0, p, q), q


def _scaled(value: np.ndarray, worst: float) -> np.ndarray:
    return np.clip(value / worst, 0, 1) if worst > 0 else np.zeros_like(value)


def kl_divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Kullback-Leibler divergence of shares p from shares q, in nats; infinite where p has what q lacks.

    >>> float(kl_divergence([1.0, 0.0], [0.5, 0.5]).round(4))
    0.6931
    """
    p, q = np.broadcast_arrays(np.asarray(p, np.float64), np.asarray(q, np.float64))
    safe = np.where((p > 0) & (q > 0), p / np.where(q > 0, q, 1), 1)
    return np.where(((p > 0) & (q <= 0)).any(-1), np.inf, (p * np.log(safe)).sum(-1))


def entropy_index(counts: np.ndarray, target: np.ndarray | None = None) -> np.ndarray:
    """1 - entropy / log K: the share of the possible disorder that is missing.

    With a target q it is KL(p || q) / log(1 / min q), which is the same thing for uniform q. Balanced: p = q; worst:
    all in the class that q wants least.

    >>> entropy_index([[50, 50], [100, 0]]).tolist()
    [0.0, 1.0]
    """
    p, q = _shares(counts, target)
    return _scaled(kl_divergence(p, q), float(-np.log(q.min())) if q.size else 0)


def gini_index(counts: np.ndarray, target: np.ndarray | None = None) -> np.ndarray:
    """Gini coefficient (twice the area between the Lorenz curve and the diagonal) over its maximum, 1 - 1/K.

    With a target q it is sum_ij |p_i q_j - p_j q_i| / 2 over its maximum 1 - min q. Balanced: p = q; worst: all in one
    class.

    >>> gini_index([[1, 1, 2], [0, 0, 7]]).round(6).tolist()
    [0.25, 1.0]
    """
    p, q = _shares(counts, target)
    order = np.argsort(p / q, -1)
    p, q = np.take_along_axis(p, order, -1), np.broadcast_to(q, p.shape)
    q = np.take_along_axis(q, order, -1)
    lorenz = np.cumsum(p, -1)
    area = ((2 * lorenz - p) * q).sum(-1) / 2
    return _scaled(1 - 2 * area, float(1 - q.min()) if q.size else 0)


def gini_of_frequencies(frequency: np.ndarray) -> np.ndarray:
    """Gini index of many numbers of which frequency[..., n] are equal to n; `gini_index` without listing them.

    >>> float(gini_of_frequencies([0, 2, 1]).round(6)) == float(gini_index([1, 1, 2]).round(6))
    True
    """
    frequency = np.asarray(frequency, np.float64)
    held = frequency * np.arange(frequency.shape[-1])
    total, lorenz = frequency.sum(-1), np.cumsum(held, -1)
    area = ((2 * lorenz - held) * frequency).sum(-1) / 2
    gini = 1 - 2 * area / np.maximum(total * lorenz[..., -1], 1)
    return np.clip(np.where(lorenz[..., -1] > 0, gini * total / np.maximum(total - 1, 1), 0), 0, 1)


def ratio_index(counts: np.ndarray, target: np.ndarray | None = None) -> np.ndarray:
    """1 - smallest / largest (of p / q with a target q). Balanced: p = q; worst: one class has nothing.

    >>> float(ratio_index([10, 40]))
    0.75
    """
    p, q = _shares(counts, target)
    return np.zeros(p.shape[:-1]) if not q.size else 1 - (p / q).min(-1) / (p / q).max(-1)


def effective_number(counts: np.ndarray) -> np.ndarray:
    """How many equally frequent classes would give two random boxes the same chance of agreeing: 1 / sum p^2.

    (Hill number of order 2. Not Cui et al.'s "effective number of samples", which is a weight for training.)

    >>> effective_number([[25, 25, 25, 25], [97, 1, 1, 1]]).round(2).tolist()
    [4.0, 1.06]
    """
    p, _ = _shares(counts, None)
    return 1 / np.maximum((p * p).sum(-1), 1e-300) if p.shape[-1] else np.zeros(p.shape[:-1])


def effective_number_index(counts: np.ndarray, target: np.ndarray | None = None) -> np.ndarray:
    """1 - (N - 1) / (K - 1), N the effective number of classes: the share of the classes that is lost to inequality.

    With a target q, N = K / sum(p^2 / q), which runs from K min q to K. Balanced: p = q; worst: all in one class.

    >>> effective_number_index([[5, 5, 5], [9, 0, 0]]).round(6).tolist()
    [0.0, 1.0]
    """
    p, q = _shares(counts, target)
    size, least = q.size, float(q.min()) if q.size else 1.0
    number = size / np.maximum((p * p / q).sum(-1), 1e-300) if size else np.zeros(p.shape[:-1])
    return _scaled(size - number, size - size * least)


def log_ratio_index(first: np.ndarray, second: np.ndarray, desired: float = 1.0) -> np.ndarray:
    """L / (1 + L), L the powers of ten between first : second and the desired ratio; for ratios that span decades.

    Balanced: first / second = desired. 10:1 gives 1/2, 1,000:1 gives 3/4; worst (one of the two is absent): 1.

    >>> log_ratio_index([1000, 5, 1], [1, 0, 1]).tolist(), float(log_ratio_index(3, 1, desired=3))
    ([0.75, 1.0, 0.0], 0.0)
    """
    first, second = np.broadcast_arrays(np.asarray(first, np.float64), np.asarray(second, np.float64))
    both, none = (first > 0) & (second > 0), (first <= 0) & (second <= 0)
    ratio = np.where(both, first, 1) / np.where(both, second, 1) / np.where(both, desired, 1)
    decades = np.abs(np.log10(ratio))
    return np.where(none, 0.0, np.where(both, decades / (1 + decades), 1.0))[()]


def total_variation(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Half the sum of absolute differences of two share vectors: the share of the boxes that would have to change.

    >>> float(total_variation([0.5, 0.5], [0.75, 0.25]))
    0.25
    """
    return np.abs(np.asarray(p, np.float64) - np.asarray(q, np.float64)).sum(-1) / 2


def worst_wasserstein(target: np.ndarray | None = None, weights: np.ndarray | None = None) -> float:
    """The largest Wasserstein-1 distance that any distribution on [0, 1] can have from the target.

    W1 is convex, so its maximum lies at a point mass, and its distance E|T - a| is convex in a: the worst is all at 0
    or all at 1, at max(E T, 1 - E T). Uniform target (None): 1/2.
    """
    mean = 0.5 if target is None else float(np.average(target, weights=weights))
    return max(mean, 1 - mean)


def wasserstein_uniform(values: np.ndarray) -> float:
    """Wasserstein-1 distance of values in [0, 1] from the uniform distribution there, over its maximum 1/2; exact.

    The integral of |F(x) - x|, F the distribution function. Balanced: evenly spread; worst: all at 0 or all at 1.

    >>> wasserstein_uniform(np.zeros(3)), round(wasserstein_uniform((np.arange(1000) + 0.5) / 1000), 4)
    (1.0, 0.0005)
    """
    values = np.sort(np.clip(np.asarray(values, np.float64), 0, 1))
    if not len(values):
        return 0.0
    edges = np.concatenate(([0.0], values, [1.0]))
    level = np.arange(len(values) + 1) / len(values)
    left, right = edges[:-1] - level, edges[1:] - level
    return float(np.clip((right * np.abs(right) - left * np.abs(left)).sum(), 0, 1))


def wasserstein_counts(counts: np.ndarray, target: np.ndarray | None = None) -> np.ndarray:
    """Wasserstein-1 distance of a histogram over equal bins of [0, 1] from a target histogram, over its maximum.

    Mass lies at the bins' centres; None is the uniform histogram. For bootstrap repeats and for two samples; its error
    against the exact distance is below the width of a bin.

    >>> float(wasserstein_counts([4, 0, 0, 0], [0, 0, 0, 4])), float(wasserstein_counts([1, 1, 1, 1]))
    (1.0, 0.0)
    """
    p = normalise(counts)
    bins = p.shape[-1]
    q = np.full(bins, 1 / bins) if target is None else normalise(target)
    p = np.where(p.sum(-1, keepdims=True) > 0, p, q)
    place = np.arange(bins) / max(bins - 1, 1)
    distance = np.abs(np.cumsum(p - q, -1))[..., :-1].sum(-1) / max(bins - 1, 1)
    return _scaled(distance, worst_wasserstein(place, q) if q.sum() > 0 else 0)


def density(values: np.ndarray, bins: int = 50) -> np.ndarray:
    """Probability density of values in [0, 1], one number a bin, for charts; all zero for no values.

    >>> density(np.array([0.1, 0.2, 0.7]), 2).round(3).tolist()
    [1.333, 0.667]
    """
    return np.histogram(values, bins, (0, 1))[0] * bins / max(len(values), 1)
