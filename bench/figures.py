"""Redraw the figures of the review (Oksuz et al., arXiv 1909.00169) that annotations alone can give.

    python bench/figures.py ../shared/data docs/figures

reads COCO val2017 and Pascal VOC from the first folder and writes SVG files into the second: figures 4, 5, 7, 12a, 13,
14 and 15. docs/diagnosis.md sets our numbers beside the review's statements.
"""

from __future__ import annotations

import argparse
import base64
import io
import math
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image

import detbalance
from detbalance.data.annotations import Annotations
from detbalance.diagnosis import indices
from detbalance.diagnosis.anchors import RETINANET, anchor_matches, anchor_statistics, covering_count
from detbalance.diagnosis.columns import Columns
from detbalance.diagnosis.overlaps import coverage

WIDTH, HEIGHT = 300, 200
LEFT, TOP, RIGHT, BOTTOM = 56, 28, 14, 42
COLOURS = ("#2a6fbb", "#d1622b", "#3a8f5c", "#8d5fb0", "#b0972a", "#4aa8b8")
CROWDED = 5
"""labels of an axis that stand upright; more are slanted"""
SHADES = np.array([(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)], float)


@dataclass
class Panel:
    """One pair of axes."""

    title: str
    x: tuple[float, float]
    y: tuple[float, float]
    x_name: str = ""
    y_name: str = ""
    log: bool = False
    """of the y axis"""
    labels: tuple[str, ...] = ()
    """at x = 1, 2, ... in place of numbers"""
    parts: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    drawn: list[np.ndarray] = field(default_factory=list)
    """points of the curves"""

    def place(self, x, y) -> np.ndarray:
        """Points of the drawing, (n, 2)."""
        x, y = np.asarray(x, float), np.asarray(y, float)
        low, high = self.y
        if self.log:
            y, low, high = np.log10(np.maximum(y, low)), math.log10(low), math.log10(high)
        return np.stack((
            LEFT + (x - self.x[0]) / (self.x[1] - self.x[0]) * WIDTH,
            TOP + HEIGHT - (y - low) / (high - low) * HEIGHT,
        ), -1)  # fmt: skip

    def line(self, x, y, name: str = "") -> None:
        """A curve; named curves are listed in the corner that has least of them."""
        placed = self.place(x, y)
        self.drawn.append(placed)
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in placed)
        self.parts.append(f'<polyline points="{points}" fill="none" stroke="{self.colour}" stroke-width="1.6"/>')
        self.names.append(name)

    def bars(self, x, y, width: float, name: str | None = None) -> None:
        """Bars from the foot of the axis; named ones have a colour of their own and are listed as curves are."""
        colour = COLOURS[0] if name is None else self.colour
        if name is not None:
            self.names.append(name)
        x = np.asarray(x, float)
        tops, feet = self.place(x - width / 2, y), self.place(x + width / 2, np.full(len(x), self.y[0]))
        for (x1, y1), (x2, y2) in zip(tops, feet):
            size = f'width="{max(x2 - x1, 0.5):.1f}" height="{max(y2 - y1, 0):.1f}"'
            self.parts.append(f'<rect x="{x1:.1f}" y="{y1:.1f}" {size} fill="{colour}"/>')

    def map(self, values: np.ndarray) -> None:
        """A heat map that fills the axes, first row on top; dark is low."""
        share = values / max(values.max(), 1e-12) * (len(SHADES) - 1)
        low = np.minimum(share.astype(int), len(SHADES) - 2)
        rest = (share - low)[..., None]
        pixels = np.rint(SHADES[low] * (1 - rest) + SHADES[low + 1] * rest).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG", optimize=True)
        data = base64.b64encode(file.getvalue()).decode()
        size = f'x="{LEFT}" y="{TOP}" width="{WIDTH}" height="{HEIGHT}" preserveAspectRatio="none"'
        self.parts.append(f'<image {size} style="image-rendering:pixelated" href="data:image/png;base64,{data}"/>')

    @property
    def colour(self) -> str:
        return COLOURS[len(self.names) % len(COLOURS)]

    def svg(self, right: float, down: float = 0) -> str:
        """The panel, moved to its place."""
        box = f'<rect x="{LEFT}" y="{TOP}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#888"/>'
        x, y, end = self._corner()
        end = f'text-anchor="{end}" paint-order="stroke" stroke="white" stroke-width="3"'  # readable on a curve
        legend = "".join(
            f'<text x="{x}" y="{y + 13 * i}" fill="{COLOURS[i % len(COLOURS)]}" {end}>{escape(n)}</text>'
            for i, n in enumerate(self.names)
            if n
        )
        words = (
            f'<text x="{LEFT + WIDTH / 2}" y="16" text-anchor="middle" font-weight="bold">{escape(self.title)}</text>'
            f'<text x="{LEFT + WIDTH / 2}" y="{TOP + HEIGHT + 34}" text-anchor="middle">{escape(self.x_name)}</text>'
            f'<text transform="translate(12 {TOP + HEIGHT / 2}) rotate(-90)" text-anchor="middle">'
            f"{escape(self.y_name)}</text>"
        )
        inside = "".join((*self.parts, box, self._ticks(), legend, words))
        return f'<g transform="translate({right:.0f} {down:.0f})">{inside}</g>'

    def _corner(self) -> tuple[float, float, str]:
        """Where the names stand: x and y of the first, and which end of it that is; at the top right if in doubt."""
        wide, high = 7 * max(map(len, self.names), default=0) + 12, 13 * len(self.names) + 10
        if not self.drawn:
            return LEFT + WIDTH - 6, TOP + 14, "end"
        curves = [np.stack([np.interp(t, np.arange(len(c)), c[:, i]) for i in (0, 1)], 1)
                  for c in self.drawn for t in [np.linspace(0, len(c) - 1, 500)]]  # fmt: skip
        points = np.concatenate(curves) - (LEFT, TOP)

        def covered(right: bool, top: bool) -> int:
            x = points[:, 0] > WIDTH - wide if right else points[:, 0] < wide
            return int((x & (points[:, 1] < high if top else points[:, 1] > HEIGHT - high)).sum())

        corners = [(right, top) for top in (True, False) for right in (True, False)]
        right, top = min(corners, key=lambda corner: covered(*corner))
        y = TOP + 14 if top else TOP + HEIGHT - 13 * len(self.names) + 5
        return (LEFT + WIDTH - 6, y, "end") if right else (LEFT + 6, y, "start")

    def _ticks(self) -> str:
        text = []
        whole = self.x[1] > 10
        marks = [(v, f"{v:.0f}" if whole else f"{v:.3g}") for v in np.linspace(*self.x, 5)]
        for value, name in list(enumerate(self.labels, 1)) or marks:
            x, _ = self.place(value, self.y[0])
            y, anchor = TOP + HEIGHT + 15, "middle"
            turn = ""
            if len(self.labels) > CROWDED:
                y, anchor = y - 5, "end"
                turn = f' transform="rotate(-35 {x:.1f} {y})" font-size="8"'
            text.append(f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}"{turn}>{escape(name)}</text>')
        if self.log:
            values = [10.0**k for k in range(math.ceil(math.log10(self.y[0])), math.floor(math.log10(self.y[1])) + 1)]
        else:
            values = np.linspace(*self.y, 5).tolist()
        for value in values:
            _, y = self.place(self.x[0], value)
            text.append(f'<text x="{LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{value:.4g}</text>')
        return "".join(text)


def save(path: Path, *panels: Panel, columns: int = 0) -> None:
    """The panels side by side, in rows of so many if need be, in one file that needs no other."""
    columns = columns or len(panels)
    each, height = LEFT + WIDTH + RIGHT, TOP + HEIGHT + BOTTOM
    body = "".join(panel.svg(i % columns * each, i // columns * height) for i, panel in enumerate(panels))
    size = f"{each * columns} {height * math.ceil(len(panels) / columns)}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}"'
    style = 'font-family="sans-serif" font-size="11" fill="#333"'
    path.write_text(f'{head} {style}><rect width="100%" height="100%" fill="white"/>{body}</svg>\n', encoding="utf-8")
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def figure_4(data: Annotations, folder: Path) -> None:
    """Candidates of an image: background and object; positives per class."""
    counted = anchor_statistics(data, RETINANET)
    images = len(data)
    numbers = [counted.negatives.sum() / images, counted.ignored.sum() / images, counted.positives.sum() / images]
    print(f"4a: background {numbers[0]:,.0f}, ignored {numbers[1]:.1f}, object {numbers[2]:.1f} an image")
    first = Panel("(a) all anchors", (0, 4), (1, 1e6), y_name="anchors an image", log=True)
    first.labels = ("background", "ignored", "object")
    first.bars([1, 2, 3], numbers, 0.7)
    per_class = np.sort(counted.per_class / images)[::-1]
    print(f"4b: {data.classes[int(counted.per_class.argmax())]} {per_class[0]:.1f}, median {np.median(per_class):.2f}")
    second = Panel("(b) object, by class", (0, 81), (1e-2, 1e2), "class, by rank", "anchors an image", log=True)
    second.bars(np.arange(1, 81), per_class, 0.8)
    save(folder / "figure4.svg", first, second)


def figure_5(sets: dict[str, Annotations], folder: Path) -> None:
    """Boxes per class, images by number of objects, images by number of classes."""
    panels = (
        Panel("(a) boxes per class", (1, 80), (1, 1e5), "class, by rank", "boxes", log=True),
        Panel("(b) objects in an image", (0, 64), (1, 1e4), "objects", "images", log=True),
        Panel("(c) classes in an image", (0, 20), (1, 1e4), "classes", "images", log=True),
    )
    for name, data in sets.items():
        columns = Columns(data)
        counts = np.sort(data.counts)[::-1]
        panels[0].line(np.arange(1, len(counts) + 1), counts, name)
        distinct = np.bincount(columns.presence[0], minlength=len(data))
        for panel, number in zip(panels[1:], (columns.per_image, distinct)):
            images = np.bincount(number, minlength=int(panel.x[1]) + 1)[: int(panel.x[1]) + 1]
            panel.line(np.arange(len(images)), images, name)
        print(f"5 {name}: {counts[0]} to {counts[counts > 0].min()} boxes, to {columns.per_image.max()} in an image, "
              f"{distinct.max()} classes")  # fmt: skip
    save(folder / "figure5.svg", *panels)


def figure_7(sets: dict[str, Annotations], folder: Path) -> None:
    """Relative width, height, area."""
    panels = [
        Panel(f"relative {name}", (0, 1), (0.01, 100), y_name="density", log=True)
        for name in ("width", "height", "area")
    ]
    for name, data in sets.items():
        sides = Columns(data).relative
        for panel, values in zip(panels, (sides[:, 0], sides[:, 1], sides.prod(1))):
            panel.line((np.arange(50) + 0.5) / 50, indices.density(values), name)
            print(f"7 {name}, {panel.title}: {(values < 0.1).mean():.3f} below 0.1, median {np.median(values):.3f}")
    save(folder / "figure7.svg", *panels)


def figure_12(data: Annotations, folder: Path) -> None:
    """IoU of the positive anchors."""
    _, counts = anchor_statistics(data, RETINANET).iou_histogram
    share = counts[50:] / counts.sum()
    print("12a:", ", ".join(f"{a / 10:.1f}: {share[(a - 5) * 10 : (a - 4) * 10].sum():.3f}" for a in range(5, 10)))
    panel = Panel("(a) IoU of the positive anchors", (0.5, 1), (0, 0.12), "IoU", "share")
    panel.bars((np.arange(50, 100) + 0.5) / 100, share, 0.009)
    save(folder / "figure12a.svg", panel)


def figure_13(sets: dict[str, Annotations], folder: Path) -> None:
    """Density of the objects' centres."""
    panels = []
    for name, data in sets.items():
        centre = Columns(data).centre
        panels.append(Panel(name, (0, 1), (1, 0)))
        density = np.histogram2d(centre[:, 1], centre[:, 0], 32, ((0, 1), (0, 1)))[0]
        panels[-1].map(np.sqrt(density))  # else the middle alone is seen
        print(f"13 {name}: {(np.abs(centre - 0.5) < 0.25).all(1).mean():.3f} in the middle quarter")
    save(folder / "figure13.svg", *panels)


def figure_14(data: Annotations, folder: Path) -> None:
    """Top left corners of the positive anchors about their object's."""
    counted = anchor_statistics(data, RETINANET).position
    panel = Panel("positive anchors' top left corners", (-1, 1), (1, -1), "of the object's width", "of its height")
    panel.map(counted)
    save(folder / "figure14.svg", panel)


def figure_15(data: Annotations, folder: Path) -> None:
    """How many positive anchors cover each pixel: in one image, and over all."""
    columns = Columns(data)
    row = int(np.argmin(np.abs(columns.per_image - 12)))
    one = data.subset(np.array([row]))
    width, height = RETINANET.resized(one.sizes)[0][0].tolist()
    matches = anchor_matches(one, RETINANET)
    first = Panel(f"one image with {columns.per_image[row]} objects", (0, width), (height, 0))
    depth = covering_count(matches.anchors[matches.positive], width, height)
    first.map(depth[::8, ::8].astype(float))
    chosen = data.subset(np.arange(0, len(data), 5))
    matches = anchor_matches(chosen, RETINANET)
    size = RETINANET.resized(chosen.sizes)[0][matches.image]
    table = coverage(
        (matches.anchors / np.tile(size, 2))[matches.positive], matches.image[matches.positive], len(chosen)
    )
    share = np.bincount(table.ravel()) / table.size
    print(f"15: {share[0]:.3f} of the pixels under no positive, up to {table.max()}; in the one image {depth.max()}")
    second = Panel("all images", (0, 200), (1e-6, 1), "positive anchors over a pixel", "share of the pixels", log=True)
    second.line(np.arange(len(share))[:201], share[:201])
    save(folder / "figure15.svg", first, second)


def main() -> None:
    """Draw all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    coco = detbalance.read(given.data / "coco_val2017_boxes")
    folder = given.data / "voc_annotations"
    voc = {f"VOC {year}": detbalance.read(folder / f"voc{year}_trainval.json") for year in (2007, 2012)}
    sets = {"COCO val2017": coco, **voc}
    figure_4(coco, given.out)
    figure_5(sets, given.out)
    figure_7(sets, given.out)
    figure_12(coco, given.out)
    figure_13(sets, given.out)
    figure_14(coco, given.out)
    figure_15(coco, given.out)


if __name__ == "__main__":
    main()
