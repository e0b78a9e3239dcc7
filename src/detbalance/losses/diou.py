"""Distance IoU and complete IoU losses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..common import require
from ..taxonomy import Imbalance
from ._overlap import Overlap, aspect_angle, overlap, ratio


@dataclass(frozen=True, kw_only=True)
class DIoULoss:
    """IoU loss plus the distance of the centres, so that boxes which do not overlap, or lie in one another, move
    straight towards each other; it converges faster than GIoU.

    Zheng et al., equation 7: 1 - IoU + d^2 / c^2, d the distance of the centres, c the diagonal of the hull. In [0, 2).

    Shapes: predicted (P, 4), target (P, 4), xyxy -> (P,). Identity: with equal centres it is 1 - IoU.

    >>> import torch
    >>> DIoULoss()(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 1, 3, 3]]))
    tensor([0.9683])
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.REGRESSION_LOSS,)
    paper: ClassVar[str] = "Zheng et al., Distance-IoU Loss, AAAI 2020, arXiv:1911.08287, eq. 7"
    bounds: ClassVar[tuple[float, float]] = (0.0, 2.0)
    space: ClassVar[str] = "xyxy"

    def __call__(self, predicted: Float[Tensor, "P 4"], target: Float[Tensor, "P 4"]) -> Float[Tensor, " P"]:
        pair = overlap(predicted, target)
        return 1 - pair.iou + pair.distance


@dataclass(frozen=True, kw_only=True)
class CIoULoss:
    """DIoU loss plus the difference in aspect ratio, which overlap and distance leave open.

    Zheng et al., equations 8 to 11: DIoU loss + a v with v = 4 / pi^2 (arctan wt/ht - arctan w/h)^2 and a = v / (1 -
    IoU + v) taken as a constant. The authors' later paper, and mmdetection, drop the term where IoU < .5:
    `aspect_from=0.5`.

    Shapes: predicted (P, 4), target (P, 4), xyxy -> (P,). Identity: with equal aspect ratios it is the DIoU loss.

    >>> import torch
    >>> CIoULoss()(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[0.0, 0, 4, 2]]))
    tensor([0.5532])
    """

    aspect_from: float = 0.0
    """the aspect ratio counts where IoU is at least this"""

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.REGRESSION_LOSS,)
    paper: ClassVar[str] = "Zheng et al., Distance-IoU Loss, AAAI 2020, arXiv:1911.08287, eq. 8-11"
    bounds: ClassVar[tuple[float, float]] = (0.0, 2.5)
    space: ClassVar[str] = "xyxy"

    def __post_init__(self) -> None:
        require(0 <= self.aspect_from <= 1, "aspect_from", "in [0, 1]", self.aspect_from)

    def __call__(self, predicted: Float[Tensor, "P 4"], target: Float[Tensor, "P 4"]) -> Float[Tensor, " P"]:
        pair = overlap(predicted, target)
        return 1 - pair.iou + pair.distance + aspect_penalty(pair) * (pair.iou >= self.aspect_from)


def aspect_penalty(pair: Overlap) -> Float[Tensor, " P"]:
    """CIoU's a v, the factor a without gradient."""
    v = (4 / math.pi**2) * (aspect_angle(pair.true_size) - aspect_angle(pair.size)).square()
    with torch.no_grad():
        factor = ratio(v, 1 - pair.iou + v)
    return factor * v
