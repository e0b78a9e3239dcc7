"""A training step with a recipe attached against plain torchvision, and of remedies against the baseline.

Prints ratios of medians; the variants take turns in one process, so that the machine's drift hits all alike.

    python bench/steps.py [--detector retinanet|faster_rcnn] [--size nano] [--rounds 15] [--recipes libra,pisa]
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from detbalance import attach, recipes
from detbalance.adapters import kind_of
from detbalance.detectors import build


def batch(images: int, size: tuple[int, int], device: str) -> tuple[list, list]:
    """Random images with a dozen objects each, one image without any."""
    generator = torch.Generator().manual_seed(0)
    height, width = size
    pixels = [torch.rand(3, height, width, generator=generator).to(device) for _ in range(images)]
    targets = []
    for i in range(images):
        count = 0 if i == 0 else 12
        corner = torch.rand(count, 2, generator=generator) * torch.tensor([width * 0.7, height * 0.7])
        side = 8 + torch.rand(count, 2, generator=generator) * torch.tensor([width * 0.3, height * 0.3])
        boxes = torch.cat((corner, corner + side), 1).to(device)
        targets.append({"boxes": boxes, "labels": torch.randint(1, 4, (count,), generator=generator).to(device)})
    return pixels, targets


def step(model: torch.nn.Module, images: list, targets: list) -> float:
    """Seconds of one forward and backward pass."""
    model.zero_grad()
    if images[0].is_cuda:
        torch.cuda.synchronize()
    started = time.perf_counter()
    sum(model(images, targets).values()).backward()
    if images[0].is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started


def measure(detector: str, size: str, image_size: tuple[int, int], images: int, rounds: int, names: list[str]) -> None:
    """Print the table of one detector."""
    device = "cuda" if torch.cuda.is_available() else "cpu"

    def fresh() -> torch.nn.Module:
        torch.manual_seed(0)
        model = build(detector, classes=3, size=size, image_size=image_size).train()
        return model.to(device, memory_format=torch.channels_last)

    models = {"torchvision": fresh()}
    for name in ["baseline", *names]:
        model = fresh()
        models[name] = attach(model, recipes.get(name, kind_of(model))).to(device, memory_format=torch.channels_last)
    data = batch(images, image_size, device)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for i in range(rounds + 2):
        for name, model in models.items():
            value = step(model, *data)
            if i >= 2:
                seconds[name].append(value)
    print(f"{detector} {size}, {images} images of {image_size[0]}x{image_size[1]}, {device}, median of {rounds} rounds")
    for name, values in seconds.items():
        reference = "torchvision" if name == "baseline" else "baseline"
        # Pairs of one round share the machine's state: the median of their ratios is steadier than a ratio of medians.
        ratio = statistics.median(a / b for a, b in zip(values, seconds[reference]))
        what = "" if name == "torchvision" else f"   {ratio:.3f} x {reference}"
        print(f"  {name:12s} {1e3 * statistics.median(values):8.1f} ms{what}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--detector", default="retinanet,faster_rcnn")
    parser.add_argument("--size", default="nano")
    parser.add_argument("--image-size", default="192x256")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--recipes", default="libra,pisa")
    options = parser.parse_args()
    height, width = (int(side) for side in options.image_size.split("x"))
    for detector in options.detector.split(","):
        names = options.recipes.split(",")
        measure(detector, options.size, (height, width), options.images, options.rounds, names)


if __name__ == "__main__":
    main()
