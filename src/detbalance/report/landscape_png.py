"""The curves of a landscape as one picture, for a paper or a chat: Pillow draws them, no browser is needed."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from ..atomic import write_bytes
from .charts import Chart
from .landscape import charts_of

__all__ = ["draw", "save_png"]

WIDTH, HEIGHT = 520, 300
LEFT, TOP, RIGHT, BOTTOM = 64, 34, 14, 48
COLOURS = ("#2563eb", "#d9660a", "#0f8a7e", "#8b3fd1", "#c2255c", "#857200", "#0b7fab", "#55701a")
INK, GRID = "#333333", "#dddddd"


def save_png(views: Sequence[Any], descents: Mapping[str, Any] | None, path: str | Path) -> Path:
    """Draw and write, whole or not at all. Returns the path."""
    file = io.BytesIO()
    draw(views, descents).save(file, "PNG", optimize=True)
    return write_bytes(path, file.getvalue())


def draw(views: Sequence[Any], descents: Mapping[str, Any] | None = None) -> Image.Image:
    """One row a view, the loss left and its gradient right; the legend on top."""
    sections = charts_of(views, descents)
    names = list(dict.fromkeys(curve.name for view in views for curve in view.curves))
    legend = 26 * math.ceil(len(names) / 4) + 16
    picture = Image.new("RGB", (2 * WIDTH, legend + len(sections) * HEIGHT), "white")
    pen = ImageDraw.Draw(picture)
    for i, name in enumerate(names):
        x, y = 24 + i % 4 * (2 * WIDTH // 4), 12 + 26 * (i // 4)
        pen.line((x, y + 8, x + 22, y + 8), COLOURS[i % len(COLOURS)], 3)
        pen.text((x + 28, y), name[:32], INK, _font(14))
    for row, section in enumerate(sections):
        for column, chart in enumerate(section["charts"][:2]):
            _panel(pen, column * WIDTH, legend + row * HEIGHT, section["title"], chart)
    return picture


def _panel(pen: ImageDraw.ImageDraw, x0: int, y0: int, section: str, chart: Chart) -> None:
    """One pair of axes with its curves. Colours are those of the page, "var(--series-1)" and so on."""
    traces = chart.figure["data"]
    values = [v for t in traces for v in t["y"] if v is not None]
    xs = [v for t in traces for v in t["x"]]
    x_low, x_high, (low, high) = min(xs), max(xs), _span(values)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / (x_high - x_low)
        up = (y - low) / (high - low)
        return x0 + LEFT + across * (WIDTH - LEFT - RIGHT), y0 + HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    pen.text((x0 + LEFT, y0 + 8), f"{section}: {chart.title}", INK, _font(15))
    for y in _round(low, high):
        (left, level), (right, _) = place(x_low, y), place(x_high, y)
        pen.line((left, level, right, level), GRID)
        pen.text((left - 6, level), f"{y:g}", INK, _font(12), "rm")
    for x in _round(x_low, x_high):
        foot, bottom = place(x, low)
        pen.text((foot, bottom + 6), f"{x:g}", INK, _font(12), "ma")
    pen.text((x0 + (LEFT + WIDTH - RIGHT) / 2, y0 + HEIGHT - 22), chart.columns[0], INK, _font(12), "ma")
    for trace in traces:
        points = [place(x, y) for x, y in zip(trace["x"], trace["y"]) if y is not None]
        index = int(trace["line"]["color"].removeprefix("var(--series-").removesuffix(")")) - 1
        pen.line(points, COLOURS[index], 2, "curve")


def _span(values: Sequence[float]) -> tuple[float, float]:
    """From zero where the values do not cross it, with some air."""
    low, high = min(0.0, *values), max(0.0, *values)
    air = 0.04 * (high - low) or 1.0
    return low - air * (low < 0), high + air


def _round(low: float, high: float) -> list[float]:
    """Some four round numbers between the ends."""
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(times for times in (1, 2, 5, 10) if times * power >= rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def _font(size: int) -> Any:
    return ImageFont.load_default(size)
