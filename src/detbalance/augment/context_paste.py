"""Context-guided paste."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from torch import Tensor

from ..common import require
from ..data.annotations import Annotations
from ..taxonomy import Imbalance
from ..types import Target
from . import _draw as draw
from ._blend import BLENDS
from ._canvas import Canvas
from ._context import Contexts, most_covered, scattered
from ._objects import ClassOrder, Objects, known, settled
from ._piece import CUTS, Piece, in_unit, turned

__all__ = ["ContextPaste"]


@dataclass(frozen=True, kw_only=True)
class ContextPaste:
    """Pastes objects where such objects are found, and as large: a car on the street and not in the sky.

    Dvornik et al., section 3: for an image many boxes are drawn, shaped as the class's own; a model of visual context
    says of each, from what surrounds it, which class it might hold or none; in one that it finds likely an object of
    that class is pasted that fits its shape, scaled to fill it. The paper's model is a network that sees the
    neighbourhood with the box masked out. Here it is a kernel density over what the dataset itself shows: colours and
    roughness of the eight fields around a box, its place and its size, for each class and for places without objects
    (three for each object, of the objects' shapes, as in the paper). It needs no training but one look at up to 1,000
    objects, and knows nothing of what things are: streets are where the grey is.

    Differences besides: one box is drawn among those of at least `least`, in proportion to how well it suits; boxes
    that would hide an object are not among them.

    Shapes: image (3, H, W), target of G objects -> image (3, H, W), target of the objects that are seen.
    Identity: share = 0 gives the image as it is, least = 0 takes any place.

    >>> data = Annotations.from_arrays(classes=["a"], sizes=[(32, 32)], image=[0], label=[1], boxes=[[4, 20, 12, 28]])
    >>> import torch
    >>> image = torch.zeros(3, 32, 32)
    >>> image[:, 16:] = 0.5  # objects of the class lie in the lower, brighter half
    >>> target = {"boxes": torch.tensor([[4.0, 20, 12, 28]]), "labels": torch.tensor([1])}
    >>> method = ContextPaste(share=1, count=(1, 1), least=0.6, cut="box").fit(data, lambda row: (image, target))
    >>> _ = torch.manual_seed(0)
    >>> places = [method(image, target, lambda row: (image, target))[1]["boxes"][1:] for _ in range(20)]
    >>> bool((torch.cat(places)[:, 3] > 16).all())
    True
    """

    classes: ClassOrder = "even"
    """which classes are pasted how often: "even", "data", "inverse", weights by class name or label, or a list"""
    share: float = 0.5
    """of the images on which something is pasted"""
    count: tuple[int, int] = (1, 2)
    """objects pasted on an image, fewest and most; fewer where no place suits"""
    candidates: int = 200
    """boxes drawn for each object; the paper's number"""
    least: float = 0.5
    """score that a place must have; at 0.5 the class is as likely as background. The paper's network: 0.7"""
    width: float = 0.8
    """of the kernel, in standard deviations"""
    hidden: float = 0.7
    """objects of which a larger share is hidden lose their label; no place is taken that hides so much"""
    blends: tuple[str, ...] = ("none", "gaussian", "poisson")
    """drawn evenly, one for each image"""
    cut: str = "saliency"
    """without masks: "saliency", or "box" for the whole box"""
    data: Objects | None = field(default=None, repr=False, compare=False)
    """what `fit` found"""
    contexts: Contexts | None = field(default=None, repr=False, compare=False)
    """what `fit` learnt"""

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FOREGROUND_FOREGROUND,)
    paper: ClassVar[str] = (
        "Dvornik, Mairal, Schmid, Modeling Visual Context is Key to Augmenting Object Detection Datasets, ECCV 2018, "
        "arXiv:1807.07428, section 3"
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", settled(self.classes))
        require(self.classes is not None, "classes", "a class distribution", self.classes)
        for name in ("share", "least", "hidden"):
            require(0 <= getattr(self, name) <= 1, name, "from 0 to 1", getattr(self, name))
        require(0 <= self.count[0] <= self.count[1], "count", "two ascending numbers, 0 or more", self.count)
        require(self.candidates >= 1, "candidates", "1 or greater", self.candidates)
        require(0 < self.width < float("inf"), "width", "above 0", self.width)
        require(bool(self.blends) and set(self.blends) <= set(BLENDS), "blends", f"some of {BLENDS}", self.blends)
        require(self.cut in CUTS, "cut", f"one of {CUTS}", self.cut)

    def fit(self, annotations: Annotations, others: Callable) -> ContextPaste:
        """A copy that knows where the objects of each class are, and what is around them."""
        contexts = Contexts.learnt(annotations, others, self.width)
        return replace(self, data=Objects.of(annotations, self.classes), contexts=contexts)

    def __call__(self, image: Tensor, target: Target, others: Callable) -> tuple[Tensor, Target]:
        data = known(self.data, self)
        if draw.uniform() >= self.share:
            return image, target
        canvas, boxes = Canvas(image, target), target["boxes"].as_subclass(Tensor).double().numpy()
        blend = self.blends[draw.whole(0, len(self.blends) - 1)]
        for _ in range(draw.whole(*self.count)):
            drawn = data.draw()
            if drawn is None:
                continue
            piece = data.cuts(others, int(data.image[drawn]), int(data.row[drawn]), how=self.cut)
            place = None if piece is None else self._place(canvas, piece, data.kind(drawn) + 1, boxes)
            if place is not None:
                boxes = self._paste(canvas, piece, place, boxes, blend)
        return canvas.finish(self.hidden)

    def _place(self, canvas: Canvas, piece: Piece, label: int, boxes: np.ndarray) -> np.ndarray | None:
        """(4,) a box that suits the class: of the piece's aspect, of a size that the class has."""
        x1, y1, x2, y2 = piece.bounds
        sizes = self.contexts.shape(label).mean(1)
        chosen = sizes[(draw.uniforms(self.candidates).numpy() * len(sizes)).astype(int)]
        height, width = canvas.size
        # Width times height as of one of the class, the aspect the piece's own.
        side = np.exp(chosen) * np.sqrt(width * height)
        root = np.sqrt((x2 - x1) / (y2 - y1))
        shape = np.stack((side * root, side / root), 1)
        shape = shape[(shape <= (width, height)).all(1)]
        places = scattered(shape, canvas.size, lambda size: draw.uniforms(*size).numpy())
        places = places[most_covered(boxes, places) <= self.hidden]
        if not len(places):
            return None
        score = self.contexts.score(in_unit(canvas.pixels).numpy(), places, label)
        good = np.where(score >= self.least, score, 0.0)
        return places[draw.row(good)] if good.any() else None

    def _paste(self, canvas: Canvas, piece: Piece, place: np.ndarray, boxes: np.ndarray, blend: str) -> np.ndarray:
        """Paste the piece there; the boxes with its own."""
        x1, _, x2, _ = piece.bounds
        piece = turned(piece, scale=float(place[2] - place[0]) / (x2 - x1))
        if piece is None:
            return boxes
        x1, y1, x2, y2 = piece.bounds
        left = min(max(0, round(place[0])), max(0, canvas.size[1] - (x2 - x1)))
        top = min(max(0, round(place[1])), max(0, canvas.size[0] - (y2 - y1)))
        if not canvas.paste(piece, left, top, blend):
            return boxes
        return np.concatenate((boxes, [[left, top, left + x2 - x1, top + y2 - y1]]))
