"""Which objects there are to take, by class, and which class is wanted how often. Numpy, so that it is quick."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..data.annotations import Annotations
from . import _draw as draw
from ._piece import Cuts

ClassOrder = str | Mapping | Sequence | None
"""a class distribution: "even", "data" (as frequent as in the data), "inverse" (to the frequency), weights by class
name or label (others 0), or a weight for each class 1..K"""

NAMED = ("even", "data", "inverse")
_FREE = 0.1  # of an object's box at most may lie in another's, or the cut would show both


def settled(order: ClassOrder) -> str | tuple | None:
    """The same class distribution as something that does not change and can be compared.

    >>> settled({"cat": 1, "dog": 3}), settled([1, 3])
    ((('cat', 1.0), ('dog', 3.0)), (1.0, 3.0))
    """
    if order is None or (isinstance(order, str) and order in NAMED):
        return order
    if isinstance(order, str) or not isinstance(order, Mapping | Sequence | np.ndarray):
        raise ValueError(f"classes must be {', '.join(map(repr, NAMED))}, weights by class or a list, got {order!r}")
    pairs = order.items() if isinstance(order, Mapping) else [w if isinstance(w, tuple) else (None, w) for w in order]
    pairs = [(name, float(weight)) for name, weight in pairs]
    weights = [weight for _, weight in pairs]
    if not (all(0 <= weight < float("inf") for weight in weights) and sum(weights) > 0):
        raise ValueError(f"classes must be weights of 0 or more, and not all 0, got {order!r}")
    return tuple(weight if name is None else (name, weight) for name, weight in pairs)


def shares(order: str | tuple, counts: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """(K,) share of each class; classes without objects cannot be drawn, and the others take their part.

    >>> shares("inverse", np.array([90, 10, 0]), ("a", "b", "c")).round(2).tolist()
    [0.1, 0.9, 0.0]
    """
    there = counts > 0
    if isinstance(order, str):
        wanted = {"even": np.ones(len(counts)), "data": counts, "inverse": 1 / np.maximum(counts, 1)}[order]
    elif isinstance(order[0], tuple):
        wanted = np.zeros(len(counts))
        for name, weight in order:
            if name not in names and name not in range(1, len(names) + 1):
                raise ValueError(f"classes: expected names or labels of {', '.join(names)} but got {name!r}")
            wanted[names.index(name) if name in names else name - 1] = weight
    elif len(order) != len(counts):
        raise ValueError(f"classes: expected {len(counts)} weights, one a class, but got {len(order)}")
    else:
        wanted = np.array(order)
    wanted = np.where(there, wanted, 0.0)
    if there.any() and not wanted.any():
        raise ValueError(f"classes: no class that is ordered has objects; there are objects of {counts.tolist()}")
    return wanted / max(wanted.sum(), 1e-300)


@dataclass(frozen=True, eq=False)
class Objects:
    """The objects of a dataset, sorted by class, without crowds; B of them."""

    images: int
    image: np.ndarray
    """(B,) row of the image"""
    row: np.ndarray
    """(B,) row of the object in its image's target"""
    box: np.ndarray
    """(B, 4) xyxy, pixels of the original image"""
    first: np.ndarray
    """(K + 1,) the objects of class k are rows first[k - 1]:first[k]"""
    per_image: np.ndarray
    """(I,) number of objects, those that are not taken too"""
    share: np.ndarray | None
    """(K,) how often each class is wanted; None: images are drawn, not objects"""
    cuts: Cuts = field(default_factory=Cuts, repr=False)
    """cuts them out"""

    @classmethod
    def of(cls, annotations: Annotations, order: str | tuple | None) -> Objects:
        """Those of a dataset. An object that lies in another's box by more than a tenth is taken only where its class
        has no other: cut out, it would bring a piece of the other along."""
        rows = np.flatnonzero(~annotations.crowd)
        image, label, box = annotations.image[rows], annotations.label[rows], annotations.boxes[rows]
        row = np.arange(len(rows)) - np.searchsorted(image, image)
        free = _free(image, box)
        some = np.bincount(label[free], minlength=len(annotations.classes) + 1) > 0
        taken = np.flatnonzero(free | ~some[label])
        taken = taken[np.argsort(label[taken], kind="stable")]
        first = np.searchsorted(label[taken], np.arange(1, len(annotations.classes) + 2))
        share = None if order is None else shares(order, annotations.counts, annotations.classes)
        per_image = np.bincount(image, minlength=len(annotations))
        return cls(len(annotations), image[taken], row[taken], box[taken], first, per_image, share)

    def draw(self, factor: np.ndarray | float = 1.0) -> int | None:
        """The number of an object of a drawn class; `factor` (K,) changes how often each is wanted. None without
        objects."""
        if self.share is None or not (share := self.share * factor).any():
            return None
        kind = draw.row(share)
        return draw.whole(int(self.first[kind]), int(self.first[kind + 1]) - 1)

    def kind(self, number: int) -> int:
        """The class of an object, from 0."""
        return int(np.searchsorted(self.first, number, side="right")) - 1

    def draw_image(self) -> int:
        """An image: any, or where a distribution was ordered one that holds an object of a drawn class."""
        drawn = None if self.share is None else self.draw()
        return draw.whole(0, self.images - 1) if drawn is None else int(self.image[drawn])


def known(data: Objects | None, method: object) -> Objects:
    """The objects that `fit` has found. Raises ValueError before it."""
    if data is None:
        raise ValueError(
            f"{method!r} does not know the data yet: call its fit(annotations, others), which gives a copy"
        )
    return data


def _free(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """(B,) does little of the box lie in others, those within it left out? They come along when it is cut."""
    free = np.ones(len(image), bool)
    starts = np.flatnonzero(np.r_[True, image[1:] != image[:-1]]) if len(image) else np.zeros(0, int)
    for first, last in zip(starts, np.r_[starts[1:], len(image)]):
        if last - first > 1:
            free[first:last] = covered(box[first:last]) <= _FREE
    return free


def covered(box: np.ndarray) -> np.ndarray:
    """(G,) the largest share of each box that lies in another one that is not within it."""
    low, high = np.maximum(box[:, None, :2], box[None, :, :2]), np.minimum(box[:, None, 2:], box[None, :, 2:])
    area = (box[:, 2:] - box[:, :2]).prod(1)
    common = np.clip(high - low, 0, None).prod(2)
    within = np.isclose(common, area[None]) & (area[None] < area[:, None])
    common[within] = 0
    np.fill_diagonal(common, 0)
    return (common / area[:, None]).max(1)
