"""Shapes of boxes grouped by their overlap: k-means with the distance 1 - IoU. Numpy only."""

from __future__ import annotations

import numpy as np

__all__ = ["cluster_shapes", "shape_iou"]

_MOST = 20_000  # more boxes than this do not change the clusters
_RESTARTS, _ROUNDS = 8, 100


def cluster_shapes(shapes: np.ndarray, count: int, *, seed: int = 0) -> np.ndarray:
    """(count, 2) centres of (N, 2) shapes under the distance 1 - IoU, smallest area first; the best of several starts.

    >>> cluster_shapes(np.array([[10.0, 10], [12, 10], [50, 20], [50, 22]]), 2)
    array([[11., 10.],
           [50., 21.]])
    """
    random = np.random.default_rng(seed)
    if len(shapes) > _MOST:
        shapes = shapes[random.choice(len(shapes), _MOST, replace=False)]
    best, best_fit = shapes[:count], -1.0
    for _ in range(_RESTARTS):
        centres = _converge(shapes, _spread(shapes, count, random))
        fit = shape_iou(shapes, centres).max(1).mean()
        if fit > best_fit:
            best, best_fit = centres, fit
    return best[np.argsort(best.prod(1), kind="stable")]


def shape_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N, M) IoU of boxes of (N, 2) and (M, 2) widths and heights about the same centre.

    >>> shape_iou(np.array([[2.0, 2]]), np.array([[2.0, 2], [2, 1]]))
    array([[1. , 0.5]])
    """
    common = np.minimum(first[:, None], second).prod(2)
    return common / (first.prod(1)[:, None] + second.prod(1) - common)


def _spread(shapes: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """First centres far from one another (Arthur and Vassilvitskii 2007): drawn by the square of the distance."""
    centres = shapes[random.integers(len(shapes))][None]
    while len(centres) < count:
        far = (1 - shape_iou(shapes, centres).max(1)).clip(0) ** 2
        chosen = random.choice(len(shapes), p=far / far.sum() if far.sum() > 0 else None)
        centres = np.concatenate((centres, shapes[chosen][None]))
    return centres


def _converge(shapes: np.ndarray, centres: np.ndarray) -> np.ndarray:
    nearest = None
    for _ in range(_ROUNDS):
        before, nearest = nearest, shape_iou(shapes, centres).argmax(1)
        if before is not None and (before == nearest).all():
            break
        number = np.bincount(nearest, minlength=len(centres))
        total = np.stack([np.bincount(nearest, shapes[:, i], len(centres)) for i in range(2)], 1)
        centres = np.where(number[:, None] > 0, total / np.maximum(number, 1)[:, None], centres)
    return centres
