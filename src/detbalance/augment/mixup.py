"""Mixup for detection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as nn_F

from ..common import require
from ..data.annotations import Annotations
from ..taxonomy import Imbalance
from ..types import Target
from . import _draw as draw
from ._canvas import as_given, with_objects
from ._objects import ClassOrder, Objects, known, settled
from ._piece import in_unit

__all__ = ["MixUp"]


@dataclass(frozen=True, kw_only=True)
class MixUp:
    """Two images shine through each other, with the objects of both: a detector that has seen it is less sure of itself
    and knows objects in places where there are none else.

    Zhang et al., section 3.1: r I1 + (1 - r) I2 with r from a Beta(1.5, 1.5) distribution; the images are not scaled
    but laid corner to corner on a canvas that holds both (geometry is kept), black beyond either; the objects of both
    make one list. `weights` in the target has r or 1 - r for each object, by which the authors' code weighs its loss;
    the detectors here count every object whole, as YOLOX does.

    Shapes: image (3, H, W), target of G objects -> image (3, max H, max W), target of the objects of both.
    Identity: share = 0 gives the image as it is, without `weights`.

    >>> data = Annotations.from_arrays(classes=["a"], sizes=[(8, 8)], image=[0], label=[1], boxes=[[0, 0, 4, 4]])
    >>> target = {"boxes": torch.tensor([[0.0, 0, 4, 4]]), "labels": torch.tensor([1])}
    >>> _ = torch.manual_seed(0)
    >>> black = torch.zeros(3, 8, 8)
    >>> made, objects = MixUp(share=1).fit(data)(torch.ones(3, 8, 8), target, lambda row: (black, target))
    >>> objects["labels"].tolist(), torch.equal(made[0, 0, 0], objects["weights"][0]), float(objects["weights"].sum())
    ([1, 1], True, 1.0)
    """

    classes: ClassOrder = None
    """the other image holds an object of these classes so often; None: any image"""
    share: float = 0.5
    """of the images that are mixed"""
    alpha: float = 1.5
    """of the Beta distribution: 1 is even, larger values mix more evenly"""
    data: Objects | None = field(default=None, repr=False, compare=False)
    """what `fit` found"""

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.LOCATION,)
    paper: ClassVar[str] = (
        "Zhang, He, Zhang, Zhang, Xie, Li, Bag of Freebies for Training Object Detection Neural Networks, "
        "arXiv:1902.04103, section 3.1"
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", settled(self.classes))
        require(0 <= self.share <= 1, "share", "from 0 to 1", self.share)
        require(0 < self.alpha < float("inf"), "alpha", "above 0", self.alpha)

    def fit(self, annotations: Annotations, others: Callable | None = None) -> MixUp:
        """A copy that knows which images hold which classes."""
        return replace(self, data=Objects.of(annotations, self.classes))

    def __call__(self, image: Tensor, target: Target, others: Callable) -> tuple[Tensor, Target]:
        data = known(self.data, self)
        if draw.uniform() >= self.share:
            return image, target
        ratio = float(torch.distributions.Beta(self.alpha, self.alpha).sample())
        other, added = others(data.draw_image())
        size = tuple(max(one, two) for one, two in zip(image.shape[-2:], other.shape[-2:]))
        pixels = ratio * _laid(in_unit(image), size) + (1 - ratio) * _laid(in_unit(other), size)
        boxes, labels = (
            torch.cat([t[name].as_subclass(Tensor) for t in (target, added)]) for name in ("boxes", "labels")
        )
        masks = None
        if "masks" in target:
            masks = torch.cat([_laid(t["masks"].as_subclass(Tensor), size) for t in (target, added)])
        made = with_objects(target, boxes, labels, masks, size)
        shares = torch.tensor([ratio, 1 - ratio])
        made["weights"] = shares.repeat_interleave(torch.tensor([len(target["labels"]), len(added["labels"])]))
        return as_given(pixels, image), made


def _laid(planes: Tensor, size: tuple[int, int]) -> Tensor:
    """At the top left of a window of that size."""
    return nn_F.pad(planes, (0, size[1] - planes.shape[-1], 0, size[0] - planes.shape[-2]))
