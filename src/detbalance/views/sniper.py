"""SNIPER: chips of an image pyramid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from ..chips import cover, held, places
from ..common import require
from ..data.annotations import Annotations
from ..image_sampling import Feedback
from ..taxonomy import Imbalance
from ..valid_ranges import limits
from ._scales import check_scales, chip_of, valid_at, window_at
from ._view import View, known, objects, seen, side_of, sides
from ._windows import Windows

__all__ = ["SNIPER"]


@dataclass(frozen=True, kw_only=True)
class SNIPER:
    """Trains on chips, windows of a fixed size at several scales of the image, where there are objects of a size for
    that scale, or where a weak detector sees some that are not there: the whole pyramid is learnt at about the cost and
    the memory of its coarsest level, since most of its pixels are easy background.

    Singh, Najibi and Davis, sections 3.1 to 3.4. Positive chips: of a grid on each scale greedily those that hold the
    most objects valid there, until each lies wholly in one. Negative chips: the same with the proposals of a weak
    network that lie in no positive chip, as long as a chip holds `least` of them; an epoch shows `negatives` of each
    image. Objects that a chip cuts off stay, cut. Valid are whole objects in the range of the chip's scale, and parts
    that are as large (section 3.4 and the authors' code); the others are ignored, as in SNIP.

    The paper's chips are 512 x 512 pixels, at scales of 3 and 1.667 and at the one where the image fits the chip; of
    COCO's images of 640 x 480 a chip is 0.27, 0.48 and 1 of the width. Here a chip is such a share of the image in
    width and in height, and is scaled to the training size. Ranges are shares (see `valid_ranges`) of the authors' 0 to
    80, 32 to 150 and from 120 pixels. An object too long for the chips of its scales is valid at the next coarser one
    whose chips hold it; the authors' code leaves it out. An image without any chip shows the whole. How many proposals
    make a negative chip the paper does not say; the code has more than 10, and 25 at the finest scale, of 300, and
    draws two chips of each image. The weak network here is a RetinaNet of a single class (see `proposals`).

    Shapes: a row of the annotations -> View. Proposals: I arrays (P, 4), xyxy pixels of the original images.
    Identity: the scale 1 with the range (0, 1) and no negatives is the plain training.
    Errors: ValueError for scales without one of 1 or less, and for ranges that leave sizes to no scale.

    >>> from detbalance.data.annotations import Annotations
    >>> data = Annotations.from_arrays(classes=["a"], sizes=[(640, 480)], image=[0, 0], label=[1, 1],
    ...                                boxes=[[600, 440, 640, 480], [0, 0, 300, 300]])
    >>> method = SNIPER(negatives=0).fit(data, (192, 256))
    >>> for nth in range(3):
    ...     view = method(0, nth, np.random.default_rng(0))
    ...     print([round(side) for side in view.window], view.valid.tolist())
    [0, 0, 640, 480] [False, True]
    [469, 352, 640, 480] [True, False]
    [332, 249, 640, 480] [True, False]
    """

    scales: tuple[float, ...] = (3.75, 2.08, 1.0)
    """the image over the chip, in width and in height"""
    ranges: tuple[tuple[float, float], ...] = ((0.0, 0.144), (0.058, 0.271), (0.217, 1.0))
    """of each scale, the sides of objects that are valid at it, over the image's"""
    stride: float = 1 / 16
    """from chip to chip of the grid, over the chip's side"""
    visible: float = 0.0
    """share of a cut object that must be seen, or it is ignored"""
    negatives: int = 2
    """negative chips of each image that an epoch shows; 0: no weak network is trained"""
    least: int = 10
    """proposals that a negative chip must hold"""
    weak: float = 0.1
    """epochs of the weak network's training, over those of the whole; at least one"""
    data: Annotations | None = field(default=None, repr=False, compare=False)
    """what `fit` was told"""
    chips: Windows | None = field(default=None, repr=False, compare=False)
    """what `fit` found"""

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.OBJECT_SCALE,)
    paper: ClassVar[str] = (
        "Singh, Najibi, Davis, SNIPER: Efficient Multi-Scale Training, NeurIPS 2018, arXiv:1805.09300"
    )

    def __post_init__(self) -> None:
        check_scales(self.scales, self.ranges)
        require(min(self.scales) == 1, "scales", "1 or more, and one of them 1", self.scales)
        for name in ("visible", "weak"):
            require(0 <= getattr(self, name) <= 1, name, "from 0 to 1", getattr(self, name))
        require(0 < self.stride <= 1, "stride", "in (0, 1]", self.stride)
        require(self.negatives >= 0, "negatives", "0 or more", self.negatives)
        require(self.least >= 1, "least", "1 or more", self.least)

    @property
    def needs_proposals(self) -> bool:
        """Does `fit` ask for the proposals of a weak network?"""
        return self.negatives > 0

    def fit(
        self, annotations: Annotations, image_size: tuple[int, int], proposals: Sequence[np.ndarray] | None = None
    ) -> SNIPER:
        """A copy that knows the chips of all images."""
        if self.needs_proposals and proposals is None:
            raise ValueError("SNIPER with negatives needs the proposals of a weak network: (P, 4) of each image")
        given = proposals if self.needs_proposals else [None] * len(annotations)
        found = [self._chips(annotations, i, mine) for i, mine in enumerate(given)]
        return replace(self, data=annotations, chips=Windows.of(found, np.full(len(annotations), self.negatives)))

    def epoch(
        self, annotations: Annotations, epoch: int, rng: np.random.Generator, feedback: Feedback | None = None
    ) -> np.ndarray:
        """One pass over the chips: each image as often as it has some to show."""
        return known(self.chips, self).epoch(rng)

    def __call__(self, i: int, nth: int, rng: np.random.Generator) -> View:
        row = known(self.chips, self).pick(i, nth, rng)
        (boxes, size), number = objects(self.data, i), int(self.chips.scale[row])
        window = tuple(self.chips.boxes[row].tolist())
        bounds = limits(self.ranges[number], side_of(size))
        return View.of_range(window, boxes, self.valid(boxes, size)[number], bounds, self.visible)

    def valid(self, boxes: np.ndarray, size: tuple[float, float]) -> np.ndarray:
        """(S, G) which of the objects of an image of that width and height are valid at each scale."""
        fits = np.array([self._held(boxes, size, scale) for scale in self.scales])
        return valid_at(boxes, size, self.ranges, fits, list(np.argsort(self.scales)[::-1]))

    def _held(self, boxes: np.ndarray, size: tuple[float, float], scale: float) -> np.ndarray:
        """(G,) which boxes some chip of the grid of a scale holds."""
        chip = chip_of(size, scale)
        across, down = held(boxes, *places(size, chip, self.stride), chip)
        return across.any(0) & down.any(0)

    def _chips(
        self, annotations: Annotations, i: int, proposals: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(W, 4) the chips of one image, (W,) their scales, (W,) which are negative."""
        boxes, size = objects(annotations, i)
        boxes = boxes[~annotations.crowd[annotations.rows(i)]]
        valid, found = self.valid(boxes, size), []
        for number, scale in enumerate(self.scales):
            chip = chip_of(size, scale)
            x, y = places(size, chip, self.stride)
            positive, _ = cover(boxes[valid[number]], x, y, chip)
            found += [(window_at(corner, size, scale), number, False) for corner in positive]
            if proposals is not None:
                rest = self._uncovered(np.asarray(proposals, float).reshape(-1, 4), number, size, positive, chip)
                negative, _ = cover(rest, x, y, chip, least=self.least)
                found += [(window_at(corner, size, scale), number, True) for corner in negative]
        if not found:
            found = [(window_at((0, 0), size, 1.0), self.scales.index(1), False)]
        windows, numbers, background = zip(*found)
        return np.array(windows), np.array(numbers), np.array(background)

    def _uncovered(
        self, proposals: np.ndarray, number: int, size: tuple[float, float], positive: np.ndarray, chip: tuple
    ) -> np.ndarray:
        """(R, 4) the proposals in the range of a scale that lie in none of its positive chips."""
        proposals, _ = seen(proposals, (0, 0, *size))
        low, high = limits(self.ranges[number], side_of(size))
        side = sides(proposals)
        proposals = proposals[(side >= max(low, 1e-6)) & (side <= high)]
        inside = np.logical_and(*held(proposals, *positive.T, chip)).any(0)
        return proposals[~inside]
