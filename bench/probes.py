"""What probes cost: the time of training steps with and without them, and the bytes that they write.

The two models take turns in one process, interval by interval, so that the machine's drift hits both alike; what is
printed is the median of the pairs' ratios.

    python bench/probes.py [--detector retinanet|faster_rcnn] [--size nano] [--every 50] [--rounds 5] [--images 4]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from detbalance import attach, recipes
from detbalance.adapters import kind_of
from detbalance.detectors import build
from detbalance.probes import Probe
from steps import batch

CLASSES = 3


def seconds(model: torch.nn.Module, optimizer: torch.optim.Optimizer, data: tuple, steps: int) -> float:
    """The processor's seconds of some training steps (the clock's on a GPU)."""
    on_gpu = data[0][0].is_cuda
    now = time.perf_counter if on_gpu else time.process_time
    started = now()
    for _ in range(steps):
        optimizer.zero_grad()
        sum(model(*data).values()).backward()
        optimizer.step()
    if on_gpu:
        torch.cuda.synchronize()
    return now() - started


def measure(detector: str, options: argparse.Namespace) -> None:
    """Print the ratios of one detector."""
    height, width = (int(side) for side in options.image_size.split("x"))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    runs = []
    for _ in range(2):
        torch.manual_seed(0)
        model = build(detector, classes=CLASSES, size=options.size, image_size=(height, width)).train()
        model = attach(model, recipes.baseline(kind_of(model))).to(device, memory_format=torch.channels_last)
        runs.append((model, torch.optim.SGD(model.parameters(), lr=1e-4)))
    data = batch(options.images, (height, width), CLASSES, device)
    for run in runs:
        seconds(*run, data, 2)
    probe = Probe(runs[1][0], every=options.every)
    single, ratios = [], []
    for _ in range(options.rounds):
        plain = seconds(*runs[0], data, options.every)
        first = seconds(*runs[1], data, 1)  # the step that is measured
        probed = first + seconds(*runs[1], data, options.every - 1)
        ratios.append(probed / plain)
        single.append(first / (plain / options.every))
    with tempfile.TemporaryDirectory() as folder:
        size = probe.save(Path(folder) / "probes.npz").stat().st_size
    ratio, once = statistics.median(ratios), statistics.median(single)
    print(f"{detector} {options.size}, {options.images} images of {height}x{width}, {device}")
    print(f"  every {options.every} steps: {ratio:.3f} x the time without")
    print(f"  the measured step: {once:.2f} x a plain one, so {1 + (once - 1) / options.every:.3f} x by itself")
    print(f"  {size / probe.steps:.0f} bytes a step")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--detector", default="retinanet,faster_rcnn")
    parser.add_argument("--size", default="nano")
    parser.add_argument("--image-size", default="192x256")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--every", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for detector in options.detector.split(","):
        measure(detector, options)


if __name__ == "__main__":
    main()
