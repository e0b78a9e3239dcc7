"""NAS-FPN, a pyramid found by architecture search."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from ..common import require
from ..taxonomy import Imbalance
from ._neck import extra_names, lateral
from ._resize import resize


class _Node(NamedTuple):
    """One merge: the level it lives at, whether its first input attends, and what it merges."""

    level: int
    attends: bool
    inputs: tuple[str, ...]


_FOUND = {
    "a": _Node(1, True, ("in3", "in1")),
    "b": _Node(1, False, ("a", "in1")),
    "out0": _Node(0, False, ("b", "in0")),
    "out1": _Node(1, False, ("out0", "b")),
    "out2": _Node(2, True, ("out1", "out0", "in2")),
    "out4": _Node(4, True, ("out2", "b", "in4")),
    "out3": _Node(3, True, ("out4", "out2")),
}
"""the published cell on five levels (P3 is 0, P7 is 4)"""
_LEVELS = 5


class NASFPN(nn.Module):
    """A stack of the cell that architecture search found on COCO: it crosses levels both ways and more than one at a
    time, and the search itself decided how much every level gives to every other.

    Ghiasi et al., figure 6 (a cell of seven merges, seven times). A merge brings its inputs to its level (max-pooling
    down, nearest neighbour up), adds them, or lets the coarser attend to the finer one, x + y sigmoid(max of x over
    its places), adds the input of its own level where the cell uses that nowhere else, and ends in ReLU, 3x3
    convolution and batch norm, which wants batches of several images. (Another public version takes the mean for the
    maximum, and lets the finer map attend.)

    The cell has five levels. Where there are fewer, coarser ones are made by max-pooling, as the paper makes P6 and P7,
    take part and are dropped at the end, and merges that no output needs are left out. Levels beyond the fifth are
    each merged with the one before. The extra levels take part.

    Shapes: as `FPN`.

    >>> import torch
    >>> maps = {"0": torch.zeros(2, 8, 13, 9), "1": torch.zeros(2, 16, 7, 5)}
    >>> {name: tuple(x.shape) for name, x in NASFPN([8, 16], 4, repeats=2)(maps).items()}
    {'0': (2, 4, 13, 9), '1': (2, 4, 7, 5)}
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FEATURE_LEVEL,)
    paper: ClassVar[str] = "Ghiasi et al., NAS-FPN, CVPR 2019, arXiv:1904.07392, fig. 6"

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        *,
        extra_blocks: ExtraFPNBlock | None = None,
        repeats: int = 7,
    ):
        """`repeats`: number of cells."""
        super().__init__()
        require(repeats >= 1, "repeats", "1 or greater", repeats)
        self.inner_blocks = lateral(in_channels, out_channels)
        self.extra_blocks = extra_blocks
        levels = len(in_channels) + len(extra_names(extra_blocks, in_channels, out_channels))
        cells: list[_Cell] = []
        wanted = {f"out{i}" for i in range(levels)}
        for _ in range(repeats):  # from the last to the first
            cells.insert(0, _Cell(out_channels, levels, wanted))
            wanted = {name.replace("in", "out") for name in cells[0].inputs}
        self.cells = nn.ModuleList(cells)

    def forward(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        """The pyramid of the backbone's maps."""
        names, inputs = list(x), list(x.values())
        maps = [block(m) for block, m in zip(self.inner_blocks, inputs)]
        if self.extra_blocks is not None:
            maps, names = self.extra_blocks(maps, inputs, names)
        while len(maps) < _LEVELS:
            maps.append(F.max_pool2d(maps[-1], 2, ceil_mode=True))
        sizes = [m.shape[-2:] for m in maps]
        values = {f"in{i}": m for i, m in enumerate(maps)}
        for cell in self.cells:
            values = cell(values, sizes)
        return OrderedDict((name, values[f"in{i}"]) for i, name in enumerate(names))


class _Cell(nn.Module):
    """The merges that the wanted outputs need; takes maps by the names in0, in1, ... and gives such."""

    def __init__(self, channels: int, levels: int, wanted: set[str]):
        super().__init__()
        nodes = dict(_FOUND)
        for i in range(_LEVELS, levels):
            nodes[f"out{i}"] = _Node(i, False, (f"out{i - 1}", f"in{i}"))
        needed = set(wanted)
        for name in reversed(nodes):
            if name in needed:
                needed.update(nodes[name].inputs)
        self.inputs = {name for name in needed if name.startswith("in")}
        self.nodes = {name: node for name, node in nodes.items() if name in needed}
        self.layers = nn.ModuleDict({name: _layer(channels) for name in self.nodes})

    def forward(self, values: dict[str, Tensor], sizes: list[Sequence[int]]) -> dict[str, Tensor]:
        values = dict(values)
        for name, node in self.nodes.items():
            first, second, *own = (resize(values[i], sizes[node.level]) for i in node.inputs)
            weight = first.amax((2, 3), keepdim=True).sigmoid() if node.attends else 1
            values[name] = self.layers[name](sum(own, first + weight * second))
        return {name.replace("out", "in"): m for name, m in values.items() if name.startswith("out")}


def _layer(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels, momentum=0.01)
    )
