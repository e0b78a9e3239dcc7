"""Normalised Gaussian Wasserstein distance loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from ..boxes import mean_side, wasserstein
from ..common import require, widen
from ..taxonomy import Imbalance


@dataclass(frozen=True, kw_only=True)
class NWDLoss:
    """Compares boxes as normal distributions: a shift of a few pixels costs a tiny object no more than a large one, and
    boxes that do not touch still attract each other. IoU falls from 1 to 0 within the side of a tiny object.

    Wang et al., equations 7 to 9: 1 - exp(-W / C), W the 2-Wasserstein distance of normal distributions with the boxes'
    centres as means and half their sides as standard deviations, C about the mean side of the objects (12.8 pixels in
    AI-TOD, for which it is the authors' value). In [0, 1].

    Shapes: predicted (P, 4), target (P, 4), xyxy pixels -> (P,).
    Identity: two boxes of one size, C pixels apart: 1 - 1/e, whatever their size.

    >>> import torch
    >>> boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 90, 90]])
    >>> NWDLoss()(boxes + torch.tensor([12.8, 0, 12.8, 0]), boxes)
    tensor([0.6321, 0.6321])
    """

    constant: float | None = 12.8
    """C, pixels; None: the mean side of the true boxes at hand, which fits any data (and is not the authors')"""

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.OBJECT_SCALE, Imbalance.REGRESSION_LOSS)
    paper: ClassVar[str] = (
        "Wang, Xu, Yang, Yu, A Normalized Gaussian Wasserstein Distance for Tiny Object Detection, 2021, "
        "arXiv:2110.13389, eq. 7 to 9"
    )
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    space: ClassVar[str] = "xyxy"

    def __post_init__(self) -> None:
        known = self.constant is None or 0 < self.constant < float("inf")
        require(known, "constant", "greater than 0, or None", self.constant)

    def __call__(self, predicted: Float[Tensor, "P 4"], target: Float[Tensor, "P 4"]) -> Float[Tensor, " P"]:
        predicted, target = widen(predicted), widen(target)
        constant = mean_side(target) if self.constant is None else self.constant
        return -(-wasserstein(predicted, target) / constant).expm1()
