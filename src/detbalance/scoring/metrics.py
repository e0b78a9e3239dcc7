"""The metrics by name: AP, its parts, oLRP and TIDE of one run on resampled test sets."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from .resampling import resampled_ap, resampled_lrp, resampled_tide
from .result import GROUPS
from .table import MatchTable
from .tide import ERRORS

__all__ = ["metric_values"]

_THRESHOLDS = {"AP50": 0, "AP75": 5, "AP90": 8}
_SIZES = ("small", "medium", "large")


def metric_values(
    run: MatchTable, metrics: Sequence[str], groups: Sequence[str] | None, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """metric -> (N,) of one run under the image multiplicities `weights` (N, I); NaN where it does not exist.

    The names are those of `detbalance.statistics.resample`. What several metrics need is resampled once.
    """

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
