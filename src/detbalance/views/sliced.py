"""Sliced training."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from ..common import require
from ..data.annotations import Annotations
from ..image_sampling import Feedback
from ..slicing import Slices
from ..taxonomy import Imbalance
from ._view import View, known, objects, seen
from ._windows import Windows

__all__ = ["Sliced"]


@dataclass(frozen=True, kw_only=True)
class Sliced:
    """Trains on overlapping windows of each image, and on the whole: objects of a few pixels in a large image are
    learnt in the image's own pixels, as they will be looked for.

    Akyon et al., section 3.1 (slicing aided fine-tuning: slices and whole images together). A pass shows every window
    with an object, the whole image, and as many empty windows. Of objects that a window cuts off the part is learnt;
    one of which less than `visible` is seen is ignored (the authors' code leaves it out, as background). An object
    smaller than the overlap is whole in some window. Detection is `looks.InSlices` with the same windows.

    Shapes: a row of the annotations -> View.
    Identity: for images that fit one window it is the plain training.
    Errors: ValueError for settings out of range.

    >>> from detbalance.data.annotations import Annotations
    >>> data = Annotations.from_arrays(classes=["a"], sizes=[(400, 300)], image=[0], label=[1],
    ...                                boxes=[[150, 120, 165, 135]])
    >>> method = Sliced(overlap=0.2).fit(data, (200, 200))
    >>> sorted(method(0, nth, np.random.default_rng(0)).window for nth in range(3))
    [(0.0, 0.0, 400.0, 300.0), (0.0, 100.0, 200.0, 300.0), (100.0, 100.0, 300.0, 300.0)]
    """

    size: tuple[int, int] | None = None
    """height and width of a window, pixels of the original image; None: the training size"""
    overlap: float = 0.25
    """share of a window that the next one repeats"""
    whole: bool = True
    """show the whole image besides, scaled down"""
    visible: float = 0.1
    """share of a cut object that must be seen, or it is ignored"""
    empty: float = 1.0
    """windows without an object that a pass shows, for each one with; at least one where there is any"""
    data: Annotations | None = field(default=None, repr=False, compare=False)
    """what `fit` was told"""
    windows: Windows | None = field(default=None, repr=False, compare=False)
    """what `fit` found"""

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.OBJECT_SCALE,)
    paper: ClassVar[str] = (
        "Akyon, Altinuc, Temizel, Slicing Aided Hyper Inference and Fine-Tuning for Small Object Detection, ICIP 2022, "
        "arXiv:2202.06934"
    )

    def __post_init__(self) -> None:
        self._slices((512, 512))
        require(0 <= self.visible <= 1, "visible", "from 0 to 1", self.visible)
        require(0 <= self.empty < float("inf"), "empty", "0 or more", self.empty)

    def fit(self, annotations: Annotations, image_size: tuple[int, int], proposals: list | None = None) -> Sliced:
        """A copy that knows the windows of all images."""
        slices = self._slices(image_size)
        found = [self._windows(annotations, i, slices) for i in range(len(annotations))]
        full = [max(1, np.count_nonzero(~background[: len(background) - self.whole])) for *_, background in found]
        return replace(self, data=annotations, windows=Windows.of(found, np.ceil(self.empty * np.array(full))))

    def epoch(
        self, annotations: Annotations, epoch: int, rng: np.random.Generator, feedback: Feedback | None = None
    ) -> np.ndarray:
        """One pass over the windows: each image as often as it has some to show."""
        return known(self.windows, self).epoch(rng)

    def __call__(self, i: int, nth: int, rng: np.random.Generator) -> View:
        row = known(self.windows, self).pick(i, nth, rng)
        window, (boxes, _) = tuple(self.windows.boxes[row].tolist()), objects(self.data, i)
        _, share = seen(boxes, window)
        return View(window, (share >= self.visible) & (share > 0))

    def _slices(self, image_size: tuple[int, int]) -> Slices:
        return Slices(size=self.size or image_size, overlap=self.overlap, whole=self.whole)

    def _windows(self, annotations: Annotations, i: int, slices: Slices) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(W, 4) the windows of one image, (W,) zeros, (W,) which of them have no object."""
        boxes, (width, height) = objects(annotations, i)
        boxes = boxes[~annotations.crowd[annotations.rows(i)]]
        windows = slices.windows(int(height), int(width)).numpy().astype(float)
        shares = [seen(boxes, window)[1] for window in windows]
        empty = np.array([not ((share >= self.visible) & (share > 0)).any() for share in shares])
        if len(windows) == 1:  # it is the whole
            empty[:] = False
        elif self.whole:
            windows, empty = np.concatenate((windows, [[0, 0, width, height]])), np.append(empty, False)
        elif empty.all() and not self.empty:
            empty[:] = False
        return windows, np.zeros(len(windows)), empty
