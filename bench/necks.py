"""What do necks cost? Time forward and backward, peak memory on a GPU, parameters, as ratios to the plain FPN.

Maps of a 512 x 512 image at strides 8, 16, 32, with two extra levels. The rounds are interleaved; the figure is the
median, on a CPU of processor time, so that others on the machine do not count.

    python bench/necks.py [--channels 64] [--size 512] [--batch 2] [--rounds 11] [--device cpu]
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import torch
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from detbalance import necks


def cost(neck: nn.Module, maps: dict[str, Tensor]) -> tuple[float, float, int]:
    """Seconds forward, seconds backward, peak bytes (0 without a GPU)."""
    cuda = next(iter(maps.values())).is_cuda
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    now = time.perf_counter if cuda else time.process_time
    start = now()
    total = sum(y.square().mean() for y in neck(maps).values())
    if cuda:
        torch.cuda.synchronize()
    middle = now()
    total.backward()
    if cuda:
        torch.cuda.synchronize()
    end = now()
    neck.zero_grad(set_to_none=True)
    return middle - start, end - middle, torch.cuda.max_memory_allocated() if cuda else 0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.manual_seed(0)

    wide = [2 * options.channels, 4 * options.channels, 8 * options.channels]
    maps = {
        str(i): torch.randn(options.batch, c, options.size // 8 >> i, options.size // 8 >> i, device=options.device)
        for i, c in enumerate(wide)
    }
    for x in maps.values():
        x.requires_grad_()
    built = {}
    for name in necks.__all__:
        extra = LastLevelP6P7(options.channels, options.channels)
        built[name] = getattr(necks, name)(wide, options.channels, extra_blocks=extra).to(options.device)
    spent: dict[str, list[tuple[float, float, int]]] = {name: [] for name in built}
    for turn in range(options.rounds + 2):
        for name, neck in built.items():
            measured = cost(neck, maps)
            if turn >= 2:  # the first two warm up
                spent[name].append(measured)

    figures = {name: [median(column) for column in zip(*rows)] for name, rows in spent.items()}
    for name, neck in built.items():
        figures[name].append(sum(p.numel() for p in neck.parameters()))
    forward, backward, memory, parameters = figures["FPN"]
    print(f"FPN: forward {1e3 * forward:.1f} ms, backward {1e3 * backward:.1f} ms, ", end="")
    print(f"peak {memory / 2**20:.0f} MiB, {parameters:,} parameters")
    print("  forward  backward  memory  parameters   (ratios to FPN)")
    for name, row in figures.items():
        ratios = [value / base if base else float("nan") for value, base in zip(row, figures["FPN"])]
        print("  {:7.2f}  {:8.2f}  {:6.2f}  {:10.2f}   ".format(*ratios) + name)


if __name__ == "__main__":
    main()
