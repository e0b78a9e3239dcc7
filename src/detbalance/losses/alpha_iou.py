"""Alpha-IoU losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from ..common import require
from ..taxonomy import Imbalance
from ._overlap import overlap
from .diou import aspect_penalty


@dataclass(frozen=True, kw_only=True)
class AlphaIoULoss:
    """An IoU loss with every term raised to the power alpha: above 1 the well placed boxes get more of the gradient,
    which gains at high IoU thresholds.

    He et al.: 1 - IoU^alpha + sum of penalty^alpha, with the penalties of GIoU, DIoU or CIoU. The paper's
    alpha is 3 (its code's default is 2).

    Shapes: predicted (P, 4), target (P, 4), xyxy -> (P,). Identity: alpha = 1 is the loss named by `base`.

    >>> import torch
    >>> AlphaIoULoss(base="iou")(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[0.0, 0, 4, 2]]))
    tensor([0.8750])
    """

    alpha: float = 3.0
    base: Literal["iou", "giou", "diou", "ciou"] = "ciou"

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.REGRESSION_LOSS, Imbalance.IOU_DISTRIBUTION)
    paper: ClassVar[str] = "He et al., Alpha-IoU, NeurIPS 2021, arXiv:2110.13675"
    bounds: ClassVar[tuple[float, float]] = (0.0, 2.5)
    space: ClassVar[str] = "xyxy"

    def __post_init__(self) -> None:
        require(self.alpha >= 1, "alpha", "1 or greater (below, the slope has no bound)", self.alpha)
        require(self.base in ("iou", "giou", "diou", "ciou"), "base", "'iou', 'giou', 'diou' or 'ciou'", self.base)

    def __call__(self, predicted: Float[Tensor, "P 4"], target: Float[Tensor, "P 4"]) -> Float[Tensor, " P"]:
        pair = overlap(predicted, target)
        loss = 1 - pair.iou**self.alpha
        if self.base == "giou":
            loss = loss + pair.gap**self.alpha
        if self.base in ("diou", "ciou"):
            loss = loss + pair.distance**self.alpha
        if self.base == "ciou":
            loss = loss + aspect_penalty(pair) ** self.alpha
        return loss
