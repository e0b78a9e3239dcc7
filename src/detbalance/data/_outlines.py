"""The shapes of the generated data, and which of them are classes. NumPy and Pillow only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

__all__ = ["CLASSES", "Outline", "clutter", "outline", "rasterise"]

_TURN = 2 * np.pi

CLASSES = (
    *("disc", "square", "striped disc", "triangle", "star", "striped square", "ring", "cross"),
    *("striped triangle", "heart", "arrow", "striped ring", "crescent", "bolt", "striped star", "striped cross"),
)
"""What a class looks like, from the most to the least frequent under `class_skew`: an outline, and stripes or none."""


@dataclass(frozen=True, eq=False)
class Outline:
    """A shape in the square [-1, 1]^2 (y downwards): polygons drawn one after the other, `False` ones cut out."""

    polygons: tuple[tuple[np.ndarray, bool], ...]
    bites: tuple[float, ...] = (0.0,)
    """directions, in turns, in which a piece can be bitten out so that the shape is spoilt"""

    def bitten(self, direction: float) -> Outline:
        """The same shape with a wedge missing: a hard look-alike that belongs to no class."""
        spread = np.array([-0.09, 0.09]) + direction
        wedge = np.concatenate((_at(np.array([direction]), 0.1), _at(spread, 2.0)))
        return Outline((*self.polygons, (wedge, False)), self.bites)


def _at(turns: np.ndarray, radius: np.ndarray | float) -> np.ndarray:
    """Points at polar coordinates."""
    return np.stack((np.cos(_TURN * turns), np.sin(_TURN * turns)), -1) * np.reshape(radius, (-1, 1))


def _outlines() -> dict[str, Outline]:
    circle = _at(np.arange(48) / 48, 1.0)
    square = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1.0)])
    arm = 0.36
    cross = np.array([(-arm, -1), (arm, -1), (arm, -arm), (1, -arm), (1, arm), (arm, arm)])
    t = np.arange(48) / 48 * _TURN
    heart = np.stack((np.sin(t) ** 3, -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t)) / 16), -1)
    arrow = np.array([(-1, -0.3), (0.1, -0.3), (0.1, -0.9), (1, 0), (0.1, 0.9), (0.1, 0.3), (-1, 0.3)])
    bolt = np.array([(0.3, -1), (-0.7, 0.2), (-0.05, 0.2), (-0.3, 1), (0.7, -0.25), (0.05, -0.25)])
    sides, tips = (0.0, 0.25, 0.5, 0.75), tuple(np.arange(5) / 5 - 0.25)
    return {
        "disc": Outline(((circle, True),), sides),
        "square": Outline(((square, True),), sides),
        "triangle": Outline(((_at(np.arange(3) / 3 - 0.25, 1.0), True),), (1 / 4, 7 / 12, 11 / 12)),
        "star": Outline(((_at(np.arange(10) / 10 - 0.25, np.tile((1.0, 0.42), 5)), True),), tips),
        "ring": Outline(((circle, True), (circle * 0.55, False)), sides),
        "cross": Outline(((np.concatenate((cross, -cross)), True),), sides),
        "heart": Outline(((heart, True),), (0.0, 0.5, 0.25)),
        "arrow": Outline(((arrow, True),), (0.5, 0.0)),
        "crescent": Outline(((circle, True), (circle * 0.8 + (0.5, 0.0), False)), (0.5,)),
        "bolt": Outline(((bolt, True),), (0.0, 0.5)),
    }


_OUTLINES = _outlines()


def outline(name: str) -> Outline:
    """The outline of a class; stripes do not change it.

    >>> outline("striped disc") is outline("disc")
    True
    """
    return _OUTLINES[name.removeprefix("striped ")]


def clutter(rng: np.random.Generator) -> Outline:
    """A lobed blob or a bent stroke: something that looks like nothing in particular."""
    if rng.random() < 0.5:
        turns = np.arange(28) / 28
        lobes = np.array([2, 3, 5])[:, None]
        waves = np.cos(_TURN * (lobes * turns + rng.random((3, 1)))) * rng.uniform(0.15, 0.4, (3, 1))
        return Outline(((_at(turns, np.maximum(1 + waves.sum(0), 0.15)), True),))
    x = np.linspace(-1, 1, 12)
    line = np.stack((x, rng.uniform(-0.8, 0.8) * x**2 + rng.uniform(-0.4, 0.4) * np.sin(4 * x)), -1)
    thick = np.array([0.0, rng.uniform(0.03, 0.12)])
    return Outline(((np.concatenate((line - thick, (line + thick)[::-1])), True),))


def rasterise(
    shape: Outline, *, size: float, ratio: float, turn: float, shift: np.ndarray, limit: tuple[int, int]
) -> np.ndarray:
    """Coverage (h, w) in [0, 1] of a shape whose box has the area size^2, as far as `limit` (width, height) allows.

    `ratio` stretches it (width to height, before it is turned), `shift` (2,) in [0, 1) moves it by parts of a pixel.
    """
    angle = _TURN * turn
    stretch = np.array([ratio**0.5, ratio**-0.5])
    rotate = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    polygons = [((points * stretch) @ rotate, filled) for points, filled in shape.polygons]
    low, high = polygons[0][0].min(0), polygons[0][0].max(0)
    factor = min(size / np.prod(high - low) ** 0.5, *((np.array(limit) - 1) / (high - low)))
    fine = 4 if size < 64 else 2
    width, height = np.floor((high - low) * factor + shift).astype(int) + 1
    canvas = Image.new("L", (width * fine, height * fine))
    draw = ImageDraw.Draw(canvas)
    for points, filled in polygons:
        corners = ((points - low) * factor + shift) * fine - 0.5
        draw.polygon(corners.ravel().tolist(), fill=255 * filled)
    return np.asarray(canvas.reduce(fine), np.float32) / 255
