"""Efficient IoU loss and its focal form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from ..common import require
from ..taxonomy import Imbalance
from ._overlap import Overlap, overlap, ratio


@dataclass(frozen=True, kw_only=True)
class EIoULoss:
    """IoU loss plus distance of the centres plus differences of width and height, each by the hull's. CIoU's aspect
    ratio cannot make both sides grow at once; two separate terms can.

    *Efficient* IoU, Zhang et al.: 1 - IoU + d^2/c^2 + (w - wt)^2/cw^2 + (h - ht)^2/ch^2, with the hull's width cw,
    height ch and diagonal c. Name trap: mmdetection's `EIoULoss` is another one, *extended* IoU (Peng and Yu).

    Shapes: predicted (P, 4), target (P, 4), xyxy -> (P,). Identity: with equal sizes it is the DIoU loss.

    >>> import torch
    >>> EIoULoss()(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[0.0, 0, 4, 2]]))
    tensor([0.8000])
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.REGRESSION_LOSS,)
    paper: ClassVar[str] = "Zhang et al., Focal and Efficient IOU Loss, Neurocomputing 2022, arXiv:2101.08158"
    bounds: ClassVar[tuple[float, float]] = (0.0, 4.0)
    space: ClassVar[str] = "xyxy"

    def __call__(self, predicted: Float[Tensor, "P 4"], target: Float[Tensor, "P 4"]) -> Float[Tensor, " P"]:
        return _efficient(overlap(predicted, target))


@dataclass(frozen=True, kw_only=True)
class FocalEIoULoss:
    """Efficient IoU loss weighted by IoU^gamma: the well placed boxes lead, the many poor ones no longer own the
    gradient.

    Zhang et al.: IoU^gamma L_EIoU. The weight is a constant here: with a gradient through it, boxes below IoU
    gamma / (1 + gamma) would be rewarded for moving away. Boxes that do not overlap have weight 0.

    Shapes: predicted (P, 4), target (P, 4), xyxy -> (P,). Identity: gamma = 0 is `EIoULoss`.

    >>> import torch
    >>> FocalEIoULoss()(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[0.0, 0, 4, 2]]))
    tensor([0.5657])
    """

    gamma: float = 0.5
    """how much the poor boxes are held back"""

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.REGRESSION_LOSS, Imbalance.IOU_DISTRIBUTION)
    paper: ClassVar[str] = "Zhang et al., Focal and Efficient IOU Loss, Neurocomputing 2022, arXiv:2101.08158"
    bounds: ClassVar[tuple[float, float]] = (0.0, 4.0)
    space: ClassVar[str] = "xyxy"

    def __post_init__(self) -> None:
        require(self.gamma >= 0, "gamma", "0 or greater", self.gamma)

    def __call__(self, predicted: Float[Tensor, "P 4"], target: Float[Tensor, "P 4"]) -> Float[Tensor, " P"]:
        pair = overlap(predicted, target)
        return pair.iou.detach() ** self.gamma * _efficient(pair)


def _efficient(pair: Overlap) -> Float[Tensor, " P"]:
    sides = ratio((pair.size - pair.true_size).square(), pair.hull.square())
    return 1 - pair.iou + pair.distance + sides.sum(0)
