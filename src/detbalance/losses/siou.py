"""SCYLLA IoU loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..common import require
from ..taxonomy import Imbalance
from ._overlap import overlap, ratio


@dataclass(frozen=True, kw_only=True)
class SIoULoss:
    """IoU loss plus a distance that weighs how far the way to the truth is from an axis, plus a difference in shape:
    boxes first slide onto the nearest axis, then along it, which takes fewer steps.

    Gevorgyan: 1 - IoU + (D + S) / 2. Angle cost A = 1 - 2 sin^2(arcsin(|dy| / d) - pi/4), which is the
    sine of twice the angle, 2 |dx dy| / d^2; distance D = sum over x, y of 1 - exp(-(2 - A) (dx / cw)^2); shape S = sum
    over w, h of (1 - exp(-|w - wt| / max(w, wt)))^theta. mmdetection 3.3 has a sign wrong and rewards distance.

    Shapes: predicted (P, 4), target (P, 4), xyxy -> (P,). Identity: with equal centres and sizes it is 0.

    >>> import torch
    >>> SIoULoss()(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 0, 3, 2]]))
    tensor([0.7663])
    """

    theta: float = 4.0
    """how late the difference in shape is felt; the paper has it in [2, 6]"""

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.REGRESSION_LOSS,)
    paper: ClassVar[str] = "Gevorgyan, SIoU Loss, 2022, arXiv:2205.12740"
    bounds: ClassVar[tuple[float, float]] = (0.0, 3.0)
    space: ClassVar[str] = "xyxy"

    def __post_init__(self) -> None:
        require(self.theta >= 2, "theta", "2 or greater", self.theta)

    def __call__(self, predicted: Float[Tensor, "P 4"], target: Float[Tensor, "P 4"]) -> Float[Tensor, " P"]:
        pair = overlap(predicted, target)
        dx, dy = pair.offset.abs()
        angle = ratio(2 * dx * dy, pair.offset.square().sum(0))
        distance = -torch.expm1((angle - 2) * ratio(pair.offset.square(), pair.hull.square())).sum(0)
        sides = ratio((pair.size - pair.true_size).abs(), torch.maximum(pair.size, pair.true_size))
        # (x^2)^(theta / 2): at theta = 4 two squares, many times faster than a power
        shape = ((1 - torch.exp(-sides)).square() ** (self.theta / 2)).sum(0)
        return 1 - pair.iou + (distance + shape) / 2
