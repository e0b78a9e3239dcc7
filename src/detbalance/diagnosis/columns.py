"""The columns that measures read: objects only, also relative to their image. Computed once, then shared."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..data.annotations import Annotations

__all__ = ["Columns"]


@dataclass(frozen=True, eq=False)
class Columns:
    """Crowd regions are left out of every measure (they are no single object); difficult objects are in.

    What is relative to the image is for the boxes in images of known size (`known`), in their order.
    """

    data: Annotations

    @property
    def images(self) -> int:
        """Number of images, those without objects included."""
        return len(self.data)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.data.classes

    @cached_property
    def rows(self) -> np.ndarray:
        """(B,) rows of the objects in the annotations."""
        return np.flatnonzero(~self.data.crowd)

    @cached_property
    def image(self) -> np.ndarray:
        """(B,) row of the image, ascending."""
        return self.data.image[self.rows]

    @cached_property
    def kind(self) -> np.ndarray:
        """(B,) row of the class, 0..K-1."""
        return self.data.label[self.rows] - 1

    @cached_property
    def boxes(self) -> np.ndarray:
        """(B, 4) xyxy pixels."""
        return self.data.boxes[self.rows]

    @cached_property
    def area(self) -> np.ndarray:
        """(B,) area of the object, pixels (of its mask where the source gives it)."""
        return self.data.area[self.rows]

    @cached_property
    def size(self) -> np.ndarray:
        """(B, 2) width and height of the box, pixels."""
        return self.boxes[:, 2:] - self.boxes[:, :2]

    @cached_property
    def presence(self) -> tuple[np.ndarray, np.ndarray]:
        """Every pair (image, class) that occurs, once: rows of the image, ascending, and of the class."""
        pair = np.unique(self.image * len(self.classes) + self.kind)
        return pair // max(len(self.classes), 1), pair % max(len(self.classes), 1)

    @cached_property
    def per_image(self) -> np.ndarray:
        """(I,) number of objects of each image."""
        return np.bincount(self.image, minlength=self.images)

    @cached_property
    def known(self) -> np.ndarray:
        """Rows of the boxes that lie in an image of known size."""
        return np.flatnonzero((self.data.sizes[self.image] > 0).all(1))

    @cached_property
    def image_size(self) -> np.ndarray:
        """(known, 2) width and height of the box's image."""
        return self.data.sizes[self.image[self.known]].astype(np.float64)

    @cached_property
    def relative(self) -> np.ndarray:
        """(known, 2) width and height over the image's, in (0, 1]."""
        return np.clip(self.size[self.known] / self.image_size, 0, 1)

    @cached_property
    def centre(self) -> np.ndarray:
        """(known, 2) centre of the box over the image's size, in [0, 1]."""
        boxes = self.boxes[self.known]
        return np.clip((boxes[:, :2] + boxes[:, 2:]) / 2 / self.image_size, 0, 1)
