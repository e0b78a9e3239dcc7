"""What the scores of detections mean: score against tightness of the box, false positives against the threshold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..data.annotations import Annotations
from ..detections import Predictions, load_predictions
from .matching import equal_pairs, matches_of, paired_iou

__all__ = ["false_positives", "nearest_iou", "score_by_iou"]


def score_by_iou(
    annotations: Annotations, predictions: Sequence[dict] | str | Path | Predictions, *, bins: int = 10
) -> dict[str, list]:
    """Mean score of the detections by IoU with their nearest object of the same class.

    A detector whose tight boxes score highest, as prime sample attention promises, gives a rising line. Returns
    {"iou": bins + 1 edges, "score": mean of each bin (None where empty), "count"}.
    """
    if bins < 1:
        raise ValueError(f"expected bins to be at least 1 but got {bins}")
    found = load_predictions(predictions, annotations)
    cell = np.minimum((nearest_iou(annotations, found) * bins).astype(np.int64), bins - 1)
    count = np.bincount(cell, minlength=bins)
    total = np.bincount(cell, found.score, minlength=bins)
    return {
        "iou": np.linspace(0, 1, bins + 1).tolist(),
        "score": [t / n if n else None for t, n in zip(total.tolist(), count.tolist())],
        "count": count.tolist(),
    }


def nearest_iou(annotations: Annotations, predictions: Predictions) -> np.ndarray:
    """(D,) the largest IoU of each detection with an object of its class in its image; 0 where there is none.

    Crowds and difficult boxes are no objects here.
    """
    plain = np.flatnonzero(~(annotations.crowd | annotations.difficult))
    stride = len(annotations.classes) + 1
    key = annotations.image[plain] * stride + annotations.label[plain]
    detection, at = equal_pairs(predictions.image * stride + predictions.label, key)
    truth = plain[at]
    best = np.zeros(len(predictions))
    np.maximum.at(best, detection, paired_iou(predictions.boxes[detection], annotations.boxes[truth]))
    return best


def false_positives(
    annotations: Annotations,
    predictions: Sequence[dict] | str | Path | Predictions,
    thresholds: Sequence[float] = tuple(i / 20 for i in range(1, 20)),
) -> dict[str, list[float]]:
    """False positives an image (at IoU .5) among the detections that score at least each threshold."""
    found = load_predictions(predictions, annotations)
    matches = matches_of(annotations, found)["all"]
    wrong = [m.score[~m.hit[0] & ~m.ignored[0]] for m in matches]
    score = np.sort(np.concatenate([np.empty(0), *wrong]))
    above = len(score) - np.searchsorted(score, np.asarray(thresholds, np.float64), side="left")
    return {
        "threshold": [float(t) for t in thresholds],
        "per_image": (above / max(len(annotations), 1)).tolist(),
    }
