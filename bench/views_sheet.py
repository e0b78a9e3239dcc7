"""Draws the contact sheets of docs/scales.md: what SNIP, SNIPER and sliced training show of generated pictures.

A row for each picture: the whole with the windows that are shown of it in a pass, then training images. Objects that
train have a green box, ignored ones a red one. SNIPER's negative windows, of random proposals here, are yellow.

    python bench/views_sheet.py docs/figures
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from detbalance.data.annotations import Annotations
from detbalance.data.images import DetectionImages, load_image
from detbalance.data.synthetic import Dials, make_dataset
from detbalance.valid_ranges import VALID
from detbalance.views import SNIP, SNIPER, Sliced

IMAGES, COLUMNS, GAP = 4, 5, 4
SIZE = (192, 256)
SHEETS = {"snip": SNIP(), "sniper": SNIPER(least=5), "sliced": Sliced()}
TRAINS, IGNORED, WINDOW, NEGATIVE = "#30e030", "#ff4040", "#60a0ff", "#ffd040"


def random_proposals(data: Annotations) -> list[np.ndarray]:
    """Small boxes in the lower right quarter of each image, as a stand-in for those of a weak network."""
    rng = np.random.default_rng(0)
    found = []
    for width, height in data.sizes:
        corner = rng.uniform((width / 2, height / 2), (width - 30, height - 30), (40, 2))
        found.append(np.concatenate((corner, corner + rng.uniform(10, 30, (40, 2))), 1))
    return found


def training_image(image, target: dict) -> Image.Image:
    """One training image with its boxes."""
    made = Image.fromarray(image.permute(1, 2, 0).numpy())
    draw = ImageDraw.Draw(made)
    for (x1, y1, x2, y2), valid in zip(target["boxes"].tolist(), target[VALID].tolist()):
        draw.rectangle((x1, y1, x2 - 1, y2 - 1), outline=TRAINS if valid else IGNORED)
    return made


def whole(images: DetectionImages, i: int) -> Image.Image:
    """A picture with the windows of one pass."""
    made = load_image(images.annotations, i)
    draw = ImageDraw.Draw(made)
    for x1, y1, x2, y2 in images.annotations.boxes[images.annotations.rows(i)].tolist():
        draw.rectangle((x1, y1, x2 - 1, y2 - 1), outline=TRAINS)
    kept = getattr(images.views, "chips", None) or getattr(images.views, "windows", None)
    if kept is not None:
        for row in range(kept.starts[i], kept.starts[i + 1]):
            negative = kept.background[row] and isinstance(images.views, SNIPER)
            if negative or not kept.background[row]:
                draw.rectangle(kept.boxes[row].tolist(), outline=NEGATIVE if negative else WINDOW, width=2)
    made.thumbnail(SIZE[::-1])
    return made


def sheet(images: DetectionImages) -> Image.Image:
    """All pictures of one method."""
    height, width = (side + GAP for side in SIZE)
    made = Image.new("RGB", (COLUMNS * width - GAP, IMAGES * height - GAP), "white")
    for i in range(IMAGES):
        made.paste(whole(images, i), (0, i * height))
        for turn in range(COLUMNS - 1):
            made.paste(training_image(*images[(i, turn)]), ((turn + 1) * width, i * height))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    dials = Dials(width=640, height=480, objects_per_image=8, scale=0.6)
    with tempfile.TemporaryDirectory() as folder:
        data = make_dataset(Path(folder) / "data", images=IMAGES, dials=dials, splits={"train": 1.0})
        for name, views in SHEETS.items():
            images = DetectionImages(data, image_size=SIZE)
            images.views = views.fit(data, SIZE, random_proposals(data))
            path = options.folder / f"views_{name}.jpg"
            sheet(images).save(path, quality=70)
            print(f"{path}  {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
