"""The dials of the generated data: what each turns, its range, and the balanced setting."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np

from ..taxonomy import Imbalance
from ._outlines import CLASSES

__all__ = ["DIALS", "Dial", "Dials"]


@dataclass(frozen=True, kw_only=True)
class Dial:
    """What one dial of the generator turns; the command line and the documentation are made from these."""

    imbalance: Imbalance
    """the problem that it creates or worsens"""
    low: float
    high: float
    """allowed range, both ends included"""
    help: str
    """what it does, in one sentence"""
    lowers: str
    """the figure that falls when it is turned up (down, for `objects_per_image`)"""


DIALS: dict[str, Dial] = {
    "class_skew": Dial(
        imbalance=Imbalance.FOREGROUND_FOREGROUND,
        low=1,
        high=10_000,
        help="How many times more often the first class occurs than the last; exponential in between.",
        lowers="AP of rare classes",
    ),
    "objects_per_image": Dial(
        imbalance=Imbalance.FOREGROUND_BACKGROUND,
        low=0,
        high=50,
        help="Mean number of objects in an image (Poisson, less those that find no place); fewer mean more background.",
        lowers="AP",
    ),
    "scale": Dial(
        imbalance=Imbalance.OBJECT_SCALE,
        low=0,
        high=1,
        help="Size distribution: 0 gives every size alike (log-uniform), 1 nearly all objects near the smallest size.",
        lowers="AP, and AP of large objects",
    ),
    "location_bias": Dial(
        imbalance=Imbalance.LOCATION,
        low=0,
        high=1,
        help="Share of the objects that lie near the middle of the image instead of anywhere.",
        lowers="AP of objects far from the middle",
    ),
    "overlap": Dial(
        imbalance=Imbalance.IOU_DISTRIBUTION,
        low=0,
        high=1,
        help="Share of the objects put in front of or behind another; also how many occluding bars lie across objects.",
        lowers="AP75",
    ),
    "aspect": Dial(
        imbalance=Imbalance.IOU_DISTRIBUTION,
        low=0,
        high=1,
        help="Elongation: width to height up to 1 + 4 x aspect, or its inverse, before turning.",
        lowers="AP75",
    ),
    "orientation": Dial(
        imbalance=Imbalance.IOU_DISTRIBUTION,
        low=0,
        high=1,
        help="Objects are turned by up to 180 degrees x orientation, either way.",
        lowers="AP",
    ),
    "lookalikes": Dial(
        imbalance=Imbalance.FOREGROUND_BACKGROUND,
        low=0,
        high=2,
        help="Hard background: shapes with a piece bitten out, which belong to no class, for each object.",
        lowers="precision, AP50",
    ),
    "clutter": Dial(
        imbalance=Imbalance.FOREGROUND_BACKGROUND,
        low=0,
        high=1,
        help="Easy background: strokes and textured blobs that look like no class.",
        lowers="AP",
    ),
    "label_noise": Dial(
        imbalance=Imbalance.REGRESSION_LOSS,
        low=0,
        high=1,
        help="Share of wrong annotations in the train split: half get another class, half a shifted and stretched box.",
        lowers="AP75",
    ),
}
"""Each dial of `Dials` by name: its imbalance, range and effect. Feature-level imbalance follows `scale`, objective
imbalance is a matter of the losses: neither has a dial of its own."""


@dataclass(frozen=True, kw_only=True)
class Dials:
    """The settings of the generator. The defaults are the balanced ones; each dial turned away brings one imbalance.

    >>> Dials(class_skew=100, classes=3).class_shares()
    array([0.9009009 , 0.09009009, 0.00900901])
    >>> Dials(overlap=2)
    Traceback (most recent call last):
    ValueError: overlap: expected a number from 0 to 1 but got 2
    """

    class_skew: float = 1.0
    """foreground-foreground imbalance; ratio of the most to the least frequent class, 1..10,000"""
    objects_per_image: float = 8.0
    """foreground-background imbalance; mean number of objects, 0..50, 0 gives images without any"""
    scale: float = 0.0
    """object-scale imbalance; 0 (sizes log-uniform) .. 1 (nearly all small)"""
    location_bias: float = 0.0
    """location imbalance; share of the objects near the middle, 0..1"""
    overlap: float = 0.15
    """IoU-distribution imbalance; share of the objects that touch another, 0..1; 0: no pixel of any is hidden"""
    aspect: float = 0.1
    """IoU-distribution imbalance; elongation up to 1 + 4 x aspect, 0..1"""
    orientation: float = 0.05
    """IoU-distribution imbalance; turned by up to 180 degrees x orientation, 0..1"""
    lookalikes: float = 0.15
    """foreground-background imbalance; hard look-alikes for each object, 0..2"""
    clutter: float = 0.2
    """foreground-background imbalance; strokes and blobs, 0..1"""
    label_noise: float = 0.0
    """regression-loss imbalance; share of wrong annotations in the train split, 0..1"""
    classes: int = 6
    """number of classes, 1..16, in the order of `CLASSES`"""
    width: int = 256
    """pixels, 64..4096"""
    height: int = 192
    """pixels, 64..4096"""

    def __post_init__(self) -> None:
        for name, (low, high) in _WHOLE.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Integral) or not low <= value <= high:
                raise ValueError(f"{name}: expected a whole number from {low} to {high} but got {value!r}")
        for name, dial in DIALS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Real) or not dial.low <= value <= dial.high:
                raise ValueError(f"{name}: expected a number from {dial.low} to {dial.high} but got {value!r}")

    @classmethod
    def balanced(cls) -> Dials:
        """The defaults, by name: even classes, sizes and places, clean labels, some clutter and look-alikes."""
        return cls()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes, most frequent first."""
        return CLASSES[: self.classes]

    def class_shares(self) -> np.ndarray:
        """(K,) expected share of each class: an exponential profile, `class_skew` from first to last."""
        share = float(self.class_skew) ** -np.linspace(0, 1, self.classes)
        return share / share.sum()


_WHOLE = {"classes": (1, len(CLASSES)), "width": (64, 4096), "height": (64, 4096)}
