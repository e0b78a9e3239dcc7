"""Coverage-balanced weights: every place of the image that is sampled counts alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..common import require, sum_over_ranks, widen
from ..taxonomy import Imbalance
from ..types import Samples

__all__ = ["CoverageBalancedWeights"]


@dataclass(frozen=True, kw_only=True)
class CoverageBalancedWeights:
    """Weighs boxes down where many sampled boxes lie over one another, so that no part of the image owns the loss.

    The review's open problem of overlapping boxes (section 6.5.5, figure 15). With n(p) the number of the image's
    sampled boxes that cover the cell p of a grid, a box weighs the mean of n(p) ** -power over the cells that it
    covers, scaled to a mean of 1 over all those boxes (of all processes). At power 1 the weights of the boxes of an
    image, each spread over its cells, sum to one amount for all covered cells as nearly as one weight a box allows.

    The grid of an image has `cells` x `cells` cells between its origin and the farthest corner of a box; a box covers
    the cells that it touches, one at least. Covering is counted by four corners a box and running sums, the means are
    read from four corners of a summed-area table: time and memory are linear in boxes and cells.

    Shapes: samples of S rows -> (S,), detached. Applies to the class and the box loss. Errors: ValueError for settings
    out of range. Identity: power 0, or boxes that all cover the same, weigh 1.

    >>> boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 4], [4, 4, 8, 8]])
    >>> zero = torch.zeros(3, dtype=torch.long)
    >>> one = Samples(logits=torch.zeros(3, 2), labels=zero, deltas=torch.zeros(3, 4), codes=torch.zeros(3, 4),
    ...     boxes=boxes, truth=boxes, iou=torch.ones(3), image=zero, level=zero, norm=torch.ones(3))
    >>> CoverageBalancedWeights(cells=4)(one)
    tensor([0.7500, 0.7500, 1.5000])
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.LOCATION,)
    paper: ClassVar[str] = (
        "Oksuz et al., Imbalance Problems in Object Detection, TPAMI 2020, arXiv:1909.00169, sec. 6.5.5"
    )
    applies_to: ClassVar[str] = "both"

    cells: int = 128
    """of the grid, a side"""
    power: float = 1.0
    positives_alone: bool = False
    """count and weigh the positives only; background rows weigh 1"""

    def __post_init__(self) -> None:
        require(self.cells >= 1, "cells", "at least 1", self.cells)
        require(0 <= self.power <= 4, "power", "in [0, 4]", self.power)

    @torch.no_grad()
    def __call__(self, samples: Samples) -> Float[Tensor, " S"]:
        chosen = samples.positive if self.positives_alone else torch.ones_like(samples.positive)
        rows = chosen.nonzero().squeeze(1)
        boxes, image = widen(samples.boxes[rows]), samples.image[rows]
        weight = boxes.new_ones(len(samples.labels))
        found = self._raw(boxes, image).to(boxes.dtype)
        total, count = sum_over_ranks(torch.stack((found.sum(), found.new_tensor(float(len(found))))))
        return weight.index_copy_(0, rows, found * (count / torch.where(total > 0, total, 1)))

    def _raw(self, boxes: Tensor, image: Tensor) -> Float[Tensor, " R"]:
        if not len(boxes):
            return boxes.new_zeros(0)
        images, side = int(image.max()) + 1, self.cells + 1
        low, high = self._cells(boxes, image, images)
        base = image * side**2
        (x1, y1), (x2, y2) = low.unbind(1), high.unbind(1)
        corners = [base + y * side + x for y, x in ((y1, x1), (y2, x2), (y1, x2), (y2, x1))]
        steps = torch.zeros(images * side**2, dtype=torch.float64, device=boxes.device)
        for corner, sign in zip(corners, (1.0, 1.0, -1.0, -1.0)):
            steps.index_add_(0, corner, torch.full_like(corner, sign, dtype=torch.float64))
        depth = steps.view(images, side, side).cumsum(1).cumsum(2)[:, :-1, :-1]
        value = torch.where(depth > 0.5, depth.clamp(min=1) ** -self.power, 0)
        table = torch.nn.functional.pad(value.cumsum(1).cumsum(2), (1, 0, 1, 0)).flatten()
        first, last, right, down = (table[corner] for corner in corners)
        return (first + last - right - down) / ((x2 - x1) * (y2 - y1))

    def _cells(self, boxes: Tensor, image: Tensor, images: int) -> tuple[Tensor, Tensor]:
        """(R, 2) first cell and the one after the last, along x and y."""
        ends = boxes[:, 2:].clamp(min=1e-6)
        index = image[:, None].expand(-1, 2)
        extent = ends.new_zeros(images, 2).scatter_reduce(0, index, ends, "amax")[image] / self.cells
        low = (boxes[:, :2] / extent).floor().clamp(0, self.cells - 1)
        high = (boxes[:, 2:] / extent - 1e-4).ceil().clamp(max=self.cells)  # a box that ends on an edge touches no more
        return low.long(), torch.maximum(high, low + 1).long()
