"""Does training diverge? Every recipe on each detector that it supports, from random weights, images without objects
among the batch.

Prints a table, a row as soon as it is done: the mean loss of the first and of the last tenth of the steps, the largest
loss, and whether anything was not finite. A loss has to fall; one that its method holds at the size of another (guided
and self-balanced losses) falls with it. What happens once an epoch happens fifteen times. Rows are kept in --out, and a
run that was interrupted goes on behind the last. Smaller images than the default leave a sampler of 256 nothing to
choose from in FCOS and YOLOv2.

    python bench/stability.py [--steps 500] [--image-size 128x160] [--batch 2] [--detectors retinanet,ssd]
                              [--recipes lrm,ghm] [--out stability.json] [--device cpu]
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from detbalance import attach, recipes
from detbalance.adapters import kind_of
from detbalance.atomic import write_json
from detbalance.data.annotations import Annotations
from detbalance.detectors import DETECTORS, build
from detbalance.priors import set_from_data
from detbalance.runs import Settings
from detbalance.training import learning_rate

CLASSES, POOL = 3, 32
MEAN_OF = 10  # the first and the last tenth are compared


def pool(size: tuple[int, int]) -> tuple[list, list, Annotations]:
    """Images with coloured boxes on noise, every fourth without any; the same for every row."""
    height, width = size
    random = np.random.default_rng(0)
    images, targets, rows = [], [], []
    for i in range(POOL):
        image = torch.from_numpy(random.random((3, height, width), np.float32)) * 0.3
        boxes, labels = [], []
        for _ in range(0 if i % 4 == 3 else random.integers(1, 5)):
            w, h = random.uniform(0.15, 0.5, 2) * (width, height)
            x, y = random.uniform(0, (width - w, height - h))
            label = int(min(random.geometric(0.6), CLASSES))  # a long tail
            image[label - 1, int(y) : int(y + h), int(x) : int(x + w)] = 1.0
            boxes.append([x, y, x + w, y + h])
            labels.append(label)
        images.append(image)
        truth = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        targets.append({"boxes": truth, "labels": torch.tensor(labels, dtype=torch.int64)})
        rows += [(i, label, box) for label, box in zip(labels, boxes)]
    data = Annotations.from_arrays(
        classes=[str(k) for k in range(CLASSES)],
        sizes=[(width, height)] * POOL,
        image=[row[0] for row in rows],
        label=[row[1] for row in rows],
        boxes=[row[2] for row in rows],
    )
    return images, targets, data


def train(detector: str, name: str, options: argparse.Namespace) -> dict:
    """One row: the losses of a run."""
    images, targets, data = pool(options.size)
    torch.manual_seed(0)
    model = build(detector, classes=CLASSES, image_size=options.size)
    model = attach(model, recipes.get(name, kind_of(model)))
    set_from_data(model, data)
    model.to(options.device, memory_format=torch.channels_last).train()
    settings, totals, parts = Settings(), [], {}
    for module in model.modules():
        if hasattr(module, "set_epoch_length"):  # as training tells it
            module.set_epoch_length(max(1, options.steps // settings.epochs))
    decay = settings.weight_decay
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=decay, fused=True)
    order, started = np.random.default_rng(1), time.monotonic()
    for step in range(options.steps):
        chosen = order.choice(POOL, options.batch, replace=False)
        if step % 25 == 24:
            chosen = np.arange(3, POOL, 4)[: options.batch]  # now and then a batch without any object
        batch = [images[i].to(options.device) for i in chosen]
        truth = [{k: v.to(options.device) for k, v in targets[i].items()} for i in chosen]
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, options.steps, settings) * (model.recipe.learning_rate or 1.0)
        losses = model(batch, truth)
        total = sum(losses.values())
        optimizer.zero_grad()
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        totals.append(float(total.detach()))
        parts = {k: float(v.detach()) for k, v in losses.items()}
        if not (math.isfinite(totals[-1]) and math.isfinite(float(norm))):
            break
        optimizer.step()
    tenth = max(1, options.steps // MEAN_OF)
    finite = len(totals) == options.steps and all(map(math.isfinite, [*totals, *parts.values()]))
    return {
        "first": _shown(totals[:tenth]),
        "last": _shown(totals[-tenth:]),
        "largest": _shown([max(totals)]),
        "finite": finite,
        "steps": len(totals),
        "seconds": round(time.monotonic() - started, 1),
    }


def _shown(values: list[float]) -> float | None:
    mean = statistics.fmean(values)
    return mean if math.isfinite(mean) else None


def verdict(row: dict) -> str:
    """What a row says."""
    if "refused" in row:
        return f"refused: {row['refused']}"
    if not row["finite"]:
        return f"NOT FINITE at step {row['steps']}"
    falls = row["last"] < row["first"]
    return "falls" if falls else "DOES NOT FALL"


def rows_to_run(options: argparse.Namespace) -> list[tuple[str, str]]:
    """(detector, recipe) of every row, in order."""
    pairs = []
    for detector in options.detectors:
        kind = kind_of(build(detector, classes=CLASSES, image_size=options.size))
        pairs += [(detector, name) for name in options.recipes if kind in recipes.kinds(name)]
    return pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--image-size", default="128x160")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--detectors", default=",".join(DETECTORS))
    parser.add_argument("--recipes", default="")
    parser.add_argument("--out", default="stability.json", type=Path)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    options.size = tuple(int(side) for side in options.image_size.split("x"))
    options.detectors = options.detectors.split(",")
    options.recipes = options.recipes.split(",") if options.recipes else recipes.names()
    run = {"steps": options.steps, "image size": list(options.size), "batch": options.batch}
    kept = json.loads(options.out.read_text()) if options.out.exists() else {"run": run, "rows": {}}
    if kept["run"] != run:
        parser.error(f"{options.out} holds rows of other settings ({kept['run']}); give another --out")
    pairs, bad = rows_to_run(options), 0
    print(f"{len(pairs)} rows of {options.steps} steps; {options.batch} images of {options.image_size}")
    print(f"{'detector':12s} {'recipe':24s} {'first':>9s} {'last':>9s} {'largest':>9s} {'s':>6s}  verdict")
    for detector, name in pairs:
        key = f"{detector}/{name}"
        if key not in kept["rows"]:
            try:
                kept["rows"][key] = train(detector, name, options)
            except ValueError as error:
                kept["rows"][key] = {"refused": str(error).split(";")[0]}
            write_json(options.out, kept)
        row = kept["rows"][key]
        numbers = [row.get(n) for n in ("first", "last", "largest")]
        shown = " ".join(f"{n:9.3f}" if n is not None else f"{'':9s}" for n in numbers)
        print(f"{detector:12s} {name:24s} {shown} {row.get('seconds', 0):6.1f}  {verdict(row)}", flush=True)
        bad += verdict(row).startswith(("NOT", "DOES"))
    print(f"{bad} rows that diverge or do not fall" if bad else "every loss is finite and falls")


if __name__ == "__main__":
    main()
