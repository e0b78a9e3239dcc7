"""Auto-FPN's fusion: cells in which any level may feed any other by an operation that a search chose."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from ..common import require
from ..dilated import DilatedConv2d
from ..taxonomy import Imbalance
from ._neck import Neck, lateral
from ._resize import resize

Edge = tuple[int, int, str]
"""level that receives, level that gives, operation"""

OPERATIONS = {"skip": (0, 1), "separable3": (3, 1), "separable5": (5, 1), "dilated3": (3, 2), "dilated5": (5, 2)}
"""kernel and dilation; a kernel of 0 is the identity"""


class AutoFPN(Neck):
    """A neck of light cells whose connections come from an architecture search on the data at hand: which levels feed
    which, and how wide each looks, is found, not designed.

    Xu et al., section 3 (Auto-fusion). After a 1x1 convolution of each map, every cell makes level t as the sum over
    its edges (t, s, o) of o(level s), brought to the size of t (max-pooling down, nearest neighbour up); operations are
    the identity and ReLU, depthwise 3x3 or 5x5 (dilation 1 or 2), 1x1, batch norm, which wants batches of
    several images.

    The cells that the paper found stand in a drawing alone, which no public text repeats; the names of its operations
    could not be checked either. The default is a member of the same space made by hand, a way down and a way up, and
    `bench/search_neck.py` finds cells for your data by the paper's gradient-based search: `AutoFPN(..., cells=found)`.
    The searched head (Auto-head) is not here.

    Shapes: as `FPN`. Identity: with one cell of skips from each level to itself it is `FeatureHierarchy`.

    >>> import torch
    >>> maps = {"0": torch.zeros(1, 8, 13, 9), "1": torch.zeros(1, 16, 7, 5)}
    >>> cells = [[(0, 0, "skip"), (0, 1, "dilated3"), (1, 1, "separable3")]]
    >>> {name: tuple(x.shape) for name, x in AutoFPN([8, 16], 4, cells=cells)(maps).items()}
    {'0': (1, 4, 13, 9), '1': (1, 4, 7, 5)}
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FEATURE_LEVEL,)
    paper: ClassVar[str] = "Xu et al., Auto-FPN, ICCV 2019, sec. 3"

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        *,
        extra_blocks: ExtraFPNBlock | None = None,
        cells: Iterable[Iterable[Edge]] | None = None,
    ):
        """`cells`: edges of each cell, as (level that receives, level that gives, operation), 0 the finest level."""
        super().__init__(extra_blocks)
        levels = len(in_channels)
        found = default_cells(levels) if cells is None else [[tuple(edge) for edge in cell] for cell in cells]
        for cell in found:
            _check(cell, levels)
        self.inner_blocks = lateral(in_channels, out_channels)
        self.edges = tuple(tuple(sorted(cell)) for cell in found)
        self.cells = nn.ModuleList(nn.ModuleList(operation(o, out_channels) for _, _, o in cell) for cell in self.edges)

    def merge(self, inputs: list[Tensor]) -> list[Tensor]:
        """The maps after every cell."""
        maps = [block(x) for block, x in zip(self.inner_blocks, inputs)]
        for edges, operations in zip(self.edges, self.cells):
            sums: list[Tensor | int] = [0] * len(maps)
            for (target, source, _), apply in zip(edges, operations):
                sums[target] = sums[target] + resize(apply(maps[source]), maps[target].shape[-2:])
            maps = sums
        return maps


def default_cells(levels: int) -> list[list[Edge]]:
    """A way from coarse to fine, then one back, each level itself beside its neighbour."""
    own = [(i, i, "separable3") for i in range(levels)]
    down = [(i, i + 1, "dilated3") for i in range(levels - 1)]
    up = [(i + 1, i, "dilated3") for i in range(levels - 1)]
    return [own + down, own + up]


def operation(name: str, channels: int) -> nn.Module:
    """A module that keeps the size."""
    kernel, dilation = OPERATIONS[name]
    if not kernel:
        return nn.Identity()
    return nn.Sequential(
        nn.ReLU(),
        DilatedConv2d(channels, channels, kernel, dilation=dilation, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
    )


def _check(cell: Sequence[Edge], levels: int) -> None:
    known = all(t in range(levels) and s in range(levels) and o in OPERATIONS for t, s, o in cell)
    allowed = f"of (level, level, operation), levels 0 to {levels - 1}, operations {', '.join(OPERATIONS)}"
    require(known and {t for t, _, _ in cell} == set(range(levels)), "cells", f"{allowed}, feeding every level", cell)
