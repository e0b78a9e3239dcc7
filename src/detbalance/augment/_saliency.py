"""An object cut out of its box without a mask: what differs in colour from what lies around the box.

Two colour histograms, of the object and of what is around it, sharpen each other, as the two colour models of GrabCut
do; in place of its graph cut the map of log odds is smoothed. Nothing is learnt beforehand: an object of the colours of
its background is cut as the ellipse in its box, one with nothing around it as its box.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

_LEVELS = 12  # of each colour in the histograms
_ROUNDS = 3
_FEWEST, _NARROWEST = 0.2, 0.6  # of the box's area and of its sides, or it is no cut of the object
_SMOOTH = 0.6 * np.eye(_LEVELS) + 0.2 * (np.eye(_LEVELS, k=1) + np.eye(_LEVELS, k=-1))
_SMOOTH[0, 0] = _SMOOTH[-1, -1] = 0.8  # beyond the ends it goes on as at the ends


def salient(pixels: np.ndarray, box: tuple[int, int, int, int], other: np.ndarray) -> np.ndarray:
    """The object's pixels.

    Args:
        pixels: (3, h, w) in [0, 1]; the box with some of what lies around it.
        box: xyxy, whole pixels of the window.
        other: (h, w) bool, where other objects may be: it is learnt from neither.

    Returns (h, w) bool, within the box; all of the box where what stands out is too small to be the object.
    """
    inside = np.zeros(pixels.shape[1:], bool)
    x1, y1, x2, y2 = box
    inside[y1:y2, x1:x2] = True
    radius = _radius(inside.shape, box)
    # Log odds of a place alone: more likely object in the middle than in the corners.
    around, core, prior = ~inside & ~other, radius < 0.6, np.clip(1.0 - radius, -0.4, 1.0)
    if around.sum() < 8 or not core.any():
        return inside
    levels = np.minimum((pixels * _LEVELS).astype(np.int64), _LEVELS - 1)
    colour = (levels[0] * _LEVELS + levels[1]) * _LEVELS + levels[2]
    found, background = core, around
    blur = min(1.0, 0.05 * min(x2 - x1, y2 - y1))  # a pixel of a small object is much of it
    for _ in range(_ROUNDS):
        odds = np.log(_density(colour, found)) - np.log(_density(colour, background))
        found = inside & (ndimage.gaussian_filter(np.clip(odds[colour], -4, 4), blur) + prior > 0)
        if not found.any():
            return inside
        background = around | (inside & ~found)
    return _whole(found, box) if found.any() else inside


def _density(colour: np.ndarray, where: np.ndarray) -> np.ndarray:
    """(levels^3,) of the colours there, smoothed so that neighbouring colours count."""
    counts = np.bincount(colour[where], minlength=_LEVELS**3).reshape((_LEVELS,) * 3).astype(float)
    smooth = (_SMOOTH @ (_SMOOTH @ counts / counts.sum() @ _SMOOTH).reshape(_LEVELS, -1)).ravel()
    return smooth + 1e-3 / _LEVELS**3


def _radius(shape: tuple[int, int], box: tuple[int, int, int, int]) -> np.ndarray:
    """(h, w) distance from the box's centre: 1 on the ellipse that fills the box."""
    x1, y1, x2, y2 = box
    y, x = np.ogrid[: shape[0], : shape[1]]
    return np.hypot((x + 0.5 - (x1 + x2) / 2) / (x2 - x1), (y + 0.5 - (y1 + y2) / 2) / (y2 - y1)) * 2


def _whole(found: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """The largest piece, without holes; the box where that is no cut of the object."""
    x1, y1, x2, y2 = box
    pieces, count = ndimage.label(found)
    if count > 1:
        found = pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])
    found = ndimage.binary_fill_holes(found)
    rows, columns = np.flatnonzero(found.any(1)), np.flatnonzero(found.any(0))
    width, height = np.ptp(columns) + 1, np.ptp(rows) + 1
    good = found.sum() >= _FEWEST * (x2 - x1) * (y2 - y1)
    if good and width >= _NARROWEST * (x2 - x1) and height >= _NARROWEST * (y2 - y1):
        return found
    found = np.zeros_like(found)
    found[y1:y2, x1:x2] = True
    return found
