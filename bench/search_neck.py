"""Which neck suits this data? Gradient-based search over the cells of AutoFPN on the nano RetinaNet.

Half of the training images train the weights, the other half what is preferred (DARTS, first order), in turn; expected
parameters have a price. The cells found are written as JSON, for `AutoFPN(..., cells=json.load(file)["cells"])`, and
the state beside them, from which an interrupted search goes on.

    python bench/search_neck.py DATASET [--steps 2000] [--cells 2] [--keep 2] [--price 0.1] [--batch 4] [--seed 0]
                                [--image-size 192x256] [--out neck.json] [--device cpu]
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

import detbalance as db
from detbalance.atomic import write, write_json
from detbalance.data.images import DetectionImages, collate, flips
from detbalance.data.splits import split
from detbalance.detectors import build
from detbalance.necks._search import SearchFPN
from detbalance.runs import Settings

SAVED_EVERY = 60.0  # seconds


class Search:
    """The detector, its two optimizers and how far they are."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        data, _ = split(db.read(options.dataset))
        size = tuple(map(int, options.image_size.split("x")))
        self.images = DetectionImages(data, image_size=size, transforms=flips(), seed=options.seed)
        torch.manual_seed(options.seed)
        model = build("retinanet", classes=len(data.classes), image_size=size)
        recipe = db.Recipe(name="search", neck=partial(SearchFPN, cells=options.cells))
        self.model = db.attach(model, recipe).to(options.device).train()
        self.neck = self.model.backbone.fpn
        own = [p for p in self.model.parameters() if p is not self.neck.preferences and p.requires_grad]
        settings = Settings()
        self.weights = torch.optim.AdamW(own, lr=settings.learning_rate, weight_decay=settings.weight_decay)
        self.choice = torch.optim.Adam([self.neck.preferences], lr=3e-3, betas=(0.5, 0.999), weight_decay=1e-3)
        self.step = 0
        order = np.random.default_rng(options.seed).permutation(len(data))
        self.halves = order[::2], order[1::2]

    def state(self) -> dict:
        parts = {"model": self.model, "weights": self.weights, "choice": self.choice}
        return {"step": self.step} | {name: part.state_dict() for name, part in parts.items()}

    def restore(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        self.step = state["step"]
        for name in ("model", "weights", "choice"):
            getattr(self, name).load_state_dict(state[name])

    def batch(self, half: np.ndarray) -> tuple[list, list]:
        """What is drawn depends on the step alone, so that a resumed search goes on as if it had not been stopped."""
        random = np.random.default_rng((self.options.seed, self.step, len(half)))
        self.images.epoch = self.step
        items = [self.images[int(i)] for i in random.choice(half, self.options.batch)]
        images, targets = collate(items)
        device = self.options.device
        images = [x.to(device).float() / 255 for x in images]
        return images, [{k: v.to(device) for k, v in t.items() if k in ("boxes", "labels")} for t in targets]

    def one_step(self) -> tuple[float, float]:
        losses = []
        for half, optimizer, price in zip(self.halves, (self.weights, self.choice), (0.0, self.options.price)):
            total = sum(self.model(*self.batch(half)).values()) + price * self.neck.price()
            self.model.zero_grad()
            total.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), Settings().clip)
            optimizer.step()
            losses.append(float(total.detach()))
        self.step += 1
        return losses[0], losses[1]


def main(arguments: list[str] | None = None) -> None:
    """Search, showing where it stands, and write what is found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--cells", type=int, default=2)
    parser.add_argument("--keep", type=int, default=2)
    parser.add_argument("--price", type=float, default=0.1)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--image-size", default="192x256")
    parser.add_argument("--out", type=Path, default=Path("neck.json"))
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)
    search, kept = Search(options), options.out.with_suffix(".search.pt")
    if kept.exists():
        search.restore(kept)
        print(f"going on from step {search.step} of {kept}")
    saved = time.monotonic()
    while search.step < options.steps:
        train, choose = search.one_step()
        if time.monotonic() - saved > SAVED_EVERY or search.step == options.steps:
            write(kept, lambda file: torch.save(search.state(), file))
            saved = time.monotonic()
            print(f"step {search.step} of {options.steps}: loss {train:.3f}, on the other half {choose:.3f}")
    settings = {k: getattr(options, k) for k in ("steps", "keep", "price", "batch", "seed", "image_size")}
    record = {"cells": search.neck.found(options.keep), **settings}
    write_json(options.out, record)
    print(f"{options.out}: {record['cells']}")


if __name__ == "__main__":
    main()
