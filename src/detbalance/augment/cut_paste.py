"""Cut, paste and learn."""

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
from ._blend import BLENDS
from ._canvas import Canvas
from ._objects import ClassOrder, Objects, known, settled
from ._piece import CUTS, turned
from ._place import place

__all__ = ["CutPaste"]


@dataclass(frozen=True, kw_only=True)
class CutPaste:
    """Cuts objects out of other images and pastes them anywhere, so that a rare class is seen on many backgrounds.

    Dwibedi et al., section 4: each object is scaled and turned at random; up to three quarters of its box may lie
    outside of the image (truncation), and its IoU with any other box is at most 0.75 (occlusion). A detector soon
    finds the edges of pasted objects instead of the objects; the paper shows it the same scene under several blendings.
    Here every scene has one, drawn independently of all else (`blends`), so that no blending tells anything.

    Differences: objects come from the dataset's own images, along their masks where the target has masks, else along
    what is salient in the box (colours unlike those around it; the paper trains a network for that); the background is
    a training image with its own objects; there are no distractors, since a detection dataset has no objects without a
    class. The authors' code lets at most a quarter of each side lie outside.

    Shapes: image (3, H, W), target of G objects -> image (3, H, W), target of the objects that are seen.
    Identity: share = 0 gives the image as it is.

    >>> data = Annotations.from_arrays(classes=["a"], sizes=[(32, 32)], image=[0], label=[1], boxes=[[4, 4, 12, 12]])
    >>> image = torch.zeros(3, 32, 32, dtype=torch.uint8)
    >>> image[:, 4:12, 4:12] = 200
    >>> target = {"boxes": torch.tensor([[4.0, 4, 12, 12]]), "labels": torch.tensor([1])}
    >>> method = CutPaste(share=1, count=(1, 1), scale=(1, 1), degrees=0, outside=0, overlap=0, blends=("none",))
    >>> _ = torch.manual_seed(0)
    >>> made, objects = method.fit(data)(image, target, lambda row: (image, target))
    >>> int((made == 200).sum()) // 3, (objects["boxes"][:, 2:] - objects["boxes"][:, :2]).tolist()
    (128, [[8.0, 8.0], [8.0, 8.0]])
    """

    classes: ClassOrder = "even"
    """which classes are pasted how often: "even", "data", "inverse", weights by class name or label, or a list"""
    share: float = 0.5
    """of the images on which something is pasted"""
    count: tuple[int, int] = (1, 3)
    """objects pasted on an image, fewest and most"""
    scale: tuple[float, float] = (0.5, 1.5)
    """factor on an object's size"""
    degrees: float = 30.0
    """by which an object is turned at most, either way"""
    outside: float = 0.75
    """share of a pasted box that may lie outside of the image"""
    overlap: float = 0.75
    """largest IoU of a pasted box with any other"""
    hidden: float = 0.7
    """objects of which a larger share is hidden lose their label"""
    blends: tuple[str, ...] = ("none", "gaussian", "poisson")
    """drawn evenly, one for each image"""
    cut: str = "saliency"
    """without masks: "saliency", or "box" for the whole box"""
    data: Objects | None = field(default=None, repr=False, compare=False)
    """what `fit` found"""

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FOREGROUND_FOREGROUND, Imbalance.LOCATION)
    paper: ClassVar[str] = (
        "Dwibedi, Misra, Hebert, Cut, Paste and Learn: Surprisingly Easy Synthesis for Instance Detection, ICCV 2017, "
        "arXiv:1708.01642, section 4"
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", settled(self.classes))
        require(self.classes is not None, "classes", "a class distribution", self.classes)
        for name in ("share", "overlap", "hidden"):
            require(0 <= getattr(self, name) <= 1, name, "from 0 to 1", getattr(self, name))
        require(0 <= self.outside < 1, "outside", "0 or more and below 1", self.outside)
        require(0 <= self.count[0] <= self.count[1], "count", "two ascending numbers, 0 or more", self.count)
        require(0 < self.scale[0] <= self.scale[1] < 100, "scale", "two ascending factors above 0", self.scale)
        require(0 <= self.degrees <= 180, "degrees", "from 0 to 180", self.degrees)
        require(bool(self.blends) and set(self.blends) <= set(BLENDS), "blends", f"some of {BLENDS}", self.blends)
        require(self.cut in CUTS, "cut", f"one of {CUTS}", self.cut)

    def fit(self, annotations: Annotations, others: Callable | None = None) -> CutPaste:
        """A copy that knows where the objects of each class are."""
        return replace(self, data=Objects.of(annotations, self.classes))

    def __call__(self, image: Tensor, target: Target, others: Callable) -> tuple[Tensor, Target]:
        data = known(self.data, self)
        if draw.uniform() >= self.share:
            return image, target
        canvas, boxes = Canvas(image, target), target["boxes"].as_subclass(Tensor)
        blend = self.blends[draw.whole(0, len(self.blends) - 1)]
        for _ in range(draw.whole(*self.count)):
            drawn = data.draw()
            if drawn is None:
                continue
            piece = data.cuts(others, int(data.image[drawn]), int(data.row[drawn]), how=self.cut)
            if piece is not None:
                boxes = self._paste(canvas, piece, boxes, blend)
        return canvas.finish(self.hidden)

    def _paste(self, canvas: Canvas, piece, boxes: Tensor, blend: str) -> Tensor:
        """Paste one piece, if there is a place for it; the boxes with its own."""
        left, top, right, bottom = piece.bounds
        # Half a pixel at each side may round up.
        most = min((canvas.size[0] - 2) / (bottom - top), (canvas.size[1] - 2) / (right - left))
        scale = min(draw.uniform(*self.scale), most)
        piece = turned(piece, scale=scale, degrees=draw.uniform(-self.degrees, self.degrees))
        if piece is None:
            return boxes
        left, top, right, bottom = piece.bounds
        wide, high = right - left, bottom - top
        found = place(wide, high, canvas.size, boxes, outside=self.outside, overlap=self.overlap)
        if found is None or not canvas.paste(piece, *found, blend):
            return boxes
        box = [found[0], found[1], found[0] + wide, found[1] + high]
        return torch.cat((boxes, torch.tensor([box], dtype=boxes.dtype)))
