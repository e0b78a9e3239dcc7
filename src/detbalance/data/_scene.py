"""Where the things of a generated picture lie, and what hides what. NumPy only; the pixels come from `_drawing`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ._drawing import plain
from ._outlines import CLASSES, outline, rasterise

if TYPE_CHECKING:
    from ._dials import Dials

__all__ = ["VISIBLE", "Scene", "Thing", "compose"]

VISIBLE = 0.4
"""Least share of an object's pixels that stays visible: nothing is placed where it would hide more, so that no object
is in the picture and yet unlabelled"""
SMALLEST, LARGEST = 0.06, 0.5
"""Range of object sizes (square root of the box area) relative to the square root of the image area"""
_LOOKALIKE_SMALLEST = 0.1  # a smaller bite could not be seen
_TRIES = 24


@dataclass(eq=False)
class Thing:
    """Something to be drawn: an object (label 1..K), or a look-alike or occluder (label 0)."""

    label: int
    alpha: np.ndarray
    """(h, w) float32, coverage; a pixel belongs to the thing where it is at least one half"""
    texture: str
    size: float
    keep: float
    """least share of it that must stay visible"""
    hue: float | None
    """in turns; None: any"""
    x: int = 0
    y: int = 0
    mask: np.ndarray = field(init=False)
    total: int = field(init=False)
    visible: int = field(init=False)

    def __post_init__(self) -> None:
        self.mask = self.alpha >= 0.5
        self.total = self.visible = int(self.mask.sum())

    @property
    def centre(self) -> np.ndarray:
        height, width = self.mask.shape
        return np.array([self.x + width / 2, self.y + height / 2])


class Scene:
    """Things in the order in which they are drawn, and for each pixel the thing that is seen there."""

    def __init__(self, width: int, height: int) -> None:
        self.owner = np.zeros((height, width), np.int16)
        """0 is background, n the n-th thing that was placed"""
        self.things: list[Thing] = []
        self.order: list[int] = []
        """numbers of the things from back to front"""

    def _window(self, thing: Thing) -> np.ndarray:
        height, width = thing.mask.shape
        return self.owner[thing.y : thing.y + height, thing.x : thing.x + width]

    def _put(self, thing: Thing, mask: np.ndarray, number: int, *, front: bool) -> bool:
        """Let `thing` own the pixels of `mask`; False if it lies behind all others and too little of it is seen."""
        thing.visible = int(mask.sum())
        if thing.visible < max(thing.keep * thing.total, 1):
            return False
        self._window(thing)[mask] = number
        self.things.append(thing)
        self.order.insert(len(self.order) if front else 0, number)
        return True

    def place(self, thing: Thing, centre: np.ndarray, *, overlap: bool = False, front: bool = True) -> bool:
        """Put `thing` as near to `centre` as the borders allow; False, and nothing changed, if it hides too much.

        Without `overlap` no two things share a pixel; with it, in `front` of all others or behind them.
        """
        height, width = thing.mask.shape
        room = np.array(self.owner.shape[::-1]) - (width, height)
        thing.x, thing.y = np.clip(np.rint(centre - (width / 2, height / 2)), 0, room).astype(int).tolist()
        number, window = len(self.things) + 1, self._window(thing)
        if not overlap:
            return not window[thing.mask].any() and self._put(thing, thing.mask, number, front=True)
        if not front:
            return self._put(thing, thing.mask & (window == 0), number, front=False)
        lost = np.bincount(window[thing.mask], minlength=number)
        if any(other.visible - n < other.keep * other.total for other, n in zip(self.things, lost[1:])):
            return False
        for other, n in zip(self.things, lost[1:]):
            other.visible -= int(n)
        return self._put(thing, thing.mask, number, front=True)

    def boxes(self) -> tuple[np.ndarray, np.ndarray]:
        """Boxes (G, 4) float64, xyxy, tight around the visible pixels of the objects, and their labels (G,)."""
        boxes, labels = [], []
        for number, thing in enumerate(self.things, 1):
            if thing.label:
                seen = self._window(thing) == number
                columns, rows = np.flatnonzero(seen.any(0)), np.flatnonzero(seen.any(1))
                box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
                boxes.append(np.add(box, (thing.x, thing.y, thing.x, thing.y)))
                labels.append(thing.label)
        return np.array(boxes, np.float64).reshape(-1, 4), np.array(labels, np.int64)


def _thing(rng: np.random.Generator, dials: Dials, kind: int, *, lookalike: bool) -> Thing:
    """An object of a class, or a shape that resembles one and is none."""
    name = CLASSES[kind]
    shape = outline(name)
    if lookalike:
        shape = shape.bitten(shape.bites[rng.integers(len(shape.bites))])
    low = _LOOKALIKE_SMALLEST if lookalike else SMALLEST
    size = low * (LARGEST / low) ** _tilted(rng, 8 * dials.scale) * (dials.width * dials.height) ** 0.5
    alpha = rasterise(
        shape,
        size=size,
        ratio=np.exp(rng.uniform(-1, 1) * np.log1p(4 * dials.aspect)),
        turn=dials.orientation * rng.uniform(-0.5, 0.5),
        shift=rng.random(2),
        limit=(dials.width, dials.height),
    )
    texture = "stripes" if name.startswith("striped") else plain(rng)
    keep, hue = 1.0 if lookalike else VISIBLE, 0.618 * kind % 1  # golden section: hues far apart for any number
    return Thing(0 if lookalike else kind + 1, alpha, texture, size, keep, hue)


def _tilted(rng: np.random.Generator, rate: float) -> float:
    """A number in [0, 1] with density proportional to exp(-rate t): even for rate 0, mostly near 0 for a large one."""
    u = rng.random()
    return u if rate == 0 else -np.log1p(u * np.expm1(-rate)) / rate


def _places(rng: np.random.Generator, thing: Thing, dials: Dials) -> np.ndarray:
    """Centres (N, 2) for `thing`, to be tried in turn: even over the image, or those nearest to its middle first."""
    extent, half = np.array([dials.width, dials.height]), np.array(thing.mask.shape[::-1]) / 2
    centres = half + rng.random((_TRIES, 2)) * np.maximum(extent - 2 * half, 0)
    if rng.random() < dials.location_bias:
        centres = centres[np.argsort(np.abs(centres / extent - 0.5).max(1))]
    return centres


def _beside(rng: np.random.Generator, thing: Thing, other: Thing) -> np.ndarray:
    """A centre for `thing` at which it partly covers `other`."""
    angle = rng.uniform(0, 2 * np.pi)
    reach = np.array(thing.mask.shape[::-1]) + other.mask.shape[::-1]
    return other.centre + np.array([np.cos(angle), np.sin(angle)]) * reach * rng.uniform(0.15, 0.4)


def _settle(rng: np.random.Generator, scene: Scene, thing: Thing, dials: Dials) -> bool:
    """Find a place for `thing`; False if none is found in a fair number of tries."""
    objects = [other for other in scene.things if other.label]
    if objects and rng.random() < dials.overlap:
        for _ in range(_TRIES):
            other = objects[rng.integers(len(objects))]
            front = bool(rng.random() < 0.5) or thing.label == 0
            if scene.place(thing, _beside(rng, thing, other), overlap=True, front=front):
                return True
    return any(scene.place(thing, centre) for centre in _places(rng, thing, dials))


def _occluder(rng: np.random.Generator, other: Thing) -> Thing:
    """A bar that lies across an object."""
    shape = outline("square")
    size = other.size * rng.uniform(0.4, 0.7)
    turn, limit = rng.random(), (int(other.size * 2) + 2,) * 2
    alpha = rasterise(shape, size=size, ratio=rng.uniform(5, 9), turn=turn, shift=rng.random(2), limit=limit)
    return Thing(0, alpha, plain(rng), size, keep=0.0, hue=None)


def compose(rng: np.random.Generator, dials: Dials) -> Scene:
    """Draw what is in the picture, and where: objects and look-alikes from large to small, then occluding bars."""
    scene = Scene(dials.width, dials.height)
    count = rng.poisson(dials.objects_per_image)
    spoilt = rng.poisson(dials.objects_per_image * dials.lookalikes)
    kinds = rng.choice(dials.classes, count + spoilt, p=dials.class_shares()).tolist()
    things = [_thing(rng, dials, kind, lookalike=i >= count) for i, kind in enumerate(kinds)]
    for thing in sorted(things, key=lambda t: -t.size):
        _settle(rng, scene, thing, dials)
    for other in [thing for thing in scene.things if thing.label and rng.random() < 0.4 * dials.overlap]:
        bar = _occluder(rng, other)
        if all(a <= b for a, b in zip(bar.mask.shape, scene.owner.shape)):
            scene.place(bar, _beside(rng, bar, other), overlap=True)
    return scene
