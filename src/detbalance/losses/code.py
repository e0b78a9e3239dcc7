"""Losses on the box code that treat the four coordinates alike: L1, L2, smooth L1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..common import require, widen
from ..taxonomy import Imbalance


@dataclass(frozen=True, kw_only=True)
class L1Loss:
    """Sum of the absolute errors of the four coordinates: the gradient is the same however far off a box is.

    Shapes: predicted (P, 4), target (P, 4) -> (P,). Identity: the limit of `SmoothL1Loss` at beta = 0.

    >>> import torch
    >>> L1Loss()(torch.tensor([[0.5, -2.0, 0.0, 0.0]]), torch.zeros(1, 4))
    tensor([2.5000])
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.REGRESSION_LOSS,)
    paper: ClassVar[str] = "Oksuz et al., Imbalance Problems in Object Detection, TPAMI 2020, arXiv:1909.00169, table 5"
    bounds: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    space: ClassVar[str] = "code"

    def __call__(self, predicted: Float[Tensor, "P 4"], target: Float[Tensor, "P 4"]) -> Float[Tensor, " P"]:
        return (widen(predicted) - widen(target)).abs().sum(1)


@dataclass(frozen=True, kw_only=True)
class L2Loss:
    """Sum of the squared errors of the four coordinates: the gradient grows with the error, so that a few outliers own
    it. The point of comparison for the robust losses.

    Shapes: predicted (P, 4), target (P, 4) -> (P,). Identity: twice `SmoothL1Loss` with beta = 1 below error 1.

    >>> import torch
    >>> L2Loss()(torch.tensor([[0.5, -2.0, 0.0, 0.0]]), torch.zeros(1, 4))
    tensor([4.2500])
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.REGRESSION_LOSS,)
    paper: ClassVar[str] = "Oksuz et al., Imbalance Problems in Object Detection, TPAMI 2020, arXiv:1909.00169, table 5"
    bounds: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    space: ClassVar[str] = "code"

    def __call__(self, predicted: Float[Tensor, "P 4"], target: Float[Tensor, "P 4"]) -> Float[Tensor, " P"]:
        return (widen(predicted) - widen(target)).square().sum(1)


@dataclass(frozen=True, kw_only=True)
class SmoothL1Loss:
    """Quadratic near zero, linear beyond `beta`: outliers no longer own the gradient, and it still fades at the goal.

    Girshick, equation 3 (beta = 1): .5 d^2 / beta where |d| < beta, else |d| - .5 beta; torchvision's RetinaNet is L1,
    its Faster R-CNN has beta = 1/9. Summed over the four coordinates, as torchvision does.

    Shapes: predicted (P, 4), target (P, 4) -> (P,). Identity: beta = 0 is `L1Loss`.

    >>> import torch
    >>> SmoothL1Loss()(torch.tensor([[0.5, -2.0, 0.0, 0.0]]), torch.zeros(1, 4))
    tensor([1.6250])
    """

    beta: float = 1.0
    """error at which the loss turns linear"""

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.REGRESSION_LOSS,)
    paper: ClassVar[str] = "Girshick, Fast R-CNN, ICCV 2015, arXiv:1504.08083, eq. 3"
    bounds: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    space: ClassVar[str] = "code"

    def __post_init__(self) -> None:
        require(self.beta >= 0, "beta", "0 or greater", self.beta)

    def __call__(self, predicted: Float[Tensor, "P 4"], target: Float[Tensor, "P 4"]) -> Float[Tensor, " P"]:
        return F.smooth_l1_loss(widen(predicted), widen(target), reduction="none", beta=self.beta).sum(1)
