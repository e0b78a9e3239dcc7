"""The windows of all images, those with objects and those of background, and which of them an epoch shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Windows"]


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of I images, W in all; each image has one at least."""

    starts: np.ndarray
    """(I + 1,) the windows of image i are rows starts[i]:starts[i + 1]"""
    boxes: np.ndarray
    """(W, 4) xyxy, pixels of the original image"""
    scale: np.ndarray
    """(W,) number of its scale"""
    background: np.ndarray
    """(W,) bool; the others are shown in every pass"""
    drawn: np.ndarray
    """(I,) how many of its background windows an image shows in a pass"""

    @classmethod
    def of(cls, images: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], drawn: np.ndarray) -> Windows:
        """From the windows, their scales and whether they are background, image by image, and how much background a
        pass shows of each at most."""
        boxes, scale, background = zip(*images) if images else ((), (), ())
        starts = np.concatenate(([0], np.cumsum([len(b) for b in boxes], dtype=np.int64)))
        rest = np.array([np.count_nonzero(b) for b in background], int)
        columns = (np.concatenate([np.zeros(0), *scale]).astype(int), np.concatenate([np.zeros(0), *background]) > 0)
        return cls(starts, np.concatenate([np.zeros((0, 4)), *boxes]), *columns, np.minimum(drawn, rest).astype(int))

    def counts(self) -> np.ndarray:
        """(I,) how many windows of each image a pass shows."""
        every = np.concatenate(([0], np.cumsum(~self.background)))
        return np.diff(every[self.starts]) + self.drawn

    def epoch(self, rng: np.random.Generator) -> np.ndarray:
        """The images of one pass over all windows."""
        counts = self.counts()
        return rng.permutation(np.repeat(np.arange(len(counts)), counts))

    def pick(self, i: int, nth: int, rng: np.random.Generator) -> int:
        """The row of the window that image i shows at its nth turn: another at each, until all have been shown.

        `rng` is the same for all turns of an epoch.
        """
        rows = np.arange(self.starts[i], self.starts[i + 1])
        rest = rng.permutation(rows[self.background[rows]])[: self.drawn[i]]
        order = rng.permutation(np.concatenate((rows[~self.background[rows]], rest)))
        return int(order[nth % len(order)])
