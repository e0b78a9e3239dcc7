"""How long do losses take? Forward and backward of 100,000 rows, as a ratio to a reference in the same process.

Box losses by smooth L1, class losses (10 classes) by cross-entropy, torchvision's own beside them. The rounds are
interleaved, so that a busy machine slows all alike; the figure is the median. The assigners are in bench/assigners.py.

    OMP_NUM_THREADS=1 python bench/boxes.py [--rows 100000] [--rounds 15] [--device cpu]
"""

from __future__ import annotations

import argparse
import inspect
import time
from collections.abc import Callable
from statistics import median

import torch
import torchvision.ops as ops
from torch import Tensor

from detbalance import losses


def seconds(loss: Callable, predicted: Tensor, target: Tensor) -> float:
    """One forward and backward; of one thread, the processor's time, which others on the machine disturb less."""
    now = time.perf_counter if predicted.is_cuda or torch.get_num_threads() > 1 else time.process_time
    start = now()
    loss(predicted, target).sum().backward()
    if predicted.is_cuda:
        torch.cuda.synchronize()
    predicted.grad = None
    return now() - start


def report(named: dict[str, Callable], reference: str, predicted: Tensor, target: Tensor, rounds: int) -> None:
    """Print the ratio of each to the reference, fastest first."""
    times: dict[str, list[float]] = {name: [] for name in named}
    for turn in range(rounds + 2):
        for name, loss in named.items():
            spent = seconds(loss, predicted, target)
            if turn >= 2:  # the first two warm up
                times[name].append(spent)
    base = median(times[reference])
    print(f"\n{reference}: {1e3 * base:.2f} ms for {len(predicted):,} rows")
    for name in sorted(times, key=lambda n: median(times[n])):
        print(f"  {median(times[name]) / base:6.2f} x  {name}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.manual_seed(0)

    truth = torch.rand(options.rows, 4, device=options.device) * 50
    truth[:, 2:] += truth[:, :2] + 1
    boxes = (truth + torch.randn_like(truth)).requires_grad_()
    methods = [getattr(losses, name) for name in losses.__all__]
    named: dict[str, Callable] = {cls.__name__: cls() for cls in methods if hasattr(cls, "space")}
    for name in ("generalized_box_iou_loss", "distance_box_iou_loss", "complete_box_iou_loss"):
        named[f"torchvision {name}"] = getattr(ops, name)
    report(named, "SmoothL1Loss", boxes, truth, options.rounds)

    logits = torch.randn(options.rows, 10, device=options.device, requires_grad=True)
    target = torch.zeros_like(logits)
    target[::100, 3] = 1
    given = {"counts": (0, *range(1, 10))}  # what only the data can know
    named = {}
    for cls in methods:
        if hasattr(cls, "target_kind"):
            parameters = inspect.signature(cls).parameters
            named[cls.__name__] = cls(**{name: value for name, value in given.items() if name in parameters})
    named["torchvision sigmoid_focal_loss"] = ops.sigmoid_focal_loss
    report(named, "CrossEntropyLoss", logits, target, options.rounds)


if __name__ == "__main__":
    main()
