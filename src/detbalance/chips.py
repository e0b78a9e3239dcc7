"""Chips: which windows of an image are worth training on. Numpy only.

Singh, Najibi, Davis, SNIPER: Efficient Multi-Scale Training, NeurIPS 2018, arXiv:1805.09300. An image is scaled to
several sizes, and on each lies a grid of chips of K x K pixels, d pixels apart (section 3.1). Of each scale those are
chosen, greedily, that hold the most objects which are valid there and in no chosen chip yet, until every valid object
lies wholly in a chip (section 3.2). For the background, the same is done with the proposals of a weak network, those
that lie in a chosen chip already left out, as long as a chip holds so many of them (section 3.3).

All numbers are pixels of the original image, so that a chip of scale s is 1 / s as wide and as high as the image: with
the image's own shape, where the paper's is square.
"""

from __future__ import annotations

import numpy as np

__all__ = ["cover", "grid", "held", "places"]

_SLACK = 1e-6
"""pixels by which a box may stick out: numbers are rounded"""


def grid(length: float, chip: float, step: float) -> np.ndarray:
    """(P,) where the chips of a grid begin along one axis: every `step` pixels, and last at the border.

    >>> grid(100, 40, 25).tolist(), grid(30, 40, 25).tolist()
    ([0.0, 25.0, 50.0, 60.0], [0.0])
    """
    last = max(0.0, length - chip)
    starts = np.arange(int(np.ceil(last / step - _SLACK)) + 1) * float(step)
    return np.minimum(starts, last)


def places(size: tuple[float, float], chip: tuple[float, float], stride: float) -> tuple[np.ndarray, np.ndarray]:
    """Where the chips of a grid begin in x and in y. `stride` is a share of the chip; sizes are width and height.

    >>> [axis.tolist() for axis in places((64, 48), (32, 24), 0.5)]
    [[0.0, 16.0, 32.0], [0.0, 12.0, 24.0]]
    """
    x, y = (grid(length, side, stride * side) for length, side in zip(size, chip))
    return x, y


def held(boxes: np.ndarray, x: np.ndarray, y: np.ndarray, chip: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """(X, G) and (Y, G): which boxes fit between the left and right, the top and bottom borders of chips that begin
    there. A chip holds those that do both.

    >>> x, y = held(np.array([[0.0, 0, 5, 5], [6, 0, 20, 5]]), np.array([0.0, 6]), np.array([0.0]), (14, 8))
    >>> x.tolist(), y.tolist()
    ([[True, False], [False, True]], [[True, True]])
    """
    boxes = np.asarray(boxes, float).reshape(-1, 4)
    inside = [
        (starts[:, None] <= low + _SLACK) & (high <= starts[:, None] + side + _SLACK)
        for starts, low, high, side in zip((x, y), boxes.T[:2], boxes.T[2:], chip)
    ]
    return inside[0], inside[1]


def cover(
    boxes: np.ndarray, x: np.ndarray, y: np.ndarray, chip: tuple[float, float], *, least: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """The greedy cover: again and again the chip that holds the most boxes which no chosen chip holds yet.

    How many each chip holds is one matrix product; with every choice what it covers is taken off. All choices together
    cost what one table of all chips and boxes does, X Y G multiplications, but only (X + Y) G of memory.

    Args:
        boxes: (G, 4), xyxy.
        x, y: where the chips begin; there is one at each pair. Of equal ones that in the middle of the middle row is
            taken, so that objects have surroundings on all sides.
        chip: width and height.
        least: so many new boxes a chip must hold to be chosen.

    Returns:
        (C, 2) the corners of the chosen chips, as they were chosen, and (G,) which boxes lie wholly in one of them:
        with `least` 1 all that fit any chip.

    >>> boxes = np.array([[0.0, 0, 4, 4], [6, 0, 10, 4], [9, 0, 13, 4], [0, 0, 30, 4]])
    >>> corners, covered = cover(boxes, np.arange(0.0, 21, 3), np.array([0.0]), (10, 4))
    >>> corners.tolist(), covered.tolist()
    ([[3.0, 0.0], [0.0, 0.0]], [True, True, True, False])
    """
    across, down = held(boxes, x, y, chip)
    left = across.any(0) & down.any(0)
    counts = _count(across[:, left], down[:, left])
    chosen, covered = [], np.zeros(len(left), bool)
    while left.any():
        best = counts == counts.max()
        row = _middle(best.any(1))
        column = _middle(best[row])
        if counts[row, column] < least:
            break
        chosen.append((x[column], y[row]))
        inside = across[column] & down[row]
        covered |= inside
        new = inside & left
        counts -= _count(across[:, new], down[:, new])
        left &= ~new
    return np.array(chosen, float).reshape(-1, 2), covered


def _middle(mask: np.ndarray) -> int:
    """Of the places where it is true, the middle one."""
    found = np.flatnonzero(mask)
    return int(found[(len(found) - 1) // 2])


def _count(across: np.ndarray, down: np.ndarray) -> np.ndarray:
    """(Y, X) how many boxes each chip holds. Whole numbers below 2^24 are exact in float32."""
    return down.astype(np.float32) @ across.astype(np.float32).T
