"""Progressive and selective instance switching."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as nn_F

from ..common import require
from ..data.annotations import Annotations
from ..image_sampling import Feedback
from ..taxonomy import Imbalance
from ..types import Target
from . import _draw as draw
from ._blend import BLENDS
from ._canvas import Canvas, with_objects
from ._objects import ClassOrder, Objects, known, settled
from ._piece import CUTS, Piece, turned

__all__ = ["InstanceSwitching"]


@dataclass(frozen=True, kw_only=True)
class InstanceSwitching:
    """Puts an object of the same class, size and shape in an object's place: new objects, and the context is right.

    Wang et al., section 3.1: a quadruple is two images with an object each, of one class, whose boxes have an area
    ratio within `ratio`, and whose masks, the one scaled to the other, differ in at most `difference` of the area of
    either. Each is scaled to the other's box and put in its place, the edge blurred; what lies within its box goes with
    it. A share of the training images is replaced by such images: first a class is drawn, then a quadruple of it.

    Selective: `classes="data"` is the paper's uniform set of quadruples, "even" that with equally many of each class,
    which it combines with a class-balanced loss. Progressive: training measures AP at the beginning of every `every`-th
    epoch but the first, and classes are then drawn in proportion to (1 - AP)^power besides; power = 0 listens to
    nothing. The paper adds quadruples of the classes of lowest AP between trainings.

    Differences: an image is made when it is drawn, and the one of a quadruple is in it, the other when its turn comes;
    a partner is looked for among `tries` candidates, and an image without one stays as it is. Without masks objects are
    cut along what is salient in their box.

    Shapes: image (3, H, W), target of G objects -> another image of the dataset with one object switched, its target.
    Identity: share = 0, or classes of one object each, give the image as it is.

    >>> data = Annotations.from_arrays(classes=["a"], sizes=[(32, 32)] * 2, image=[0, 1], label=[1, 1],
    ...                                boxes=[[4, 4, 12, 12], [10, 10, 20, 20]])
    >>> images = [(torch.full((3, 32, 32), value), {"boxes": torch.tensor([box]), "labels": torch.tensor([1])})
    ...           for value, box in ((0.0, [4.0, 4, 12, 12]), (1.0, [10.0, 10, 20, 20]))]
    >>> _ = torch.manual_seed(0)
    >>> method = InstanceSwitching(share=1, cut="box", blend="none").fit(data)
    >>> made, objects = method(*images[0], images.__getitem__)
    >>> objects["boxes"].tolist(), float(made.mean())  # the second image, with the first's black square scaled
    ([[10.0, 10.0, 20.0, 20.0]], 0.90234375)
    """

    classes: ClassOrder = "even"
    """which classes are switched how often: "even", "data", "inverse", weights by class name or label, or a list"""
    share: float = 0.5
    """of the images that are replaced"""
    power: float = 1.0
    """how strongly classes of low AP are preferred; 0: not"""
    every: int = 1
    """epochs between evaluations"""
    images: int = 500
    """training images on which AP is measured, at most"""
    ratio: tuple[float, float] = (0.3, 3.0)
    """area of the one box over that of the other, in the original images"""
    difference: float = 0.3
    """pixels in which the masks differ, over the area of either"""
    tries: int = 10
    """partners that are looked at"""
    hidden: float = 0.7
    """objects of which a larger share is hidden lose their label"""
    blend: str = "gaussian"
    """"none", "gaussian" or "poisson" """
    cut: str = "saliency"
    """without masks: "saliency", or "box" for the whole box"""
    data: Objects | None = field(default=None, repr=False, compare=False)
    """what `fit` found"""
    failing: np.ndarray | None = field(default=None, repr=False, compare=False)
    """(K,) what `hear` heard: how much more often each class is drawn"""

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FOREGROUND_FOREGROUND,)
    paper: ClassVar[str] = (
        "Wang, Wang, Yang, Zhang, Zuo, Data Augmentation for Object Detection via Progressive and Selective "
        "Instance-Switching, arXiv:1906.00358, section 3"
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", settled(self.classes))
        require(self.classes is not None, "classes", "a class distribution", self.classes)
        for name in ("share", "difference", "hidden"):
            require(0 <= getattr(self, name) <= 1, name, "from 0 to 1", getattr(self, name))
        require(0 <= self.power < float("inf"), "power", "0 or greater", self.power)
        require(0 < self.ratio[0] <= 1 <= self.ratio[1], "ratio", "below and above 1", self.ratio)
        for name in ("every", "images", "tries"):
            require(getattr(self, name) >= 1, name, "1 or greater", getattr(self, name))
        require(self.blend in BLENDS, "blend", f"one of {BLENDS}", self.blend)
        require(self.cut in CUTS, "cut", f"one of {CUTS}", self.cut)

    @property
    def needs(self) -> str:
        """What it wants to know of the training."""
        return "ap" if self.power else ""

    def fit(self, annotations: Annotations, others: Callable | None = None) -> InstanceSwitching:
        """A copy that knows where the objects of each class are."""
        return replace(self, data=Objects.of(annotations, self.classes))

    def hear(self, feedback: Feedback | None) -> InstanceSwitching:
        """A copy that knows the present AP; classes without one count as the mean of the others."""
        if feedback is None or feedback.ap is None or not self.power:
            return replace(self, failing=None)
        failing = np.clip(1 - np.asarray(feedback.ap, float), 1e-3, 1) ** self.power  # a learnt class is still drawn
        known = np.isfinite(failing)
        return replace(self, failing=np.where(known, failing, failing[known].mean()) if known.any() else None)

    def __call__(self, image: Tensor, target: Target, others: Callable) -> tuple[Tensor, Target]:
        data = known(self.data, self)
        if draw.uniform() >= self.share:
            return image, target
        chosen = data.draw(1.0 if self.failing is None else self.failing)
        if chosen is None:
            return image, target
        place, objects = others(int(data.image[chosen]))
        row = int(data.row[chosen])
        old = data.cuts(others, int(data.image[chosen]), row, how=self.cut)
        new = None if old is None else self._partner(data, chosen, old, others)
        if new is None:
            return image, target
        canvas = Canvas(place, without(objects, row))
        return canvas.finish(self.hidden) if canvas.paste(new, *old.corner, self.blend) else (image, target)

    def _partner(self, data: Objects, chosen: int, old: Piece, others: Callable) -> Piece | None:
        """The first of some candidates that is of the same shape, scaled to the place of the old one."""
        kind, area = data.kind(chosen), (data.box[:, 2:] - data.box[:, :2]).prod(1)
        rows = np.arange(data.first[kind], data.first[kind + 1])
        ratio = area[chosen] / area[rows]
        good = (ratio >= self.ratio[0]) & (ratio <= self.ratio[1]) & (data.image[rows] != data.image[chosen])
        rows = rows[good]
        for number in torch.randperm(len(rows))[: self.tries].tolist():
            candidate = rows[number]
            piece = data.cuts(others, int(data.image[candidate]), int(data.row[candidate]), how=self.cut)
            if piece is not None and alike(old, piece, self.difference):
                (x1, y1, x2, y2), (left, top, right, bottom) = old.bounds, piece.bounds
                return turned(piece, scale=((x2 - x1) / (right - left), (y2 - y1) / (bottom - top)))
        return None


def alike(first: Piece, second: Piece, difference: float) -> bool:
    """Do the masks, the second scaled to the first, differ in at most that share of the area of either?"""
    one, two = (_tight(piece).float() for piece in (first, second))
    two = nn_F.interpolate(two[None, None], one.shape, mode="bilinear", antialias=True)[0, 0] > 0.5
    apart = float((one.bool() ^ two).sum())
    return apart <= difference * min(float(one.sum()), float(two.sum()))


def _tight(piece: Piece) -> Tensor:
    x1, y1, x2, y2 = piece.bounds
    return piece.masks[0, y1:y2, x1:x2]


def without(target: Target, row: int) -> Target:
    """The target without one of its objects."""
    keep = torch.arange(len(target["labels"])) != row
    boxes, masks = target["boxes"].as_subclass(Tensor)[keep], target.get("masks")
    masks = None if masks is None else masks.as_subclass(Tensor)[keep]
    size = tuple(getattr(target["boxes"], "canvas_size", (0, 0)))
    return with_objects(target, boxes, target["labels"][keep], masks, size)
