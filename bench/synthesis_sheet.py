"""Draws the contact sheet of task-aware synthesis: composites before and after some training on generated pictures.

Both halves show the same images, objects and draws of chance; what differs is what the synthesiser has learnt. Prints
how the losses went.

    python bench/synthesis_sheet.py docs/figures [--steps 110]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from augment_sheet import COLUMNS, sheet, tile
from detbalance import attach, recipes
from detbalance.adapters import kind_of
from detbalance.data.images import DetectionImages
from detbalance.data.readers import read
from detbalance.data.synthetic import Dials, make_dataset
from detbalance.detectors import build

SIZE, BATCH = (128, 160), 8


def batch(images: DetectionImages, rows: list[int]) -> tuple[list, list]:
    pictures, targets = zip(*(images[i] for i in rows))
    return [p.float() / 255 for p in pictures], list(targets)


def _no_detector(images: list, targets: list) -> dict:
    return {"loss": images[0].mean()}


def tiles(model, images: DetectionImages) -> list:
    """Two batches, every image with an object."""
    made, synthesis = [], model.synthesis
    share, synthesis.share = synthesis.share, 1.0
    for first in (0, BATCH):
        torch.manual_seed(first)
        with torch.no_grad():
            pictures, targets, _ = synthesis(*batch(images, list(range(first, first + BATCH))), _no_detector)
        made += [tile((255 * p).round().to(torch.uint8), t) for p, t in zip(pictures, targets)]
    synthesis.share = share
    return made[: 2 * COLUMNS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=110)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        dials = Dials(width=SIZE[1], height=SIZE[0], objects_per_image=3)
        make_dataset(folder, images=100, dials=dials, splits={"train": 1.0})
        data = read(Path(folder) / "train.json")
        images = DetectionImages(data, image_size=SIZE)
        torch.manual_seed(0)
        model = build("retinanet", classes=len(data.classes), image_size=SIZE).train()
        attach(model, recipes.get("task_aware_synthesis", kind_of(model)))
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
        before, started = tiles(model, images), time.monotonic()
        for step in range(options.steps):
            losses = model(*batch(images, torch.randperm(len(images))[:BATCH].tolist()))
            optimizer.zero_grad()
            sum(losses.values()).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            if step % 25 == 0 or step == options.steps - 1:
                print(step, {k: round(v.item(), 3) for k, v in losses.items()}, f"{time.monotonic() - started:.0f} s")
        path = options.folder / "synthesis_task_aware.jpg"
        sheet(before + tiles(model, images)).save(path, quality=70)
        print(f"{path}  {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
