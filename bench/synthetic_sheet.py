"""Draws the contact sheet of docs/synthetic.md: each dial of the generated data turned up, boxes drawn.

python bench/synthetic_sheet.py docs/figures/synthetic.jpg
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from detbalance.data.synthetic import DIALS, Dials, disturb, draw_image

COLUMNS, GAP, TITLE = 4, 4, 14
TURNED = {
    "balanced": Dials(),
    "class_skew=100": Dials(class_skew=100),
    "objects_per_image=1": Dials(objects_per_image=1),
    "scale=1": Dials(scale=1),
    "location_bias=1": Dials(location_bias=1),
    "overlap=1": Dials(overlap=1),
    "aspect=1": Dials(aspect=1),
    "orientation=1": Dials(orientation=1),
    "lookalikes=2": Dials(lookalikes=2),
    "clutter=1": Dials(clutter=1),
    "label_noise=0.5": Dials(label_noise=0.5),
    "classes=16": Dials(classes=16),
}


def tile(title: str, dials: Dials, seed: int) -> Image.Image:
    """One picture with its boxes, and the setting over it."""
    picture, boxes, labels = draw_image(np.random.default_rng(seed), dials)
    boxes, _ = disturb(np.random.default_rng(seed), boxes, labels, dials)
    sheet = Image.new("RGB", (dials.width, dials.height + TITLE), "white")
    sheet.paste(Image.fromarray(picture), (0, TITLE))
    draw = ImageDraw.Draw(sheet)
    draw.text((2, 1), title, fill="black")
    for x1, y1, x2, y2 in boxes:
        draw.rectangle((x1 - 1, y1 - 1 + TITLE, x2, y2 + TITLE), outline="white")
    return sheet


def main() -> None:
    if unseen := set(DIALS) - {name.partition("=")[0] for name in TURNED}:
        raise SystemExit(f"no picture of {', '.join(sorted(unseen))}")
    tiles = [tile(title, dials, 11) for title, dials in TURNED.items()]
    width, height = (side + GAP for side in tiles[0].size)
    sheet = Image.new("RGB", (COLUMNS * width - GAP, -(-len(tiles) // COLUMNS) * height - GAP), "white")
    for i, picture in enumerate(tiles):
        sheet.paste(picture, (i % COLUMNS * width, i // COLUMNS * height))
    path = Path(sys.argv[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, quality=80)


if __name__ == "__main__":
    main()
