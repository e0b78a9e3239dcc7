"""The pixels of the generated data: textures, colours, backgrounds and light. NumPy and Pillow only."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ._outlines import clutter, rasterise

__all__ = ["background", "expose", "paint", "plain", "scatter"]

_TURN = 2 * np.pi
_CONTRAST = 100  # least distance (sum over the channels) of an object's colour from what lies behind it
_HUE_SPREAD = 0.05  # of a class, in turns: neighbouring classes share most of their hues
_PLAIN = ("flat", "gradient", "dots", "speckle")


def _texture(rng: np.random.Generator, name: str, height: int, width: int, size: float) -> np.ndarray:
    """A pattern (height, width) or () in [0, 1] that mixes an object's two colours."""
    if name == "flat":
        return np.zeros((), np.float32)
    if name == "speckle":
        coarse = rng.integers(0, 256, (height // 3 + 1, width // 3 + 1), np.uint8)
        return coarse.repeat(3, 0).repeat(3, 1)[:height, :width] / np.float32(510)
    y, x = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)
    angle = rng.uniform(0, _TURN)
    along = np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * y
    if name == "gradient":
        return (along - along.min()) / max(np.ptp(along), 1) * np.float32(0.8)
    wave = _TURN / max(size / rng.uniform(3.5, 5), 3.5)  # at least 3.5 pixels a period: finer would be grey
    if name == "stripes":
        return np.clip(0.5 + 1.2 * np.sin(along * np.float32(wave)), 0, 1)
    across = np.float32(np.cos(angle)) * y - np.float32(np.sin(angle)) * x
    dots = np.sin(along * np.float32(wave)) * np.sin(across * np.float32(wave))
    return np.clip(dots * 3 - 1, 0, 1)


def _rgb(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Colours (N, 3) in 0..255; hue in turns, the others in 0..1."""
    k = (np.array([5.0, 3.0, 1.0]) + 6 * hue[:, None]) % 6
    return 255 * value[:, None] * (1 - saturation[:, None] * np.clip(np.minimum(k, 4 - k), 0, 1))


def _colours(
    rng: np.random.Generator, behind: np.ndarray, hue: float | None, *, apart: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Two colours of one thing; the first stands out against `behind`, the second against the first if `apart`."""
    hues = rng.random(8) if hue is None else hue + _HUE_SPREAD * rng.standard_normal(8)
    saturation = rng.uniform(0, 0.45, 8) if hue is None else rng.uniform(0.45, 1.0, 8)
    tries = _rgb(hues, saturation, rng.uniform(0.35, 1.0, 8))
    far = np.abs(tries - behind).sum(1)
    first = tries[np.argmax(far > _CONTRAST) if (far > _CONTRAST).any() else far.argmax()]
    if apart:
        second = first + np.where(first.mean() > 120, -1, 1) * rng.uniform(75, 115)
    else:
        second = first + rng.uniform(-60, 60, 3)
    return first.astype(np.float32), np.clip(second, 5, 250).astype(np.float32)


def paint(
    rng: np.random.Generator,
    canvas: np.ndarray,
    alpha: np.ndarray,
    x: int,
    y: int,
    *,
    texture: str,
    size: float,
    hue: float | None,
) -> None:
    """Put a textured shape on `canvas` (3, H, W), float32, with its corner at (x, y); in place. `hue` None: any."""
    height, width = alpha.shape
    _shade(canvas, alpha, x, y, 1 + round(size / 24))
    place = canvas[:, y : y + height, x : x + width]
    first, second = _colours(rng, place[:, ::5, ::5].mean((1, 2)), hue, apart=texture == "stripes")
    colour = first[:, None, None] + _texture(rng, texture, height, width, size) * (second - first)[:, None, None]
    place += alpha * (colour - place)


def _shade(canvas: np.ndarray, alpha: np.ndarray, x: int, y: int, step: int) -> None:
    """The shadow that a shape casts, `step` pixels to the right and down; in place."""
    place = canvas[:, y + step : y + step + alpha.shape[0], x + step : x + step + alpha.shape[1]]
    place *= 1 - 0.35 * alpha[: place.shape[1], : place.shape[2]]


def background(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """A canvas (3, height, width), float32: two dull colours mixed by clouds, a slope or a weave."""
    kind = rng.integers(3)
    if kind == 0:
        cells = rng.integers(3, 14)
        mix = rng.random((cells, cells + cells // 3))
    else:
        angle, wave = rng.uniform(0, _TURN), _TURN * rng.uniform(4, 20)
        y, x = np.linspace(0, 1, height // 4)[:, None], np.linspace(0, 1, width // 4)
        along = (np.cos(angle) * x + np.sin(angle) * y + 1) / 2
        mix = along if kind == 1 else 0.5 + 0.5 * np.sin(wave * along)
    coarse = Image.fromarray(np.clip(mix * 255, 0, 255).astype(np.uint8))
    fine = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32) / 255
    first = rng.uniform(30, 226, (3, 1, 1)).astype(np.float32)
    first += (first.mean() - first) * np.float32(rng.uniform(0.6, 0.95))
    change = rng.uniform(-50, 50) + rng.uniform(-20, 20, (3, 1, 1))
    return first + fine * change.astype(np.float32)


def scatter(rng: np.random.Generator, canvas: np.ndarray, count: int) -> None:
    """Strew `count` blobs and strokes over `canvas` (3, H, W), which belong to the background; in place."""
    _, height, width = canvas.shape
    for _ in range(count):
        size = rng.uniform(0.03, 0.3) * (width * height) ** 0.5
        turn, shift = rng.random(), rng.random(2)
        alpha = rasterise(clutter(rng), size=size, ratio=1.0, turn=turn, shift=shift, limit=(width, height))
        y, x = (int(rng.integers(0, room + 1)) for room in np.subtract((height, width), alpha.shape))
        paint(rng, canvas, alpha, x, y, texture=plain(rng), size=size, hue=None)


def plain(rng: np.random.Generator) -> str:
    """A texture that says nothing about the class."""
    return _PLAIN[rng.integers(len(_PLAIN))]


def expose(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    """Light from one side, brightness and sensor noise: the finished picture (H, W, 3), uint8."""
    _, height, width = canvas.shape
    slope_x, slope_y = rng.uniform(-0.3, 0.3, 2)
    light = rng.uniform(0.7, 1.1) + slope_x * np.linspace(-1, 1, width) + slope_y * np.linspace(-1, 1, height)[:, None]
    grain = np.float32(rng.uniform(8, 45))
    noise = np.frombuffer(rng.bytes(canvas.size), np.uint8).reshape(canvas.shape)
    picture = canvas * light.astype(np.float32)
    picture += (noise - np.float32(127.5)) * (grain / 255)
    picture = np.clip(picture, 0, 255, out=picture).astype(np.uint8)
    return np.ascontiguousarray(picture.transpose(1, 2, 0))
