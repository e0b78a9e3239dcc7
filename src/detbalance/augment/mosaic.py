"""Mosaic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..common import require
from ..data.annotations import Annotations
from ..taxonomy import Imbalance
from ..types import Target
from . import _draw as draw
from ._canvas import with_objects
from ._frame import Frame
from ._objects import ClassOrder, Objects, known, settled

__all__ = ["Mosaic"]


@dataclass(frozen=True, kw_only=True)
class Mosaic:
    """Four images in one, around a random point: objects out of their usual context and of more sizes, and the
    statistics of four images in each one.

    Bochkovskiy et al., section 3.3 (figure 3): the image and three others are scaled at random; each lies with one
    corner at the point and is cut off at its quarter; what none of them fills is grey. Here the result is as large as
    the image, where other code makes one of twice the size and cuts it.

    Shapes: image (3, H, W), target of G objects -> image (3, H, W), target of the objects that are seen.
    Identity: share = 0 gives the image as it is.

    >>> data = Annotations.from_arrays(classes=["a"], sizes=[(32, 32)], image=[0], label=[1], boxes=[[0, 0, 32, 32]])
    >>> image = torch.zeros(3, 32, 32), {"boxes": torch.tensor([[0.0, 0, 32, 32]]), "labels": torch.tensor([1])}
    >>> method = Mosaic(share=1, scale=(1, 1), centre=(0.5, 0.5), hidden=0.9)
    >>> method.fit(data)(*image, lambda row: image)[1]["boxes"].int().tolist()
    [[0, 0, 16, 16], [16, 0, 32, 16], [0, 16, 16, 32], [16, 16, 32, 32]]
    """

    classes: ClassOrder = None
    """the other three hold objects of these classes so often; None: any images"""
    share: float = 0.5
    """of the images that become part of a mosaic"""
    scale: tuple[float, float] = (0.5, 1.5)
    """size of each image over the size that fits the whole"""
    centre: tuple[float, float] = (0.2, 0.8)
    """range of the point, in widths and heights"""
    hidden: float = 0.7
    """objects of which a larger share is cut off lose their label"""
    data: Objects | None = field(default=None, repr=False, compare=False)
    """what `fit` found"""

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.OBJECT_SCALE, Imbalance.LOCATION)
    paper: ClassVar[str] = (
        "Bochkovskiy, Wang, Liao, YOLOv4: Optimal Speed and Accuracy of Object Detection, arXiv:2004.10934, section 3.3"
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", settled(self.classes))
        for name in ("share", "hidden"):
            require(0 <= getattr(self, name) <= 1, name, "from 0 to 1", getattr(self, name))
        require(0 < self.scale[0] <= self.scale[1] < 100, "scale", "two ascending factors above 0", self.scale)
        require(0 < self.centre[0] <= self.centre[1] < 1, "centre", "two ascending shares of the image", self.centre)

    def fit(self, annotations: Annotations, others: Callable | None = None) -> Mosaic:
        """A copy that knows which images hold which classes."""
        return replace(self, data=Objects.of(annotations, self.classes))

    def __call__(self, image: Tensor, target: Target, others: Callable) -> tuple[Tensor, Target]:
        data, (height, width) = known(self.data, self), image.shape[-2:]
        if draw.uniform() >= self.share:
            return image, target
        x = min(max(1, round(draw.uniform(*self.centre) * width)), width - 1)
        y = min(max(1, round(draw.uniform(*self.centre) * height)), height - 1)
        given = [(image, target), *(others(data.draw_image()) for _ in range(3))]
        made, parts = torch.empty_like(image.as_subclass(Tensor)), []
        for (one, objects), (place_x, place_y) in zip(given, ((0, 0), (1, 0), (0, 1), (1, 1))):
            columns, rows = (
                (slice(x, width) if place_x else slice(0, x)),
                (slice(y, height) if place_y else slice(0, y)),
            )
            frame = self._frame(one, (height, width), columns, rows)
            made[:, rows, columns] = frame.image(one)
            parts.append(_moved(frame.target(objects, self.hidden), columns.start, rows.start, (height, width)))
        boxes, labels, masks = (None if None in part else torch.cat(part) for part in zip(*parts))
        return made, with_objects(target, boxes, labels, masks, (height, width))

    def _frame(self, image: Tensor, size: tuple[int, int], columns: slice, rows: slice) -> Frame:
        """The quarter's view of an image whose nearest corner lies at the point."""
        given, factor = tuple(image.shape[-2:]), draw.uniform(*self.scale)
        factor *= min(size[0] / given[0], size[1] / given[1])
        scaled = max(1, round(factor * given[0])), max(1, round(factor * given[1]))
        high, wide = rows.stop - rows.start, columns.stop - columns.start
        left, top = (0 if columns.start else scaled[1] - wide), (0 if rows.start else scaled[0] - high)
        return Frame(given, scaled, (high, wide), left, top)


def _moved(target: Target, left: int, top: int, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor | None]:
    """Boxes, labels and masks in the whole."""
    boxes = target["boxes"].as_subclass(Tensor)
    boxes, masks = boxes + boxes.new_tensor([left, top, left, top]), target.get("masks")
    if masks is not None:
        high, wide = masks.shape[-2:]
        masks = masks.as_subclass(Tensor)
        masks = torch.nn.functional.pad(masks, (left, size[1] - wide - left, top, size[0] - high - top))
    return boxes, target["labels"], masks
