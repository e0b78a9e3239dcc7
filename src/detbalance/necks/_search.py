"""Gradient-based search over the cells of `AutoFPN`: a neck that holds them all, and what it prefers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from ._neck import Neck, lateral
from ._resize import resize
from .auto_fpn import OPERATIONS, Edge, operation


class SearchFPN(Neck):
    """Every level feeds every other by all operations at once, each weighed by a softmax over the operations and "none"
    (Liu et al., DARTS, equation 2). `preferences` (cells, levels, levels, operations + 1) are trained on images that
    the weights do not see; `found` reads the best cells out, to be built as an `AutoFPN`.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        *,
        extra_blocks: ExtraFPNBlock | None = None,
        cells: int = 2,
    ):
        super().__init__(extra_blocks)
        levels = len(in_channels)
        self.inner_blocks = lateral(in_channels, out_channels)
        self.preferences = nn.Parameter(torch.zeros(cells, levels, levels, len(OPERATIONS) + 1))
        self.cells = nn.ModuleList(
            nn.ModuleList(nn.ModuleList(operation(o, out_channels) for o in OPERATIONS) for _ in range(levels**2))
            for _ in range(cells)
        )
        sizes = [sum(p.numel() for p in operation.parameters()) for operation in self.cells[0][0]]
        self.register_buffer("sizes", torch.tensor([*map(float, sizes), 0.0]) / max(*sizes, 1), persistent=False)

    def merge(self, inputs: list[Tensor]) -> list[Tensor]:
        """The maps after every cell."""
        maps = [block(x) for block, x in zip(self.inner_blocks, inputs)]
        for weights, edges in zip(self.preferences.softmax(-1), self.cells):
            sums: list[Tensor | int] = [0] * len(maps)
            pairs = [(target, source) for target in range(len(maps)) for source in range(len(maps))]
            for (target, source), operations in zip(pairs, edges):
                mixed = sum(w * apply(maps[source]) for w, apply in zip(weights[target, source], operations))
                sums[target] = sums[target] + resize(mixed, maps[target].shape[-2:])
            maps = sums
        return maps

    def price(self) -> Tensor:
        """The expected parameters of an edge, 1 for the largest operation: what keeps the search from taking all."""
        return (self.preferences.softmax(-1) @ self.sizes).mean()

    def found(self, keep: int = 2) -> list[list[Edge]]:
        """Of each level the `keep` edges whose best operation (other than "none") weighs most, with that operation."""
        names, cells = list(OPERATIONS), []
        for weights in self.preferences.detach().softmax(-1)[..., :-1]:
            best, which = weights.max(-1)
            cell = []
            for target, row in enumerate(best):
                order = sorted(range(len(row)), key=lambda s: (-float(row[s]), s))
                cell += [(target, s, names[which[target, s]]) for s in sorted(order[:keep])]
            cells.append(cell)
        return cells
