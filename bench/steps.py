"""A training step with a recipe attached against plain torchvision, and of remedies against the baseline.

Prints medians of ratios; the variants take turns in one process, so that the machine's drift hits all alike. With
`--clock processor` the seconds are the process's own, which others on the machine disturb less.

    python bench/steps.py [--detector retinanet|faster_rcnn] [--size nano] [--rounds 15] [--recipes libra,pisa]

The losses at full size, against the focal loss that RetinaNet has. The network, which is the same for all, is timed
apart from the losses (forward, and backward to what the head predicts), since on a CPU its noise is larger than they:

    python bench/steps.py --apart --detector retinanet --size base --image-size 800x1333 --images 2 --classes 80 \
        --rounds 5 --recipes cross_entropy,ghm,quality_focal,varifocal,ap_loss,alrp,rank_sort,dr_loss
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from detbalance import attach, recipes
from detbalance.adapters import kind_of
from detbalance.detectors import build


def batch(images: int, size: tuple[int, int], classes: int, device: str) -> tuple[list, list]:
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
        targets.append(
            {"boxes": boxes, "labels": torch.randint(1, classes + 1, (count,), generator=generator).to(device)}
        )
    return pixels, targets


def step(model: torch.nn.Module, images: list, targets: list, clock: Callable[[], float]) -> float:
    """Seconds of one forward and backward pass."""
    model.zero_grad()
    if images[0].is_cuda:
        torch.cuda.synchronize()
    started = clock()
    sum(model(images, targets).values()).backward()
    if images[0].is_cuda:
        torch.cuda.synchronize()
    spent = clock() - started
    model.zero_grad()  # so that one variant's gradients are in memory at a time
    return spent


def measure(detector: str, options: argparse.Namespace) -> None:
    """Print the table of one detector."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    clock = time.process_time if options.clock == "processor" else time.perf_counter

    def fresh() -> torch.nn.Module:
        torch.manual_seed(0)
        model = build(detector, classes=options.classes, size=options.size, image_size=options.image_size).train()
        return model.to(device, memory_format=torch.channels_last)

    models = {"torchvision": fresh()}
    for name in ["baseline", *options.recipes]:
        model = fresh()
        models[name] = attach(model, recipes.get(name, kind_of(model))).to(device, memory_format=torch.channels_last)
    data = batch(options.images, options.image_size, options.classes, device)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for i in range(options.rounds + options.warm):
        for name, model in models.items():
            value = step(model, *data, clock)
            if i >= options.warm:
                seconds[name].append(value)
    height, width = options.image_size
    print(
        f"{detector} {options.size}, {options.images} images of {height}x{width}, {options.classes} classes, {device},"
    )
    print(f"{options.clock} time, median of {options.rounds} rounds")
    for name, values in seconds.items():
        reference = "torchvision" if name == "baseline" else "baseline"
        # Pairs of one round share the machine's state: the median of their ratios is steadier than a ratio of medians.
        ratio = statistics.median(a / b for a, b in zip(values, seconds[reference]))
        what = "" if name == "torchvision" else f"   {ratio:.3f} x {reference}"
        print(f"  {name:12s} {1e3 * statistics.median(values):8.1f} ms{what}")


def apart(detector: str, options: argparse.Namespace) -> None:
    """Print the table of a detector that ends in a `compute_loss`: the network once, and each recipe's losses on it."""
    clock = time.process_time if options.clock == "processor" else time.perf_counter
    images, targets = batch(options.images, options.image_size, options.classes, "cpu")

    def fresh() -> torch.nn.Module:
        torch.manual_seed(0)
        return build(detector, classes=options.classes, size=options.size, image_size=options.image_size).train()

    caught, model = {}, fresh()

    def catch(targets: list, outputs: dict, anchors: list) -> dict[str, torch.Tensor]:
        caught.update(targets=targets, outputs=outputs, anchors=anchors)
        return {"all": sum(value.sum() for value in outputs.values())}

    model.compute_loss = catch
    model.head.register_forward_hook(lambda head, maps, output: caught.update(maps=maps))
    network = statistics.median(step(model, images, targets, clock) for _ in range(2))
    outputs = {name: value.detach().requires_grad_() for name, value in caught["outputs"].items()}

    def losses(model: torch.nn.Module) -> float:
        started = clock()
        sum(model.compute_loss(caught["targets"], outputs, caught["anchors"]).values()).backward()
        for value in outputs.values():
            value.grad = None
        return clock() - started

    models = {name: fresh() for name in ["baseline", *options.recipes]}
    for name, model in models.items():
        attach(model, recipes.get(name, kind_of(model)))
        if hasattr(model, "treatment"):
            model.treatment.remember_levels(model.head, caught["maps"], outputs)
    seconds = {name: [] for name in models}
    for i in range(options.rounds + 1):
        for name, model in models.items():
            value = losses(model)
            if i:
                seconds[name].append(value)
    height, width = options.image_size
    print(f"{detector} {options.size}, {options.images} images of {height}x{width}, {options.classes} classes,")
    print(f"{options.clock} time; the network alone {network:.2f} s, median of 2; losses: median of {options.rounds}")
    base = network + statistics.median(seconds["baseline"])
    for name, values in seconds.items():
        value = statistics.median(values)
        print(f"  {name:16s} losses {1e3 * value:8.0f} ms, the whole step {(network + value) / base:.3f} x baseline")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--detector", default="retinanet,faster_rcnn")
    parser.add_argument("--size", default="nano")
    parser.add_argument("--image-size", default="192x256")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--classes", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--warm", type=int, default=2, help="rounds before those that count")
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall")
    parser.add_argument("--recipes", default="libra,pisa")
    parser.add_argument("--apart", action="store_true", help="time the network and the losses apart")
    options = parser.parse_args()
    options.image_size = tuple(int(side) for side in options.image_size.split("x"))
    options.recipes = options.recipes.split(",")
    for detector in options.detector.split(","):
        (apart if options.apart else measure)(detector, options)


if __name__ == "__main__":
    main()
