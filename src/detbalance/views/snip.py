"""SNIP: scale normalisation for image pyramids."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from ..chips import held
from ..common import require
from ..data.annotations import Annotations
from ..taxonomy import Imbalance
from ..valid_ranges import limits
from ._scales import check_scales, chip_of, valid_at, window_at
from ._view import View, known, objects, side_of

__all__ = ["SNIP"]


@dataclass(frozen=True, kw_only=True)
class SNIP:
    """Trains at several scales of each image, at each on the objects alone that are then of a size as in pre-training:
    one network for all scales sees every object, and none that is tiny or huge.

    Singh and Davis, section 5: each scale has a valid range, sizes in the original image; invalid objects, and anchors
    that overlap one by more than 0.3, take no part. A scale is drawn for each image. At scales above 1 the image would
    be larger than the memory has room for: a window of the training size is shown, one of a set that holds all valid
    objects. The set is made as in section 5.3: of 50 random windows, snapped to the borders, the one that holds the
    most, until all are held. Images without valid objects show a random window, as background.

    The paper's scales are 1400 x 2000, 800 x 1200 and 480 x 800 pixels of COCO's images, of 640 x 480 as a rule, with
    ranges of 0 to 80, 40 to 160 and from 120 pixels; here the middle one is the training size, and ranges are shares
    (see `valid_ranges`). Here the set is drawn anew in every epoch. From memory: that a scale is drawn evenly. The
    paper does not say what becomes of objects that a window cuts off: here, as in SNIPER, a part is valid if its own
    size is, and `visible` of the object is in it. Detection is `looks.AtScales` with the same scales and ranges.

    Shapes: a row of the annotations -> View.
    Identity: the scale 1 with the range (0, 1) is the plain training.
    Errors: ValueError for scales without one of 1 or less, and for ranges that leave sizes to no scale.

    >>> from detbalance.data.annotations import Annotations
    >>> data = Annotations.from_arrays(classes=["a"], sizes=[(640, 480)], image=[0, 0], label=[1, 1],
    ...                                boxes=[[600, 440, 640, 480], [0, 0, 300, 300]])
    >>> method = SNIP(scales=(2.0, 1.0), ranges=((0, 0.2), (0.1, 1))).fit(data, (192, 256))
    >>> one = method(0, 0, np.random.default_rng(1))
    >>> one.window[2:], one.valid.tolist()
    ((640.0, 480.0), [True, False])
    """

    scales: tuple[float, ...] = (1.75, 1.0, 0.6)
    """factors on the training size"""
    ranges: tuple[tuple[float, float], ...] = ((0.0, 0.144), (0.072, 0.289), (0.217, 1.0))
    """of each scale, the sides of objects that are valid at it, over the image's"""
    candidates: int = 50
    """random windows of which the best is taken"""
    visible: float = 0.3
    """share of a cut object that must be seen, or it is ignored"""
    data: Annotations | None = field(default=None, repr=False, compare=False)
    """what `fit` was told"""

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.OBJECT_SCALE,)
    paper: ClassVar[str] = (
        "Singh, Davis, An Analysis of Scale Invariance in Object Detection: SNIP, CVPR 2018, arXiv:1711.08189"
    )

    def __post_init__(self) -> None:
        check_scales(self.scales, self.ranges)
        require(self.candidates >= 1, "candidates", "1 or more", self.candidates)
        require(0 <= self.visible <= 1, "visible", "from 0 to 1", self.visible)

    def fit(self, annotations: Annotations, image_size: tuple[int, int], proposals: list | None = None) -> SNIP:
        """A copy that knows the data."""
        return replace(self, data=annotations)

    def __call__(self, i: int, nth: int, rng: np.random.Generator) -> View:
        boxes, size = objects(known(self.data, self), i)
        number, rng = _turn(len(self.scales), nth, rng)
        chips = [chip_of(size, scale) for scale in self.scales]
        fits = np.array([((boxes[:, 2:] - boxes[:, :2]) <= chip).all(1) for chip in chips])
        valid = valid_at(boxes, size, self.ranges, fits, list(np.argsort(self.scales)[::-1]))[number]
        corner = (0.0, 0.0)
        if self.scales[number] > 1:
            crowd = self.data.crowd[self.data.rows(i)]
            corners = self._corners(boxes[valid & ~crowd], size, chips[number], rng)
            corner = corners[rng.integers(len(corners))]
        window = window_at(corner, size, self.scales[number])
        return View.of_range(window, boxes, valid, limits(self.ranges[number], side_of(size)), self.visible)

    def _corners(self, boxes: np.ndarray, size: tuple, chip: tuple, rng: np.random.Generator) -> list[np.ndarray]:
        """Of windows that together hold all boxes, which all fit one; of a random window, if there is no box."""
        corners, left = [], np.ones(len(boxes), bool)
        while left.any() or not corners:
            drawn = _random_corners(self.candidates, size, chip, rng)
            if left.any():  # one about an object that is left, or chance might never hold it
                drawn = np.concatenate((drawn, _corner_about(boxes[rng.choice(np.flatnonzero(left))], size, chip, rng)))
            inside = np.logical_and(*held(boxes[left], *drawn.T, chip))
            best = int(inside.sum(1).argmax())
            corners.append(drawn[best])
            left[np.flatnonzero(left)[inside[best]]] = False
        return corners


def _turn(scales: int, nth: int, rng: np.random.Generator) -> tuple[int, np.random.Generator]:
    """The scale of an image at its nth turn of an epoch, each in turn in random order, and that turn's own chance."""
    order = rng.permutation(scales)
    return int(order[nth % scales]), rng.spawn(nth + 1)[-1]


def _random_corners(count: int, size: tuple, chip: tuple, rng: np.random.Generator) -> np.ndarray:
    """(count, 2) corners of windows in the image; those beyond it are snapped to its borders."""
    room, half = np.subtract(size, chip), np.divide(chip, 2)
    return rng.uniform(-half, room + half, (count, 2)).clip(0, room)


def _corner_about(box: np.ndarray, size: tuple, chip: tuple, rng: np.random.Generator) -> np.ndarray:
    """(1, 2) the corner of a window that holds a box."""
    low, high = np.maximum(0, box[2:] - chip), np.minimum(np.subtract(size, chip), box[:2])
    return rng.uniform(np.minimum(low, high), high)[None]
