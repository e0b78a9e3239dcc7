"""How long does assignment take, and how much memory? Each assigner as a ratio to assignment by IoU thresholds, and
the most that it holds at a time, beside torchvision's way: the whole table of IoUs and its Matcher.

Anchors as RetinaNet's, nine a place on five levels. Times are interleaved medians in one process; memory is measured in
a process of its own for each, over what the inputs take (on a CPU: under Linux).

    python bench/assigners.py [--anchors 100000] [--objects 50] [--rounds 5] [--device cpu]
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

from detbalance import assigners

_TORCHVISION = "torchvision Matcher"
_STRIDES = (8, 16, 32, 64, 128)


def anchors(count: int, device: str) -> tuple[Tensor, Tensor, float]:
    """About so many anchors of a square image, the level of each, and the image's side."""
    side = math.sqrt(count / (9 * sum(stride**-2.0 for stride in _STRIDES)))
    boxes, levels = [], []
    for level, stride in enumerate(_STRIDES):
        places = (torch.arange(math.ceil(side / stride), device=device) + 0.5) * stride
        y, x = torch.meshgrid(places, places, indexing="ij")
        center = torch.stack((x, y), -1).reshape(-1, 1, 2)
        size = 4 * stride * 2 ** (torch.arange(3, device=device) / 3)
        ratio = torch.tensor([0.5, 1.0, 2.0], device=device).sqrt()
        half = torch.stack((size[:, None] / ratio, size[:, None] * ratio), -1).reshape(1, 9, 2) / 2
        boxes.append(torch.cat((center - half, center + half), -1).reshape(-1, 4))
        levels.append(torch.full((len(boxes[-1]),), level, device=device))
    return torch.cat(boxes), torch.cat(levels), side


def scene(count: int, objects: int, device: str) -> tuple[Tensor, dict[str, Tensor], Tensor, tuple[Tensor, Tensor]]:
    """Anchors, objects of all sizes, levels, and predictions for 20 classes."""
    torch.manual_seed(0)
    boxes, levels, side = anchors(count, device)
    size = side * 2 ** -(1 + 5 * torch.rand(objects, 2, device=device))
    corner = torch.rand(objects, 2, device=device) * (side - size)
    target = {
        "boxes": torch.cat((corner, corner + size), 1),
        "labels": torch.randint(1, 21, (objects,), device=device),
    }
    scores = (torch.randn(len(boxes), 21, device=device) - 3).sigmoid()
    return boxes, target, levels, (scores, boxes + 4 * torch.randn_like(boxes))


def ways() -> dict[str, Callable]:
    """Every assigner by name, and torchvision's."""

    def dense(boxes, target, levels, predictions):
        return Matcher(0.5, 0.4, allow_low_quality_matches=True)(box_iou(target["boxes"], boxes))

    return {_TORCHVISION: dense, **{name: getattr(assigners, name)() for name in assigners.__all__}}


def seconds(assign: Callable, given: tuple) -> float:
    """One assignment; of one thread, the processor's time, which others on the machine disturb less."""
    now = time.perf_counter if given[0].is_cuda or torch.get_num_threads() > 1 else time.process_time
    start = now()
    assign(*given)
    if given[0].is_cuda:
        torch.cuda.synchronize()
    return now() - start


def times(given: tuple, rounds: int) -> None:
    """Print the ratio of each to MaxIoUAssigner, fastest first."""
    spent: dict[str, list[float]] = {name: [] for name in ways()}
    for turn in range(rounds + 1):
        for name, assign in ways().items():
            took = seconds(assign, given)
            if turn:  # the first warms up
                spent[name].append(took)
    base = median(spent["MaxIoUAssigner"])
    print(f"MaxIoUAssigner: {1e3 * base:.1f} ms for {len(given[0]):,} anchors and {len(given[1]['boxes'])} objects")
    for name in sorted(spent, key=lambda n: median(spent[n])):
        print(f"  {median(spent[name]) / base:6.2f} x  {name}")


def megabytes(name: str, count: int, objects: int, device: str) -> float:
    """The most that one assignment holds beside its inputs."""
    given = scene(count, objects, device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        ways()[name](*given)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    small = scene(2000, 3, device)
    ways()[name](*small)  # loads what is loaded once
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = resident("VmRSS")
    ways()[name](*given)
    return resident("VmHWM") - before


def resident(name: str) -> float:
    """Megabytes of this process, now ("VmRSS") or at most ("VmHWM")."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def memory(count: int, objects: int, device: str) -> None:
    """Print the peak of each, in a process of its own."""
    print(
        f"\npeak memory, {count:,} anchors x {objects} objects (a table of them: {4 * count * objects / 2**20:.0f} MB)"
    )
    for name in ways():
        command = [sys.executable, __file__, "--peak", name, "--device", device]
        command += ["--anchors", str(count), "--objects", str(objects)]
        peak = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(f"  {peak:6.0f} MB  {name}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--anchors", type=int, default=100_000)
    parser.add_argument("--objects", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        print(megabytes(options.peak, options.anchors, options.objects, options.device))
        return
    times(scene(options.anchors, options.objects, options.device), options.rounds)
    memory(2 * options.anchors, 2 * options.objects, options.device)


if __name__ == "__main__":
    main()
