"""Draws the contact sheets of docs/augmentation.md: each augmentation on generated pictures, boxes drawn.

Without masks objects are cut by colour; `--masks` cuts them along the pictures' own outlines instead.

    python bench/augment_sheet.py docs/figures [--masks]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torchvision.tv_tensors import BoundingBoxes, Mask

from detbalance.augment import ContextPaste, CopyPaste, CutPaste, InstanceSwitching, MixUp, Mosaic
from detbalance.data import _drawing as drawing
from detbalance.data._scene import compose
from detbalance.data.annotations import Annotations
from detbalance.data.synthetic import Dials

COLUMNS, GAP, IMAGES = 4, 4, 24
COLOURS = ("#ff5050", "#50e050", "#60a0ff", "#ffd040", "#ff70ff", "#60f0f0")
SHEETS = {
    "cut_paste": CutPaste(share=1),
    "copy_paste": CopyPaste(share=1, classes="even"),
    "context_paste": ContextPaste(share=1),
    "instance_switching": InstanceSwitching(share=1),
    "mosaic": Mosaic(share=1),
    "mixup": MixUp(share=1),
}


def picture(seed: int, dials: Dials) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A generated picture (3, H, W), the masks (G, H, W) of what is seen of its objects, their labels."""
    rng = np.random.default_rng(seed)
    canvas = drawing.background(rng, dials.width, dials.height)
    drawing.scatter(rng, canvas, rng.poisson(20 * dials.clutter))
    scene = compose(rng, dials)
    for number in scene.order:
        thing = scene.things[number - 1]
        look = {"texture": thing.texture, "size": thing.size, "hue": thing.hue}
        drawing.paint(rng, canvas, thing.alpha, thing.x, thing.y, **look)
    numbers = [n for n, thing in enumerate(scene.things, 1) if thing.label]
    masks = torch.from_numpy(scene.owner == np.reshape(numbers, (-1, 1, 1)))
    labels = torch.tensor([scene.things[n - 1].label for n in numbers], dtype=torch.long)
    return torch.from_numpy(drawing.expose(rng, canvas)).permute(2, 0, 1).contiguous(), masks, labels


class Pictures:
    """A dataset in memory."""

    def __init__(self, dials: Dials, masks: bool) -> None:
        from detbalance.augment._piece import bounds

        self.masks, self.size = masks, (dials.height, dials.width)
        self.pictures = [picture(seed, dials) for seed in range(IMAGES)]
        self.boxes = [bounds(m).float() for _, m, _ in self.pictures]
        self.annotations = Annotations.from_arrays(
            classes=dials.names,
            sizes=[(dials.width, dials.height)] * IMAGES,
            image=np.repeat(np.arange(IMAGES), [len(b) for b in self.boxes]),
            label=torch.cat([labels for *_, labels in self.pictures]).numpy(),
            boxes=torch.cat(self.boxes).numpy(),
        )

    def __call__(self, i: int) -> tuple[torch.Tensor, dict]:
        image, masks, labels = self.pictures[i]
        boxes = BoundingBoxes(self.boxes[i], format="XYXY", canvas_size=self.size)
        target = {"boxes": boxes, "labels": labels, "image_id": torch.tensor(i)}
        return image, {**target, "masks": Mask(masks.to(torch.uint8))} if self.masks else target


def tile(image: torch.Tensor, target: dict) -> Image.Image:
    """One picture with its boxes, a colour for each class."""
    made = Image.fromarray(image.permute(1, 2, 0).numpy())
    draw = ImageDraw.Draw(made)
    for (x1, y1, x2, y2), label in zip(target["boxes"].tolist(), target["labels"].tolist()):
        draw.rectangle((x1 - 1, y1 - 1, x2, y2), outline=COLOURS[(label - 1) % len(COLOURS)])
    return made


def sheet(tiles: list[Image.Image]) -> Image.Image:
    width, height = (max(t.size[axis] for t in tiles) + GAP for axis in (0, 1))
    whole = Image.new("RGB", (COLUMNS * width - GAP, -(-len(tiles) // COLUMNS) * height - GAP), "white")
    for i, one in enumerate(tiles):
        whole.paste(one, (i % COLUMNS * width, i // COLUMNS * height))
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--masks", action="store_true")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    data = Pictures(Dials(class_skew=20, objects_per_image=5, clutter=0.3), options.masks)
    for name, augment in SHEETS.items():
        transform, tiles = augment.fit(data.annotations, data), []
        for i in range(2 * COLUMNS):
            torch.manual_seed(i)
            tiles.append(tile(*transform(*data(i), data)))
        path = options.folder / f"augment_{name}.jpg"
        sheet(tiles).save(path, quality=70)
        print(f"{path}  {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
