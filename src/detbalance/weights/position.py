"""Position-balanced weights: positives on every side of their object count alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..common import require, sum_over_ranks, widen
from ..taxonomy import Imbalance
from ..types import Samples

__all__ = ["PositionBalancedWeights"]


@dataclass(frozen=True, kw_only=True)
class PositionBalancedWeights:
    """Weighs positives down where many lie alike about their object, so that the few on its rare sides are heard, too.

    The review's open problem of the relative spatial distribution (section 6.5.4, figure 14): the top left corner of a
    positive, seen from that of its object in units of the object's width and height, falls into one of `bins` x `bins`
    cells over [-1, 1]; beyond, into the cell at the edge. The weight is (1 / share of the cell) ** power, scaled to a
    mean of 1 over the positives of the batch (of all processes): at power 1 each cell that is met has the same total.
    Background rows weigh 1.

    Shapes: samples of S rows -> (S,), detached. Applies to the class and the box loss. Errors: ValueError for settings
    out of range. Identity: power 0, or one positive a cell, weighs all rows by 1.

    >>> box = torch.tensor([[0.0, 0, 10, 10]])
    >>> shift, number = torch.tensor([[0.0], [0.0], [0.0], [-4.0]]), torch.zeros(4, dtype=torch.long)
    >>> one = Samples(logits=torch.zeros(4, 2), labels=torch.tensor([1, 1, 1, 1]), deltas=torch.zeros(4, 4),
    ...     codes=torch.zeros(4, 4), boxes=box + shift, truth=box.expand(4, 4), iou=torch.ones(4), image=number,
    ...     level=number, norm=torch.ones(4))
    >>> PositionBalancedWeights()(one)
    tensor([0.6667, 0.6667, 0.6667, 2.0000])
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.LOCATION, Imbalance.IOU_DISTRIBUTION)
    paper: ClassVar[str] = (
        "Oksuz et al., Imbalance Problems in Object Detection, TPAMI 2020, arXiv:1909.00169, sec. 6.5.4"
    )
    applies_to: ClassVar[str] = "both"

    bins: int = 16
    """cells a side: 16 are an eighth of the object wide"""
    power: float = 1.0
    """0: as they come; 1: every cell has the same total"""

    def __post_init__(self) -> None:
        require(self.bins >= 1, "bins", "at least 1", self.bins)
        require(0 <= self.power <= 4, "power", "in [0, 4]", self.power)

    @torch.no_grad()
    def __call__(self, samples: Samples) -> Float[Tensor, " S"]:
        rows = samples.positive.nonzero().squeeze(1)
        boxes, truth = widen(samples.boxes[rows]), widen(samples.truth[rows])
        size = (truth[:, 2:] - truth[:, :2]).clamp(min=1e-6)
        shift = ((boxes[:, :2] - truth[:, :2]) / size).clamp(-1, 1)
        column, line = ((shift + 1) * (self.bins / 2)).long().clamp(max=self.bins - 1).unbind(1)
        cell = line * self.bins + column
        number = sum_over_ranks(torch.bincount(cell, minlength=self.bins**2)).to(boxes.dtype)
        share = number / number.sum().clamp(min=1)
        # The mean over the positives, cell by cell: sum over cells of share * share ** -power.
        mean = torch.where(number > 0, share ** (1 - self.power), 0).sum()
        weight = share[cell] ** -self.power / mean
        return boxes.new_ones(len(samples.labels)).index_copy_(0, rows, weight)
