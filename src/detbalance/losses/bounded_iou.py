"""Bounded IoU loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..common import require
from ..taxonomy import Imbalance
from ._overlap import overlap, ratio


@dataclass(frozen=True, kw_only=True)
class BoundedIoULoss:
    """A smooth L1 loss whose four errors are 1 - the largest IoU that the box can still reach when only that coordinate
    is wrong: as easy to optimise as smooth L1, and it speaks the language of the metric.

    Tychsen-Smith and Petersson (review, equation 15): `factor` * smooth L1(1 - bound) summed over x, y, w, h; the
    bounds are max(0, (wt - 2 |dx|) / (wt + 2 |dx|)) and min(w / wt, wt / w). mmdetection's is `beta=0.2, factor=1`;
    with beta = 1 all errors lie in the quadratic part.

    Shapes: predicted (P, 4), target (P, 4), xyxy -> (P,). Identity: unchanged when both boxes are moved or scaled.

    >>> import torch
    >>> BoundedIoULoss()(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[0.0, 0, 4, 2]]))
    tensor([0.6944])
    """

    beta: float = 1.0
    """error at which smooth L1 turns linear"""
    factor: float = 2.0

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.REGRESSION_LOSS,)
    paper: ClassVar[str] = (
        "Tychsen-Smith and Petersson, Improving Object Localization with Fitness NMS and Bounded IoU Loss, CVPR 2018, "
        "arXiv:1711.00164"
    )
    bounds: ClassVar[tuple[float, float]] = (0.0, 4.0)
    space: ClassVar[str] = "xyxy"

    def __post_init__(self) -> None:
        require(self.beta >= 0, "beta", "0 or greater", self.beta)
        require(self.factor > 0, "factor", "greater than 0", self.factor)

    def __call__(self, predicted: Float[Tensor, "P 4"], target: Float[Tensor, "P 4"]) -> Float[Tensor, " P"]:
        pair = overlap(predicted, target)
        away = 2 * pair.offset.abs()
        place = ratio(pair.true_size - away, pair.true_size + away).clamp(min=0)
        shape = ratio(torch.minimum(pair.size, pair.true_size), torch.maximum(pair.size, pair.true_size))
        error = 1 - torch.cat((place, shape))
        return self.factor * F.smooth_l1_loss(error, torch.zeros_like(error), reduction="none", beta=self.beta).sum(0)
