"""Redraw the figures of the review (Oksuz et al., arXiv 1909.00169) on the regression of boxes, from our own detectors.

    python bench/regression_figures.py [../shared/data/bccd] --out docs/figures [--epochs 10]

Short nano trainings, probed step by step, one for each box loss; without a dataset on a generated one. It writes

- figure11.svg: the share of the gradient that outliers own under L2, L1, smooth L1 and balanced L1, and how it is
  spread over the errors. An outlier is a box with a coordinate that is 1 or more off in Fast R-CNN's code; the
  gradient is what each positive in fact received.
- figure12.svg: the IoU of the positives before regression, the same against that after it, and what becomes of them:
  the share that regression makes worse, and the share that it takes below an IoU of 0.5.

Records of the second half of each training count. Runs are kept and not repeated (--runs).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import detbalance
from detbalance import Recipe, Stage
from detbalance.data.annotations import Annotations
from detbalance.data.splits import split
from detbalance.data.synthetic import Dials, make_dataset
from detbalance.losses import BalancedL1Loss, L1Loss, L2Loss, SmoothL1Loss
from detbalance.runs import Settings
from detbalance.training import train
from figures import Panel, save

LOSSES = {"L2": L2Loss(), "L1": L1Loss(), "smooth L1": SmoothL1Loss(), "balanced L1": BalancedL1Loss()}
EDGES = np.array([0, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, np.inf])
LOST = 0.5


def probed(name: str, data: Annotations, options: argparse.Namespace) -> dict[str, np.ndarray]:
    """The records of the second half of a training, one row a positive."""
    height, width = (int(side) for side in options.image_size.split("x"))
    settings = Settings(detector=options.detector, image_size=(height, width), epochs=options.epochs)
    folder = options.runs / name.replace(" ", "_")
    if not (folder / "model.pt").exists() or not (folder / "probes.npz").exists():
        recipe = Recipe(name=name, stages=Stage(box_loss=LOSSES[name]))
        train(data, folder, recipe=recipe, settings=settings, probe=options.every, workers=options.workers)
    with np.load(folder / "probes.npz", allow_pickle=False) as file:
        columns = {k: file[k] for k in ("iou_before", "iou_after", "box_error", "box_gradient", "probe.positive_step")}
    step = columns.pop("probe.positive_step")
    return {k: v[step >= (step.min() + step.max()) / 2] for k, v in columns.items()}


def figure_11(records: dict[str, dict[str, np.ndarray]], folder: Path) -> None:
    """Outliers among the positives, and what they own of the gradient."""
    own = Panel("(a) outliers' share", (0, len(records) + 1), (0, 1), y_name="gradient (bars), boxes (line)")
    spread = Panel("(b) share of the gradient", (0, len(EDGES) - 1), (0, 1), "largest error", "up to this error")
    spread.labels = tuple(f"{e:g}" for e in EDGES[1:-1])
    shares, numbers = [], []
    for name, table in records.items():
        largest, gradient = np.abs(table["box_error"]).max(1), table["box_gradient"]
        outlier, total = largest >= 1, max(gradient.sum(), 1e-30)
        shares.append(gradient[outlier].sum() / total)
        numbers.append(outlier.mean())
        owned = np.histogram(largest, EDGES, weights=gradient)[0] / total
        spread.line(np.arange(len(EDGES)), np.append(0, owned.cumsum()), name)
        print(f"11 {name}: {len(outlier)} positives, {numbers[-1]:.3f} outliers own {shares[-1]:.3f} of the gradient")
    places = np.arange(len(records)) + 1
    own.labels = tuple(records)
    own.bars(places, shares, 0.6)
    own.names.append("")  # the next colour, for the line
    own.line(places, numbers)
    save(folder / "figure11.svg", own, spread)


def figure_12(table: dict[str, np.ndarray], folder: Path) -> None:
    """IoU before and after regression, of the detector's own kind of loss (smooth L1)."""
    regressed = table["iou_before"] < 1 - 1e-6  # torchvision puts the objects themselves among the proposals
    before, after = table["iou_before"][regressed], table["iou_after"][regressed]
    low = min(0.5, float(np.floor(10 * before.min(initial=0.5)) / 10))
    bins = np.linspace(low, 1, round((1 - low) / 0.025) + 1)
    share = np.histogram(before, bins)[0] / max(len(before), 1)
    first = Panel("(a) before regression", (low, 1), (0, max(share.max(initial=0), 0.05)), "IoU", "share of positives")
    first.bars((bins[:-1] + bins[1:]) / 2, share, 0.023)
    second = Panel("(b) log density", (low, 1), (0, 1), "IoU before", "IoU after")
    density = np.histogram2d(after, before, (np.linspace(0, 1, 41), bins))[0]
    second.map(np.log1p(density)[::-1])
    third = Panel("(c) what becomes of them", (low, 1), (0, 1), "IoU before", "share")
    edges = np.linspace(low, 1, round((1 - low) / 0.1) + 1)
    cell = np.clip(np.digitize(before, edges) - 1, 0, len(edges) - 2)
    number = np.bincount(cell, minlength=len(edges) - 1)
    for name, bad in (("worse than before", after < before), (f"below {LOST}", after < LOST)):
        rate = np.bincount(cell, bad, len(number)) / np.maximum(number, 1)
        third.line((edges[:-1] + edges[1:]) / 2, rate, name)
        print(f"12 {name}:", ", ".join(f"{a:.1f}: {r:.3f} of {n}" for a, r, n in zip(edges, rate, number)))
    save(folder / "figure12.svg", first, second, third)


def main() -> None:
    """Train what is not there, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="a dataset; default: 200 generated images")
    parser.add_argument("--out", type=Path, default=Path("docs/figures"))
    parser.add_argument("--runs", type=Path, default=Path("runs/regression_figures"))
    parser.add_argument("--detector", default="faster_rcnn")
    parser.add_argument("--image-size", default="192x256")
    parser.add_argument("--images", type=int, default=200, help="generated, without a dataset")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--every", type=int, default=5, help="steps from one record to the next")
    parser.add_argument("--workers", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.data is None:
        made = options.runs / "data"
        made_before = (made / "train.json").exists()
        data = detbalance.read(made) if made_before else make_dataset(made, images=options.images, dials=Dials())
    else:
        data = detbalance.read(options.data)
    training = split(data)[0]
    records = {name: probed(name, training, options) for name in LOSSES}
    figure_11(records, options.out)
    figure_12(records["smooth L1"], options.out)


if __name__ == "__main__":
    main()
