"""A detector's anchors as a point, for a search: there and back, its bounds, and where k-means says to start."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..anchor_settings import AnchorSettings
from ..clusters import cluster_shapes
from ..data.annotations import Annotations

__all__ = ["Space", "sides_of"]

_LEAST, _MOST_STRIDES, _OCTAVES, _RATIOS, _BOX_RATIOS = 0.5, 16.0, (1.05, 2.5), (0.2, 5.0), (1.1, 5.0)


class Space:
    """A detector's anchors as a point: the first size of each level, what the others of a level are of it, the ratios;
    all as logarithms of base 2. SSD: the scales, and the ratios that differ."""

    def __init__(self, own: AnchorSettings, image_size: tuple[int, int]):
        self.own, self.image_size, self.ssd = own, image_size, own.detector == "ssd"
        if self.ssd:
            self.kinds = tuple(sorted({r for level in own.ratios for r in level}))
            limits = [(0.02, 1.1)] * len(own.scales) + [_BOX_RATIOS] * len(self.kinds)
        else:
            strides, longest = own.preset(image_size).strides, max(image_size)
            limits = [(_LEAST * s, max(min(_MOST_STRIDES * s, longest), s)) for s in strides]
            limits += [_OCTAVES] * (len(own.sizes[0]) - 1) + [_RATIOS] * len(own.ratios)
        self.bounds = [tuple(np.log2(pair)) for pair in limits]

    def point(self, settings: AnchorSettings) -> np.ndarray:
        """Where in the space some anchors lie."""
        if self.ssd:
            each = {k: r for had, has in zip(self.own.ratios, settings.ratios) for k, r in zip(had, has)}
            return np.log2([*settings.scales, *(each[kind] for kind in self.kinds)])
        sizes = np.array(settings.sizes, float)
        octaves = np.exp(np.log(sizes[:, 1:] / sizes[:, :1]).mean(0))
        return np.log2([*sizes[:, 0], *octaves, *settings.ratios])

    def settings(self, point: np.ndarray) -> AnchorSettings:
        """The anchors at a point, in numbers that are fit to be written down."""
        value = 2.0 ** np.asarray(point)
        if self.ssd:
            scales, kinds = np.sort(value[: len(self.own.scales)]), np.sort(value[len(self.own.scales) :])
            each = dict(zip(self.kinds, kinds.round(2).tolist()))
            ratios = tuple(tuple(each[r] for r in level) for level in self.own.ratios)
            return replace(self.own, scales=tuple(scales.round(3).tolist()), ratios=ratios)
        levels, more = len(self.own.sizes), len(self.own.sizes[0]) - 1
        base, octaves, ratios = (np.sort(part) for part in np.split(value, (levels, levels + more)))
        sizes = base[:, None] * np.concatenate(([1.0], octaves))
        sizes = tuple(tuple(max(1, round(s)) for s in level) for level in sizes.tolist())
        return replace(self.own, sizes=sizes, ratios=tuple(ratios.round(2).tolist()))

    def clustered(self, annotations: Annotations, seed: int) -> AnchorSettings:
        """By k-means: of the sides for sizes, smallest first, and of the shapes for ratios; the detector's own where
        there are too few objects for it."""
        rows = np.flatnonzero(~annotations.crowd & (annotations.sizes[annotations.image] > 0).all(1))
        shapes = sides_of(annotations, rows, self.image_size, self.ssd)
        shapes = shapes[(shapes > 0).all(1)]
        side = np.sqrt(shapes.prod(1))
        count = len(self.own.scales) - 1 if self.ssd else sum(map(len, self.own.sizes))
        kinds = len(self.kinds) if self.ssd else len(self.own.ratios)
        if len(np.unique(side)) < max(count, kinds):
            return self.own
        sides = cluster_shapes(np.stack((side, side), 1), count, seed=seed)[:, 0]
        shapes = cluster_shapes(shapes / side[:, None], kinds, seed=seed)
        ratios = shapes[:, 1] / shapes[:, 0]
        if self.ssd:
            sides = sides / np.sqrt(np.prod(self.image_size))
            sides, ratios = [*sides, min(1.5 * sides[-1], 1.1)], np.maximum(ratios, 1 / ratios)
            return self.settings(self._within(np.log2([*sides, *ratios])))
        sizes = sides.reshape(len(self.own.sizes), -1)
        octaves = np.exp(np.log(sizes[:, 1:] / sizes[:, :1]).mean(0))
        return self.settings(self._within(np.log2([*sizes[:, 0], *octaves, *ratios])))

    def _within(self, point: np.ndarray) -> np.ndarray:
        return np.clip(point, *np.array(self.bounds).T)


def sides_of(annotations: Annotations, rows: np.ndarray, image_size: tuple[int, int], stretched: bool) -> np.ndarray:
    """(B, 2) widths and heights in pixels of the input."""
    boxes = annotations.boxes[rows].astype(np.float64)
    sizes = annotations.sizes[annotations.image[rows]].astype(np.float64)
    short, long = sorted(image_size)
    if stretched:
        scale = np.array(image_size[::-1]) / sizes
    else:
        scale = np.minimum(short / sizes.min(1, initial=np.inf), long / sizes.max(1, initial=1))[:, None]
    return (boxes[:, 2:] - boxes[:, :2]) * scale
