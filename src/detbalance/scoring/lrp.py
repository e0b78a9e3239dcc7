"""Localisation-recall-precision: one error that sees misplaced, false and missed boxes together.

Oksuz, Cam, Akbas, Kalkan, "Localization Recall Precision (LRP): A New Performance Metric for Object Detection",
ECCV 2018, arXiv:1807.01696, equations 1 to 3.
"""

from __future__ import annotations

import numpy as np

from .matching import ClassMatches

__all__ = ["optimal_lrp"]

_IOU = 0.5
"""tau: the least IoU of a hit"""


def optimal_lrp(matches: ClassMatches) -> dict[str, float | None]:
    """The least LRP error over all score thresholds, its three components, and the threshold that attains it.

    LRP = (sum over hits of (1 - IoU) / (1 - tau) + misses + lost objects) / (hits + misses + lost objects), tau = .5.
    Loc is the mean 1 - IoU of the hits, FP is 1 - precision, FN is 1 - recall. Where nothing is hit, the best is to
    detect nothing: oLRP and FN are 1, the others None. A class without objects has None throughout.

    >>> one_perfect_hit_of_two = ClassMatches(
    ...     image=np.zeros(1, int), score=np.array([0.8]), hit=np.ones((1, 1), bool), ignored=np.zeros((1, 1), bool),
    ...     iou=np.ones(1), objects=np.array([2]), row=np.zeros(1, int), truth=np.zeros(1, int))
    >>> optimal_lrp(one_perfect_hit_of_two)
    {'oLRP': 0.5, 'Loc': 0.0, 'FP': 0.0, 'FN': 0.5, 'threshold': 0.8}
    """
    objects = int(matches.objects.sum())
    if not objects:
        return dict.fromkeys(("oLRP", "Loc", "FP", "FN", "threshold"))
    counted = ~matches.ignored[0]
    score, hit, iou = matches.score[counted], matches.hit[0, counted], matches.iou[counted]
    if not hit.any():
        return {"oLRP": 1.0, "Loc": None, "FP": None, "FN": 1.0, "threshold": None}
    # A threshold keeps or drops all detections of equal score, so only the last of equals ends a set.
    last = np.flatnonzero(np.append(score[1:] != score[:-1], True))
    hits, kept, distance = np.cumsum(hit)[last], last + 1, np.cumsum(np.where(hit, 1 - iou, 0.0))[last]
    error = (distance / (1 - _IOU) + kept - hits + objects - hits) / (kept + objects - hits)
    best = int(np.argmin(np.where(hits > 0, error, np.inf)))
    h, n = int(hits[best]), int(kept[best])
    return {
        "oLRP": float(error[best]),
        "Loc": float(distance[best] / h),
        "FP": 1 - h / n,
        "FN": 1 - h / objects,
        "threshold": float(score[last[best]]),
    }
