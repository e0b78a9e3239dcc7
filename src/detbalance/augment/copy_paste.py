"""Simple copy-paste."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

from torch import Tensor

from ..common import require
from ..data.annotations import Annotations
from ..taxonomy import Imbalance
from ..types import Target
from . import _draw as draw
from ._blend import BLENDS
from ._canvas import Canvas
from ._frame import Frame
from ._objects import ClassOrder, Objects, known, settled
from ._piece import CUTS, turned

__all__ = ["CopyPaste"]


@dataclass(frozen=True, kw_only=True)
class CopyPaste:
    """Pastes some of the objects of one image on another, both jittered strongly in scale: more objects an image, new
    neighbours and sizes, at hardly any cost.

    Ghiasi et al., section 3: two images, each mirrored at random and scaled by 0.1 to 2 times the size that fits, then
    cut or padded to it (large-scale jittering); a random subset of the objects of the one keeps its place and is drawn
    over the other, I1 alpha + I2 (1 - alpha) with alpha its mask, blurred. What is hidden wholly loses its label, boxes
    and masks of the others are of what is still seen.

    With `classes` (the paper has none) each pasted object is drawn by itself, from a class in that proportion and any
    image that holds it, and its image is jittered for it alone; their number is that of a random subset.

    Differences: what is hidden by more than `hidden` loses its label, not only what is hidden wholly. Without masks in
    the target objects are cut along what is salient in their box, and hidden is what is covered of the box.

    Shapes: image (3, H, W), target of G objects -> image (3, H, W), target of the objects that are seen.
    Identity: share = 0 gives the image as it is; keep = 0 the jitter alone.

    >>> data = Annotations.from_arrays(classes=["a"], sizes=[(32, 32)], image=[0], label=[1], boxes=[[4, 4, 12, 12]])
    >>> import torch
    >>> image, boxes = torch.rand(3, 32, 32), torch.tensor([[4.0, 4, 12, 12]])
    >>> method = CopyPaste(share=1, keep=1, jitter=(1, 1), cut="box")
    >>> _ = torch.manual_seed(0)  # the pasted image is mirrored
    >>> made, objects = method.fit(data)(image, {"boxes": boxes, "labels": torch.tensor([1])},
    ...                                  lambda row: (image, {"boxes": boxes, "labels": torch.tensor([1])}))
    >>> objects["boxes"].tolist()
    [[4.0, 4.0, 12.0, 12.0], [20.0, 4.0, 28.0, 12.0]]
    """

    classes: ClassOrder = None
    """which classes are pasted how often: "even", "data", "inverse", weights by class name or label, or a list; None:
    those of any image"""
    share: float = 0.5
    """of the images on which something is pasted"""
    keep: float = 0.5
    """chance of each object to be pasted"""
    jitter: tuple[float, float] = (0.1, 2.0)
    """size of both images over the size that fits; (0.8, 1.25) is the paper's standard jittering"""
    hidden: float = 0.9
    """objects of which a larger share is hidden or lies outside lose their label"""
    blend: str = "gaussian"
    """"none", "gaussian" or "poisson"; the paper finds the first as good as the second"""
    cut: str = "saliency"
    """without masks: "saliency", or "box" for the whole box"""
    data: Objects | None = field(default=None, repr=False, compare=False)
    """what `fit` found"""

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FOREGROUND_FOREGROUND, Imbalance.OBJECT_SCALE)
    paper: ClassVar[str] = (
        "Ghiasi, Cui, Srinivas, Qian, Lin, Cubuk, Le, Zoph, Simple Copy-Paste is a Strong Data Augmentation Method for "
        "Instance Segmentation, CVPR 2021, arXiv:2012.07177, section 3"
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", settled(self.classes))
        for name in ("share", "keep", "hidden"):
            require(0 <= getattr(self, name) <= 1, name, "from 0 to 1", getattr(self, name))
        require(0 < self.jitter[0] <= self.jitter[1] < 100, "jitter", "two ascending factors above 0", self.jitter)
        require(self.blend in BLENDS, "blend", f"one of {BLENDS}", self.blend)
        require(self.cut in CUTS, "cut", f"one of {CUTS}", self.cut)

    def fit(self, annotations: Annotations, others: Callable | None = None) -> CopyPaste:
        """A copy that knows where the objects of each class are."""
        return replace(self, data=Objects.of(annotations, self.classes))

    def __call__(self, image: Tensor, target: Target, others: Callable) -> tuple[Tensor, Target]:
        data, size = known(self.data, self), tuple(image.shape[-2:])
        if draw.uniform() >= self.share:
            return image, target
        frame = Frame.jittered(size, size, self.jitter)
        canvas = Canvas(frame.image(image), frame.target(target, self.hidden))
        for number, rows in self._sources(data):
            frame = Frame.jittered(tuple(others(number)[0].shape[-2:]), size, self.jitter)
            for row in rows:
                self._paste(canvas, frame, data.cuts(others, number, row, how=self.cut))
        return canvas.finish(self.hidden)

    def _sources(self, data: Objects) -> list[tuple[int, list[int]]]:
        """Images with the rows of the objects to be pasted."""
        number = draw.whole(0, data.images - 1)
        chosen = (draw.uniforms(int(data.per_image[number])) < self.keep).nonzero().flatten().tolist()
        if data.share is None:
            return [(number, chosen)]
        drawn = [n for _ in chosen if (n := data.draw()) is not None]
        return [(int(data.image[n]), [int(data.row[n])]) for n in drawn]

    def _paste(self, canvas: Canvas, frame: Frame, piece) -> None:
        """Paste a piece where it comes to lie in its frame, unless too little of it does."""
        if piece is None:
            return
        x1, _, x2, _ = piece.bounds
        left, top = frame.corner(*piece.corner, x2 - x1)
        piece = turned(piece, scale=frame.factors, flip=frame.flip)
        if piece is None:
            return
        x1, y1, _, _ = piece.bounds
        height, width = canvas.size
        window = (slice(max(0, y1 - top), y1 - top + height), slice(max(0, x1 - left), x1 - left + width))
        mask = piece.masks[0]
        if mask[window].sum() >= (1 - self.hidden) * mask.sum():
            canvas.paste(piece, left, top, self.blend)
