"""The anchors of a dataset as its detector labels them, counted so that they can be resampled."""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np

from .anchors import AnchorPreset, AnchorStatistics, anchor_statistics
from .bootstrap import Resampler
from .columns import Columns

__all__ = ["Labelled", "label_anchors"]

_RUNS = 32
_PER_IMAGE_OR_BOX = ("positives", "negatives", "ignored", "best_iou", "positives_per_box")


@dataclass(frozen=True, eq=False)
class Labelled:
    """The anchors of a dataset as its detector labels them, and the same for runs of images, for intervals."""

    columns: Columns
    whole: AnchorStatistics
    levels: np.ndarray
    """(runs, L) positives"""
    ious: np.ndarray
    """(runs, 100) positives by IoU in hundredths"""
    positions: np.ndarray
    """(runs, 1600) positives by the place of their corner"""
    runs: Resampler
    """draws runs of images; what is counted per image or box is drawn by image"""

    @property
    def threshold(self) -> float:
        """IoU from which on an anchor is positive; the negative threshold where no IoU makes it so (YOLO)."""
        preset = self.whole.preset
        return preset.positive if preset.positive < 1 else preset.negative

    @property
    def best(self) -> np.ndarray:
        """(B,) best IoU of each object of `columns`, nan in images of unknown size."""
        return self.whole.best_iou[self.columns.rows]

    @property
    def per_object(self) -> np.ndarray:
        """(B,) positives of each object of `columns`."""
        return self.whole.positives_per_box[self.columns.rows]


def label_anchors(columns: Columns, preset: AnchorPreset, sampler: Resampler) -> Labelled:
    """Label all anchors, in up to 32 runs of consecutive images.

    What only exists as a sum over images (levels, IoUs, places) is resampled by runs: a block bootstrap, which also
    keeps together neighbouring images that resemble each other.
    """
    edges = np.unique(np.linspace(0, columns.images, _RUNS + 1).astype(np.int64))
    whole, sums = anchor_statistics(columns.data.subset(np.zeros(0, np.int64)), preset), []
    for first, last in pairwise(edges.tolist()):
        part = anchor_statistics(columns.data.subset(np.arange(first, last)), preset)
        sums.append((part.per_level[:, 0], part.iou_histogram[1], part.position.ravel()))
        whole = _joined(whole, part)
    sums = sums or [(whole.per_level[:, 0], whole.iou_histogram[1], whole.position.ravel())]
    levels, ious, positions = map(np.stack, zip(*sums))
    runs = Resampler(len(sums), sampler.repeats, sampler.seed)
    return Labelled(columns, whole, levels, ious, positions, runs)


def _joined(first: AnchorStatistics, second: AnchorStatistics) -> AnchorStatistics:
    """The statistics of two runs of images as those of one."""
    joined = {"preset": first.preset}
    for name in (f.name for f in fields(AnchorStatistics) if f.name != "preset"):
        one, other = getattr(first, name), getattr(second, name)
        joined[name] = np.concatenate((one, other)) if name in _PER_IMAGE_OR_BOX else one + other
    return AnchorStatistics(**joined)
