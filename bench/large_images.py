"""Memory of large images: does training on windows, or detection in slices and at several scales, hold an image several
times over?

Each row runs in a process of its own, on one image of noise with many tiny objects. The peak is what the process holds
at its fullest beyond what it holds with the detector built, in MB and in times of the decoded image (3 bytes a pixel;
in float32 it would be four). Rows for an image a quarter as large show what grows with it.

    python bench/large_images.py [--sides 2000,4000] [--image-size 192x256] [--batch 4]
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from detbalance import attach, recipes
from detbalance.data.annotations import Annotations
from detbalance.data.images import DetectionImages, flips, load_image
from detbalance.detectors import build
from detbalance.prediction import predict

TINY = 12
SETS = ("decode", "baseline", "snip", "sniper", "sliced")


def dataset(folder: Path, side: int, form: str) -> Annotations:
    """One image of that side, with 400 white squares of a few pixels."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(60, 120, (side, side, 3), np.uint8)
    corners = rng.integers(0, side - TINY, (400, 2))
    for x, y in corners:
        pixels[y : y + TINY, x : x + TINY] = 255
    name = f"{side}.{form}"
    Image.fromarray(pixels).save(folder / name)
    boxes = np.concatenate((corners, corners + TINY), 1)
    return Annotations.from_arrays(
        classes=["a"],
        sizes=[(side, side)],
        image=[0] * 400,
        label=[1] * 400,
        boxes=boxes,
        file_names=[name],
        root=folder,
    )


def resident() -> float:
    """MB held now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


class Watch:
    """The most memory held while it runs, sampled every two milliseconds: unlike the system's own mark it can begin
    after the detector is built."""

    def __enter__(self) -> Watch:
        self.before = self.most = resident()
        self.running = True
        self.thread = threading.Thread(target=self._look)
        self.thread.start()
        return self

    def _look(self) -> None:
        while self.running:
            self.most = max(self.most, resident())
            time.sleep(0.002)

    def __exit__(self, *_) -> None:
        self.running = False
        self.thread.join()

    @property
    def peak(self) -> float:
        """MB beyond what there was before."""
        return self.most - self.before


def row(name: str, data: Annotations, size: tuple[int, int], batch: int) -> dict[str, float]:
    """MB at the fullest of making four batches of training images, of a training step of each, and of detection."""
    torch.set_num_threads(1)
    if name == "decode":
        with Watch() as decoding:
            load_image(data, 0)
        return {"training images": decoding.peak}
    torch.manual_seed(0)
    model = attach(build("retinanet", classes=1, image_size=size), recipes.get(name, "dense"))
    plain = [torch.rand(3, *size) for _ in range(batch)]
    # What any batch of the training size takes is no part of the peaks: a step, and detection.
    boxes = torch.tensor([[8.0, 8, 40, 40]])
    sum(model(plain, [{"boxes": boxes, "labels": torch.ones(1).long()}] * batch).values()).backward()
    model.eval()(plain)
    images = DetectionImages(data, image_size=size, transforms=flips())
    images.treat(model.recipe.augment)
    found = {}
    with Watch() as making:
        views = model.recipe.views
        images.views = None if views is None else views.fit(data, size, [far_proposals(data)])
        batches = [[images[(0, turn)] for turn in range(first, first + batch)] for first in range(0, 4 * batch, batch)]
    found["training images"] = making.peak
    with Watch() as training:
        for part in batches:
            losses = model.train()([image.float() / 255 for image, _ in part], [target for _, target in part])
            sum(losses.values()).backward()
    found["steps"] = training.peak
    del images, batches
    with Watch() as detecting:
        predict(model, data, image_size=size, batch_size=batch)
    found["detection"] = detecting.peak
    return found


def far_proposals(data: Annotations) -> np.ndarray:
    """Boxes anywhere, in place of a weak network's."""
    corner = np.random.default_rng(1).uniform(0, data.sizes[0] - 60, (300, 2))
    return np.concatenate((corner, corner + 50), 1)


def measured(name: str, data: Annotations, size: tuple[int, int], batch: int) -> dict[str, float]:
    """A row in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(row, (name, data, size, batch))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", default="2000,4000")
    parser.add_argument("--image-size", default="192x256")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--form", default="png", help="jpg is decoded at a lower size where that is enough")
    options = parser.parse_args()
    size = tuple(int(side) for side in options.image_size.split("x"))
    print(f"{'':10s} {'side':>6s} {'training images':>22s} {'steps':>22s} {'detection':>22s}   MB (times the image)")
    with tempfile.TemporaryDirectory() as folder:
        for side in map(int, options.sides.split(",")):
            data = dataset(Path(folder), side, options.form)
            decoded = 3 * side * side / 2**20
            for name in SETS:
                cells = measured(name, data, size, options.batch)
                shown = [f"{v:10.0f} ({v / decoded:5.2f})" for v in cells.values()]
                print(f"{name:10s} {side:6d} " + " ".join(f"{cell:>22s}" for cell in shown), flush=True)


if __name__ == "__main__":
    main()
