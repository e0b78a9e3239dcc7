"""Boxes a millisecond of the box generators, beside algorithm 1 by rejection, and images a second of the augmentations,
beside a training step, in the same process.

Two kinds of rejection: point by point, as the authors' code draws (theirs also rasterises the border of each region,
which costs more than all else; that is left out here), and many at once, which is the strongest rival. The rounds are
interleaved, so that a busy machine slows all alike; times are of the processor, the figure is the median.

The augmentations see a generated dataset of 192 x 256 pixels, whose images are in memory, and treat every image; the
step is nano RetinaNet's with its optimizer, on one thread as well, so that the share is one of processor time. Workers
divide it among them, and the training waits for none of it as long as they keep up. Of each image and of the step the
quickest round counts: what else the machine does only adds. "First": nothing has been cut out yet, as in a worker
process at the beginning of an epoch; "again": with the cuts of the rounds before.

    python bench/generators.py [--count 4096] [--rounds 9] [--iou 0.7] [--images 48] [--short] [--only boxes|images]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from detbalance import attach, recipes
from detbalance.augment import ContextPaste, CopyPaste, CutPaste, InstanceSwitching, MixUp, Mosaic
from detbalance.box_generators import BoundingBoxGenerator, IoUUniformJitter, PositiveRoIGenerator
from detbalance.boxes import paired_iou
from detbalance.data.images import DetectionImages, flips
from detbalance.data.synthetic import Dials, make_dataset
from detbalance.detectors import build

UNIT = torch.tensor([[0.0, 0.0, 1.0, 1.0]], dtype=torch.float64)


def one_by_one(target: dict, count: int, iou: float) -> Tensor:
    """Each corner drawn in the rectangle about its region until it is good."""
    return torch.cat([_rejected(iou, 1, tries=1) for _ in range(count)])


def at_once(target: dict, count: int, iou: float) -> Tensor:
    """The same with eight tries of every box that is not there yet, all boxes together."""
    return _rejected(iou, count, tries=8)


def _rejected(iou: float, count: int, tries: int) -> Tensor:
    first = _drawn(torch.full((count, 2), 1 - 1 / iou), torch.full((count, 2), 1 - iou), iou, tries, None)
    low, high = _limits(first, iou)
    return torch.cat((first, _drawn(low, high, iou, tries, first)), 1)


def _drawn(low: Tensor, high: Tensor, iou: float, tries: int, first: Tensor | None) -> Tensor:
    made, open_ = torch.empty(len(low), 2, dtype=torch.float64), torch.arange(len(low))
    while len(open_):
        some = low[open_, None] + (high - low)[open_, None] * torch.rand(len(open_), tries, 2, dtype=torch.float64)
        begin = some if first is None else first[open_, None].expand_as(some)
        end = torch.ones_like(some) if first is None else some
        box = torch.cat((begin, end), 2).view(-1, 4)
        good = (paired_iou(box, UNIT.expand_as(box)) >= iou).view(-1, tries)
        found, place = good.any(1), good.byte().argmax(1)
        made[open_[found]] = some[found, place[found]]
        open_ = open_[~found]
    return made


def _limits(first: Tensor, iou: float) -> tuple[Tensor, Tensor]:
    """The rectangle about the region of the second corner."""
    size, beyond = 1 - first, (-first).clamp(min=0)
    inside, other = size.clamp(max=1), size.flip(1)
    low = (iou + (1 + iou) * inside.flip(1) * beyond) / ((1 + iou) * inside.flip(1) - iou * other)
    high = ((1 + iou) * inside.prod(1, keepdim=True) - iou) / (iou * other)
    return first + low, first + high


def rate(make: Callable[[], Tensor]) -> float:
    """Boxes a millisecond of processor time."""
    start = time.process_time()
    made = make()
    return len(made) / (1e3 * (time.process_time() - start))


def boxes_a_millisecond(count: int, rounds: int, iou: float) -> None:
    """Measure and print the box generators."""
    corner = 500 * torch.rand(8, 2)
    target = {"boxes": torch.cat((corner, corner + 20 + 100 * torch.rand(8, 2)), 1), "labels": torch.arange(1, 9)}
    named: dict[str, Callable[[], Tensor]] = {
        "rejection, one by one": lambda: one_by_one(target, 64, iou),
        "rejection, all at once": lambda: at_once(target, count, iou),
        "BoundingBoxGenerator": lambda: BoundingBoxGenerator(iou=iou)(target, count),
        "BoundingBoxGenerator, exact": lambda: BoundingBoxGenerator(iou=iou, exact=True)(target, count),
        "PositiveRoIGenerator": lambda: PositiveRoIGenerator()(target, count),
        "PositiveRoIGenerator, 32 boxes": lambda: PositiveRoIGenerator()(target, 32),
        "IoUUniformJitter, 32 boxes": lambda: IoUUniformJitter()(target, 32),
    }
    rates: dict[str, list[float]] = {name: [] for name in named}
    for turn in range(rounds + 1):
        for name, make in named.items():
            found = rate(make)
            if turn:  # the first warms up
                rates[name].append(found)
    base = median(rates["rejection, one by one"])
    print(f"boxes a millisecond of one thread, IoU {iou}, {count:,} boxes a call")
    for name, found in rates.items():
        print(f"  {median(found):10,.1f}  {median(found) / base:8.0f} x  {name}")


AUGMENTATIONS = {
    "none, flips": None,
    "CutPaste": CutPaste(share=1),
    "CutPaste, whole boxes": CutPaste(share=1, cut="box"),
    "CutPaste, Poisson": CutPaste(share=1, blends=("poisson",)),
    "CopyPaste": CopyPaste(share=1),
    "ContextPaste": ContextPaste(share=1),
    "InstanceSwitching": InstanceSwitching(share=1),
    "Mosaic": Mosaic(share=1),
    "MixUp": MixUp(share=1),
}


def images_a_second(count: int, rounds: int) -> None:
    """Measure and print the augmentations."""
    with tempfile.TemporaryDirectory() as folder:
        data = make_dataset(folder, images=count, dials=Dials(class_skew=20), splits={"train": 1.0})
        sets = {
            name: DetectionImages(data, image_size=(192, 256), transforms=flips(), augment=augment)
            for name, augment in AUGMENTATIONS.items()
        }
        for images in sets.values():
            images.check()
    step = _step(sets["none, flips"])
    first, again, steps = {name: [] for name in sets}, {name: [] for name in sets}, []
    for _ in range(rounds):
        for name, images in sets.items():
            images.treat(AUGMENTATIONS[name])
            first[name].append([_clocked(lambda i=i: images[i]) for i in range(count)])  # noqa: B023
            again[name].append([_clocked(lambda i=i: images[i]) for i in range(count)])  # noqa: B023
        steps.append(_clocked(step) / 4)
    print(f"images a second of one thread, every image treated; a step takes {1e3 * min(steps):.0f} ms an image")
    print("     first     again   more than none, % of a step: first, again")
    for name in sets:
        rates, shares = [], []
        for times in (first, again):
            plain, mine = (sum(map(min, zip(*times[n]))) / count for n in ("none, flips", name))
            rates.append(1 / mine)
            shares.append(100 * (mine - plain) / min(steps))
        print(f"  {rates[0]:8.0f}  {rates[1]:8.0f}   {shares[0]:5.1f}  {shares[1]:5.1f}   {name}")


def _step(images: DetectionImages) -> Callable[[], None]:
    """A training step of four images."""
    model = attach(build("retinanet", classes=6, image_size=(192, 256)).train(), recipes.baseline("dense"))
    optimizer = torch.optim.AdamW(model.parameters())
    pictures, targets = zip(*(images[i] for i in range(4)))
    pictures = [picture.float() / 255 for picture in pictures]

    def step() -> None:
        optimizer.zero_grad()
        sum(model(pictures, list(targets)).values()).backward()
        optimizer.step()

    return step


def _clocked(work: Callable) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--iou", type=float, default=0.7)
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--short", action="store_true", help="three rounds and sixteen images: a quick look")
    parser.add_argument("--only", choices=["boxes", "images"])
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    rounds = 3 if options.short else options.rounds
    if options.only != "images":
        boxes_a_millisecond(options.count, rounds, options.iou)
    if options.only != "boxes":
        images_a_second(16 if options.short else options.images, rounds)


if __name__ == "__main__":
    main()
