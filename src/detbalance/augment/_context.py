"""What is around objects of each class, and around places without any: low-resolution appearance, position and size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..data.annotations import Annotations
from ._piece import in_unit

_FREE = 0.3  # of an object at most lies in a place that counts as background (the authors' number)
_BACKGROUND, _TRIES = 3, 12  # such places for each object (the authors' number), among so many
_TOGETHER = 1000  # objects from which it is learnt


@dataclass(frozen=True, eq=False)
class Contexts:
    """Joint statistics of class, size, position and surroundings: the features of objects, and of background.

    A place is as likely for class c as its surroundings are among those of class c: f_c(x) is the mean over the objects
    of c of exp(-|x - x_i|^2 / (2 width^2)), and its score f_c / (f_c + f_0), f_0 from places without objects.
    """

    features: np.ndarray
    """(N, D), standardised; N places"""
    label: np.ndarray
    """(N,) 1..K, 0 for background"""
    mean: np.ndarray
    scale: np.ndarray
    shapes: np.ndarray
    """(N, 2) log of width and height over the image's, of the places with objects"""
    width: float

    @classmethod
    def learnt(cls, annotations: Annotations, others: Callable, width: float) -> Contexts:
        """From up to 1,000 objects, evenly over the classes, and three times as many places without any."""
        rng = np.random.default_rng(0)  # the same data give the same model
        chosen = _chosen(annotations, rng)
        raw, label, shapes = [np.zeros((0, SIZE))], [np.zeros(0, int)], [np.zeros((0, 2))]
        image_of = annotations.image[chosen]
        for i in np.unique(image_of):
            image, target = others(int(i))
            pixels, boxes = in_unit(image).numpy(), target["boxes"].as_subclass(Tensor).double().numpy()
            rows = _rows(annotations, int(i), chosen[image_of == i])
            mine = boxes[rows]
            empty = _background(rng, mine, boxes, pixels.shape[-2:])
            raw += [features(pixels, mine), features(pixels, empty)]
            label += [target["labels"].numpy()[rows], np.zeros(len(empty), int)]
            shapes.append(_log_shape(mine, pixels.shape[-2:]))
        raw, label = np.concatenate(raw), np.concatenate(label)
        mean, scale = (raw.mean(0), raw.std(0)) if len(raw) else (np.zeros(SIZE), np.ones(SIZE))
        scale = np.maximum(scale, 1e-6) / WEIGHT
        return cls(((raw - mean) / scale).astype(np.float32), label, mean, scale, np.concatenate(shapes), width)

    def shape(self, label: int) -> np.ndarray:
        """(n, 2) the shapes of the objects of a class."""
        return self.shapes[self.label[self.label > 0] == label]

    def score(self, pixels: np.ndarray, boxes: np.ndarray, label: int) -> np.ndarray:
        """(M,) how well each place suits a class: 0.5 where it is as likely as background."""
        places = (features(pixels, boxes) - self.mean) / self.scale
        mine, none = (self._density(places, self.label == k) for k in (label, 0))
        return mine / np.maximum(mine + none, 1e-300)

    def _density(self, places: np.ndarray, of: np.ndarray) -> np.ndarray:
        known = self.features[of]
        if not len(known):
            return np.full(len(places), 1e-300)
        square = places.astype(np.float32) @ (-2 * known.T)
        square += (places**2).sum(1, dtype=np.float32)[:, None]
        square += (known**2).sum(1)
        np.maximum(square, 0, out=square)
        square *= -0.5 / self.width**2
        return np.exp(square, out=square).mean(1, dtype=np.float64)


def _chosen(annotations: Annotations, rng: np.random.Generator) -> np.ndarray:
    """Rows of the annotations: as many of each class as there are, up to an even share of all."""
    rows = rng.permutation(np.flatnonzero(~annotations.crowd))
    label, most = annotations.label[rows], max(20, _TOGETHER // max(1, len(annotations.classes)))
    order = np.argsort(label, kind="stable")
    rank = np.arange(len(rows)) - np.searchsorted(label[order], label[order])
    return np.sort(rows[order[rank < most]])


def _rows(annotations: Annotations, image: int, rows: np.ndarray) -> np.ndarray:
    """The same objects as rows of the image's target, which has no crowds."""
    here = annotations.rows(image)
    return (np.cumsum(~annotations.crowd[here]) - 1)[rows - here.start]


# ---- features of a place -------------------------------------------------------------------------------------------

SIZE = 8 * 4 + 4
WEIGHT = np.concatenate((np.full(32, 32**-0.5), np.ones(4) * 2**-0.5))
"""appearance, position and shape count alike, however many numbers each has"""


def features(pixels: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """(N, 36): mean colour and roughness of the eight fields around each box, which reach half its size to each side;
    its centre; log of its width and height. All relative to the image. A field beyond the image is as the mean of the
    others."""
    height, width = pixels.shape[-2:]
    table = torch.zeros(4, height + 1, width + 1, dtype=torch.float64)
    table[:3, 1:, 1:], table[3, 1:, 1:] = torch.from_numpy(pixels), torch.from_numpy(_rough(pixels))
    table = table.cumsum(1).cumsum(2).numpy()  # several times as fast as numpy's
    size = boxes[:, 2:] - boxes[:, :2]
    lines = np.stack((boxes[:, :2] - size / 2, boxes[:, :2], boxes[:, 2:], boxes[:, 2:] + size / 2), 1)
    lines = np.clip(np.rint(lines), 0, (width, height)).astype(int)  # (N, 4, 2)
    corners = table[:, lines[:, :, None, 1], lines[:, None, :, 0]]  # (4, N, 4 rows, 4 columns)
    sums = np.diff(np.diff(corners, axis=2), axis=3).reshape(4, len(boxes), 9)
    area = (np.diff(lines[:, :, 1])[:, :, None] * np.diff(lines[:, :, 0])[:, None, :]).reshape(-1, 9)
    ring = np.delete(np.arange(9), 4)
    sums, area = sums[..., ring], area[:, ring]
    mean = sums.sum(2, keepdims=True) / np.maximum(area.sum(1), 1)[:, None]
    look = np.where(area > 0, sums / np.maximum(area, 1), mean).transpose(1, 0, 2).reshape(len(boxes), 32)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2 / (width, height)
    return np.concatenate((look, centre, _log_shape(boxes, (height, width))), 1)


def _rough(pixels: np.ndarray) -> np.ndarray:
    """(H, W) difference to the neighbours on the right and below."""
    grey = pixels.mean(0)
    return abs(np.diff(grey, axis=1, append=grey[:, -1:])) + abs(np.diff(grey, axis=0, append=grey[-1:]))


def _log_shape(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.log(np.maximum(boxes[:, 2:] - boxes[:, :2], 1) / (size[1], size[0]))


def _background(rng: np.random.Generator, mine: np.ndarray, all_: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Places of the objects' shapes where none of the objects is."""
    boxes = scattered(np.tile(mine[:, 2:] - mine[:, :2], (_TRIES, 1)), size, rng.random)
    free = (most_covered(all_, boxes) < _FREE).reshape(_TRIES, len(mine))
    first = free & (free.cumsum(0) <= _BACKGROUND)  # of each shape as many: or the size alone would tell the class
    return boxes[first.reshape(-1)]


def scattered(shape: np.ndarray, size: tuple[int, int], random: Callable) -> np.ndarray:
    """(N, 4) boxes of the given widths and heights, each anywhere in the image."""
    extent = np.array(size[::-1], float)
    shape = np.minimum(shape, extent)
    corner = (extent - shape) * random(shape.shape)
    return np.concatenate((corner, corner + shape), 1)


def most_covered(objects: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """(N,) of the object that each box covers most, the share."""
    if not len(objects):
        return np.zeros(len(boxes))
    low = np.maximum(objects[:, None, :2], boxes[None, :, :2])
    high = np.minimum(objects[:, None, 2:], boxes[None, :, 2:])
    area = np.maximum((objects[:, 2:] - objects[:, :2]).prod(1), 1e-6)
    return (np.clip(high - low, 0, None).prod(2) / area[:, None]).max(0)
