"""Is a difference between two recipes real? Paired bootstrap over test images and training seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from .scoring.metrics import metric_values
from .scoring.table import MatchTable

__all__ = ["Interval", "Summary", "interval", "paired_interval", "paired_intervals", "resample", "summarise"]


@dataclass(frozen=True)
class Interval:
    """A difference, remedy less baseline, and the range that holds the true one with the chosen probability."""

    mean: float
    """the observed difference: over the test set as it is, mean over the seeds"""
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Does the interval leave out zero?"""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Summary:
    """Values of several seeds in short."""

    mean: float | None
    std: float | None
    """sample standard deviation (n - 1); None for fewer than two values"""
    count: int


def summarise(values: Sequence[float | None]) -> Summary:
    """Mean and spread over the seeds; None stands for a value that does not exist and is left out.

    >>> summarise([0.5, 0.7, None])
    Summary(mean=0.6, std=0.1414..., count=2)
    """
    kept = [value for value in values if value is not None]
    return Summary(
        mean=float(np.mean(kept)) if kept else None,
        std=float(np.std(kept, ddof=1)) if len(kept) > 1 else None,
        count=len(kept),
    )


def paired_interval(
    baseline: Sequence[MatchTable],
    remedy: Sequence[MatchTable],
    metric: str = "AP",
    *,
    groups: Sequence[str] | None = None,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval | None:
    """Interval of the difference of one metric; see `paired_intervals`."""
    return paired_intervals(baseline, remedy, (metric,), groups=groups, draws=draws, seed=seed, level=level)[metric]


def paired_intervals(
    baseline: Sequence[MatchTable],
    remedy: Sequence[MatchTable],
    metrics: Sequence[str],
    *,
    groups: Sequence[str] | None = None,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Interval | None]:
    """Interval of the difference of each metric between runs of two recipes, paired by seed and by test image.

    Run s of the one side is compared with run s of the other, both on the same resampled images. None where the test
    set has no object of the kind. The names of metrics are those of `resample`.
    """
    if len(baseline) != len(remedy) or not baseline:
        raise ValueError(f"expected as many runs on both sides, at least one, but got {len(baseline)}, {len(remedy)}")
    sides = [resample(runs, metrics, groups=groups, draws=draws, seed=seed) for runs in (baseline, remedy)]
    images = baseline[0].images
    return {m: interval(sides[0][m], sides[1][m], images=images, seed=seed, level=level) for m in metrics}


def resample(
    runs: Sequence[MatchTable],
    metrics: Sequence[str],
    *,
    groups: Sequence[str] | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """metric -> (S, 1 + draws): each run's value on the test set as it is, then on `draws` resampled test sets.

    The resampled sets depend on `seed` and the number of images alone, so runs that are resampled apart stay paired.
    Metrics: "AP", "AP50", "AP75", "AP90", "oLRP"; "AP_small", "AP_medium", "AP_large"; "AP_rare", "AP_common",
    "AP_frequent" (`groups` names the group of each class); TIDE's "TIDE/Cls" and so on; and "AP/NAME", "AP50/NAME",
    "oLRP/NAME" (or another of the first five) for the class NAME.
    """
    count = {run.images for run in runs}
    if len(count) != 1 or 0 in count:
        raise ValueError(f"expected runs, all on the same test images, but got {sorted(count)} images")
    images = count.pop()
    drawn = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=draws)
    weights = np.concatenate((np.ones((1, images), np.int64), drawn))
    values = [metric_values(run, metrics, groups, weights) for run in runs]
    return {metric: np.stack([value[metric] for value in values]) for metric in metrics}


def interval(
    baseline: np.ndarray, remedy: np.ndarray, *, images: int, seed: int = 0, level: float = 0.95
) -> Interval | None:
    """Interval of the difference between two tables of `resample`; None where the metric does not exist.

    The observed difference plus and minus Student's t times the standard deviation of the draws. Of S seeds, each draw
    takes S - 1: to take S makes the spread of few seeds look too small (Rao and Wu 1988). The degrees of freedom are
    Satterthwaite's for seeds and images together: with three seeds that disagree they are close to two, and quantiles
    of the draws would be far too narrow. With one seed the interval speaks of the test images alone.
    """
    difference = remedy - baseline
    mean = float(difference[:, 0].mean())
    difference = difference[:, ~np.isnan(difference).any(0)]
    if np.isnan(mean) or difference.shape[1] < 2:
        return None
    runs = len(difference)
    size = max(runs - 1, 1)
    chosen = np.random.default_rng((seed, 1)).multinomial(size, np.full(runs, 1 / runs), size=difference.shape[1] - 1)
    variance = float(((chosen * difference[:, 1:].T).sum(1) / size).var())
    freedom = _freedom(difference[:, 0], variance, images)
    reach = float(stats.t.isf((1 - level) / 2, freedom)) * variance**0.5
    return Interval(mean, mean - reach, mean + reach)


def _freedom(observed: np.ndarray, variance: float, images: int) -> float:
    """Satterthwaite's degrees of freedom of a variance of which the seeds' part has S - 1 and the rest images - 1."""
    of_images = max(images - 1, 1)
    if len(observed) == 1 or variance == 0:
        return of_images
    seeds = min(float(observed.var(ddof=1)) / len(observed), variance)
    return variance**2 / (seeds**2 / (len(observed) - 1) + (variance - seeds) ** 2 / of_images)
