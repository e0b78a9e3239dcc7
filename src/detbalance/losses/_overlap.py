"""How two boxes lie to each other: the quantities from which the IoU losses are made.

torchvision has GIoU, DIoU and CIoU losses; on proper boxes ours equal them. They are written anew because torchvision
adds 1e-7 to denominators, which takes the scale invariance from boxes below a pixel, lets the gradient of a pair of
boxes without area explode, and leaves CIoU without a value there (0 / 0 in its aspect ratio). They are also faster.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ..common import widen

_NOTHING = 1e-14
"""a smaller area, squared length or length is none"""


class Overlap(NamedTuple):
    """Pair by pair, of a predicted and a true box. Widths (or x) in row 0, heights (or y) in row 1."""

    iou: Float[Tensor, " P"]
    union: Float[Tensor, " P"]
    size: Float[Tensor, "2 P"]
    """width and height of the predicted box"""
    true_size: Float[Tensor, "2 P"]
    offset: Float[Tensor, "2 P"]
    """from the centre of the true box to that of the predicted one"""
    hull: Float[Tensor, "2 P"]
    """width and height of the smallest box around both"""

    @property
    def distance(self) -> Float[Tensor, " P"]:
        """Squared distance of the centres by the squared diagonal of the hull (DIoU's penalty)."""
        return ratio(self.offset.square().sum(0), self.hull.square().sum(0))

    @property
    def gap(self) -> Float[Tensor, " P"]:
        """Share of the hull that neither box covers (GIoU's penalty)."""
        area = self.hull[0] * self.hull[1]
        return ratio(area - self.union, area)


def overlap(predicted: Float[Tensor, "P 4"], target: Float[Tensor, "P 4"]) -> Overlap:
    """Compare row i of the one with row i of the other. The IoU of two boxes without area is 0."""
    # One coordinate after the other in memory: half the time of working on columns.
    predicted, target = widen(predicted).t().contiguous(), widen(target).t().contiguous()
    low, high, true_low, true_high = predicted[:2], predicted[2:], target[:2], target[2:]
    size, true_size = (high - low).clamp(min=0), (true_high - true_low).clamp(min=0)
    inner = (torch.minimum(high, true_high) - torch.maximum(low, true_low)).clamp(min=0)
    hull = (torch.maximum(high, true_high) - torch.minimum(low, true_low)).clamp(min=0)
    shared = inner[0] * inner[1]
    union = size[0] * size[1] + true_size[0] * true_size[1] - shared
    offset = 0.5 * ((low - true_low) + (high - true_high))  # differences first: exact far from the origin
    return Overlap(ratio(shared, union), union, size, true_size, offset, hull)


def ratio(above: Tensor, below: Tensor) -> Tensor:
    """The quotient; where the denominator is nothing so is the numerator, and the result is nearly 0."""
    return above / torch.where(below > _NOTHING, below, torch.ones_like(below))


def aspect_angle(size: Float[Tensor, "2 P"]) -> Float[Tensor, " P"]:
    """arctan(width / height), safe for boxes without width or height."""
    width, height = size.clamp(min=1e-7)
    return torch.atan2(width, height)
