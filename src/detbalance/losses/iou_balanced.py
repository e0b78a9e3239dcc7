"""IoU-balanced localisation loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from .. import boxes
from ..common import require, widen
from ..taxonomy import Imbalance
from ._overlap import overlap


@dataclass(frozen=True, kw_only=True)
class IoUBalancedLoss:
    """Smooth L1 weighted by IoU^power of the predicted box with its truth: the gradient of the well placed boxes grows,
    that of the outliers fades, and tight boxes become tighter.

    Wu et al.; the weight has no gradient. Their constant factor is the recipe's `box_weight`. The IoU needs no anchor:
    both codes are decoded on the unit box, which changes both boxes by the same map along each axis and so leaves their
    IoU as it is. This holds for the code (dx, dy, log w, log h) scaled by `weights`, as torchvision's RetinaNet (1, 1,
    1, 1), SSD and Faster R-CNN (10, 10, 5, 5) have it, not for FCOS's.

    Shapes: predicted (P, 4), target (P, 4) -> (P,). Identity: power = 0 is `SmoothL1Loss`.

    >>> IoUBalancedLoss()(torch.tensor([[0.5, 0.0, 0.0, 0.0]]), torch.zeros(1, 4))  # IoU 1/3
    tensor([0.0241])
    """

    power: float = 1.5
    beta: float = 1.0
    """error at which smooth L1 turns linear"""
    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    """the detector's factors on its box code"""

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.REGRESSION_LOSS, Imbalance.IOU_DISTRIBUTION)
    paper: ClassVar[str] = (
        "Wu et al., IoU-balanced Loss Functions for Single-stage Object Detection, Pattern Recognition Letters 2022, "
        "arXiv:1908.05641"
    )
    bounds: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    space: ClassVar[str] = "code"
    anchors_only: ClassVar[bool] = True
    """it reads the code itself, so it has to be that of anchors"""

    def __post_init__(self) -> None:
        require(self.power >= 0, "power", "0 or greater", self.power)
        require(self.beta >= 0, "beta", "0 or greater", self.beta)
        require(len(self.weights) == 4 and min(self.weights) > 0, "weights", "four numbers above 0", self.weights)

    def __call__(self, predicted: Float[Tensor, "P 4"], target: Float[Tensor, "P 4"]) -> Float[Tensor, " P"]:
        predicted, target = widen(predicted), widen(target)
        with torch.no_grad():
            unit = predicted.new_tensor((-0.5, -0.5, 0.5, 0.5)).expand_as(predicted)
            iou = overlap(*(boxes.decode(code, unit, self.weights) for code in (predicted, target))).iou
        return iou**self.power * F.smooth_l1_loss(predicted, target, reduction="none", beta=self.beta).sum(1)
