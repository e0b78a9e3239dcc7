"""Is a difference between two recipes real? Paired bootstrap over test images and training seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import stats

from .evaluation import GROUPS
from .scoring.resampling import resampled_ap, resampled_lrp, resampled_tide
from .scoring.table import MatchTable
from .scoring.tide import ERRORS

__all__ = ["Interval", "Summary", "interval", "paired_interval", "paired_intervals", "resample", "summarise"]

_THRESHOLDS = {"AP50": 0, "AP75": 5, "AP90": 8}
_SIZES = ("small", "medium", "large")


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
    if len(count) != 1:
        raise ValueError(f"expected all runs on the same test images but got {sorted(count)} images")
    images = count.pop()
    drawn = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=draws)
    weights = np.concatenate((np.ones((1, images), np.int64), drawn))
    values = [_values(run, metrics, groups, weights) for run in runs]
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
    difference = difference[:, ~np.isnan(difference).any(0)]
    mean = float((remedy - baseline)[:, 0].mean())
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


def _values(
    run: MatchTable, metrics: Sequence[str], groups: Sequence[str] | None, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """metric -> (N,) of one run. What several metrics need is resampled once."""

    @cache
    def table(area: str) -> np.ndarray:  # (N, K, T)
        return np.stack([resampled_ap(matches, weights) for matches in run.areas[area]], axis=1)

    @cache
    def lrp() -> np.ndarray:  # (N, K, 1)
        return np.stack([resampled_lrp(matches, weights) for matches in run.areas["all"]], axis=1)

    @cache
    def tide() -> dict[str, np.ndarray]:
        return resampled_tide(run.areas["all"], run.repaired, weights)

    def value(metric: str) -> np.ndarray:
        base, part, name = _parsed(metric, run.classes, groups)
        if base == "TIDE":
            return tide()[name]
        chosen = _chosen(part, name, run.classes, groups)
        if base == "oLRP":
            return _mean(lrp()[:, chosen])
        cells = table(part if part in _SIZES else "all")[:, chosen]
        return _mean(cells if base == "AP" else cells[:, :, [_THRESHOLDS[base]]])

    return {metric: value(metric) for metric in metrics}


def _parsed(metric: str, classes: tuple[str, ...], groups: Sequence[str] | None) -> tuple[str, str, str]:
    """("AP", "small", ""), ("AP50", "", "cat") or ("TIDE", "", "Cls"); ValueError for what is no metric."""
    head, _, name = metric.partition("/")
    base, _, part = head.partition("_")
    names = ERRORS if base == "TIDE" else ("", *classes)
    parts = ("", *_SIZES, *GROUPS) if base == "AP" and not name else ("",)
    if base not in ("AP", *_THRESHOLDS, "oLRP", "TIDE") or part not in parts or name not in names:
        raise ValueError(
            "expected a metric such as 'AP', 'AP50', 'AP_small', 'AP_rare', 'oLRP', 'TIDE/Cls' or 'AP/NAME' with a "
            f"class of {', '.join(classes)}, but got {metric!r}"
        )
    if part in GROUPS and (groups is None or len(groups) != len(classes)):
        raise ValueError(f"expected groups with one name for each of {len(classes)} classes for {metric!r}")
    return base, part, name


def _chosen(part: str, name: str, classes: tuple[str, ...], groups: Sequence[str] | None) -> np.ndarray:
    """Rows of the classes that a metric speaks of."""
    if name:
        return np.array([classes.index(name)])
    if part in GROUPS:
        return np.flatnonzero(np.asarray(groups) == part)
    return np.arange(len(classes))


def _mean(cells: np.ndarray) -> np.ndarray:
    """(N,) mean over the classes and thresholds that exist; NaN where none does."""
    exists = ~np.isnan(cells)
    count = exists.sum((1, 2))
    return np.where(exists, cells, 0.0).sum((1, 2)) / np.where(count, count, np.nan)
