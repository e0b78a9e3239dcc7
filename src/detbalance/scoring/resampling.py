"""AP, oLRP and TIDE on many resampled test sets at once: every image counts as often as it was drawn."""

from __future__ import annotations

import numpy as np

from .matching import ClassMatches

__all__ = ["resampled_ap", "resampled_lrp", "resampled_tide"]

_RECALLS = np.linspace(0.0, 1.0, 101)
_CELLS = 2_000_000
"""draws times detections worked on at once: keeps the tables within a few megabytes"""


def resampled_ap(matches: ClassMatches, weights: np.ndarray) -> np.ndarray:
    """(N, T) average precision at each IoU threshold under the image multiplicities `weights` (N, I).

    Equal to pycocotools' 101-point interpolated precision on a data set that holds image i `weights[n, i]` times; NaN
    where no object is left. Precision is wanted only where a hit raises the recall: each hit stands for the recall
    levels that it is the first to reach, so one table of draws by hits does for all.
    """
    return _in_chunks(_ap, matches, weights)


def resampled_lrp(matches: ClassMatches, weights: np.ndarray) -> np.ndarray:
    """(N, 1) optimal LRP error under the image multiplicities `weights` (N, I); NaN where no object is left."""
    return _in_chunks(_lrp, matches, weights)


def resampled_tide(
    matches: tuple[ClassMatches, ...], repaired: dict[str, tuple[ClassMatches, ...]], weights: np.ndarray
) -> dict[str, np.ndarray]:
    """(N,) AP50 lost to each of TIDE's errors, mean over the classes that have objects; NaN where none has."""
    found = np.stack([resampled_ap(m.at(0), weights)[:, 0] for m in matches])
    exists = ~np.isnan(found)
    count = np.where(exists.any(0), exists.sum(0), np.nan)

    def mean(values: np.ndarray) -> np.ndarray:
        return np.where(exists, np.nan_to_num(values), 0.0).sum(0) / count

    return {
        error: mean(np.stack([resampled_ap(m, weights)[:, 0] for m in tables])) - mean(found)
        for error, tables in repaired.items()
    }


def _in_chunks(function, matches: ClassMatches, weights: np.ndarray) -> np.ndarray:
    step = max(1, _CELLS // max(1, len(matches.score)))
    parts = [function(matches, weights[first : first + step]) for first in range(0, len(weights), step)]
    return np.concatenate(parts)


def _ap(matches: ClassMatches, weights: np.ndarray) -> np.ndarray:
    objects = (weights @ matches.objects)[:, None]
    counted, seen = None, None
    end = int(np.flatnonzero(matches.hit.any(0)).max(initial=-1)) + 1  # what follows the last hit changes nothing
    drawn = weights[:, matches.image[:end]].astype(np.int32)
    result = np.zeros((len(weights), len(matches.hit)))
    for t, (hit, ignored) in enumerate(zip(matches.hit[:, :end], matches.ignored[:, :end])):
        if counted is None or (counted == ignored).any():  # most often the same at every threshold
            counted = ~ignored
            seen = np.cumsum(drawn[:, counted], axis=1, dtype=np.int32)
        place = (np.cumsum(counted) - 1)[hit]
        hits = np.cumsum(drawn[:, hit], axis=1, dtype=np.int32)
        precision = hits / (seen[:, place] + np.spacing(1))
        best_from_here = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        levels = _levels_reached(hits / np.maximum(objects, 1))
        result[:, t] = (best_from_here * np.diff(levels, axis=1, prepend=0)).sum(1) / len(_RECALLS)
    return np.where(objects > 0, result, np.nan)


def _levels_reached(recall: np.ndarray) -> np.ndarray:
    """How many of the recall levels are at most `recall`: `searchsorted(..., side="right")`, many times faster.

    The levels are evenly spaced up to their last bit, so the guess is right or one too many.
    """
    guess = (recall * (len(_RECALLS) - 1) + 1e-6).astype(np.int32)
    return guess + (_RECALLS[guess] <= recall)


def _lrp(matches: ClassMatches, weights: np.ndarray, iou: float = 0.5) -> np.ndarray:
    objects = (weights @ matches.objects)[:, None]
    counted = ~matches.ignored[0]
    hit, image = matches.hit[0, counted], matches.image[counted]
    below, distance = -matches.score[counted], (1 - matches.iou[counted][hit]) / (1 - iou)
    # A threshold keeps or drops equal scores together: look at each score that has a hit, and at its last detection.
    scores = np.unique(below[hit])
    last, last_hit = (np.searchsorted(column, scores, side="right") - 1 for column in (below, below[hit]))
    kept = np.cumsum(weights[:, image], axis=1, dtype=np.int32)[:, last]
    drawn = weights[:, image[hit]]
    hits = np.cumsum(drawn, axis=1)[:, last_hit]
    error = np.cumsum(drawn * distance, axis=1)[:, last_hit] + kept + objects - 2 * hits
    error /= np.maximum(kept + objects - hits, 1)
    return np.where(objects > 0, error.min(axis=1, initial=1.0, keepdims=True), np.nan)
