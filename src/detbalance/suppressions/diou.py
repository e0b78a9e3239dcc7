"""Suppression by distance IoU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor
from torchvision.ops import distance_box_iou

from ..taxonomy import Imbalance
from ._greedy import greedy

__all__ = ["DIoUSuppression"]


@dataclass(frozen=True, kw_only=True)
class DIoUSuppression:
    """Two detections that overlap but whose middles lie apart may be two objects: where objects stand before one
    another, suppression by IoU loses the one behind.

    Zheng et al., DIoU-NMS: a detection falls where IoU - rho^2 / c^2 with a better one of its class is above the
    threshold; rho is the distance of the middles, c the diagonal of the smallest box around both.

    Shapes: boxes (N, 4), scores (N,), labels (N,), deviations unused -> (M, 4), (M,) rows.
    Identity: for boxes about one middle it is suppression by IoU.

    >>> import torch
    >>> boxes = torch.tensor([[0.0, 0, 10, 40], [4, 0, 14, 40]])  # IoU 0.43, less 0.009
    >>> DIoUSuppression()(boxes, torch.tensor([0.9, 0.8]), torch.ones(2).long(), None, iou=0.425, limit=9)[1]
    tensor([0, 1])
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.REGRESSION_LOSS,)
    paper: ClassVar[str] = (
        "Zheng, Wang, Liu, Li, Ye, Ren, Distance-IoU Loss, AAAI 2020, arXiv:1911.08287, section 3.3 (DIoU-NMS)"
    )

    def __call__(
        self,
        boxes: Float[Tensor, "N 4"],
        scores: Float[Tensor, " N"],
        labels: Int[Tensor, " N"],
        deviations: Float[Tensor, "N 4"] | None = None,
        *,
        iou: float,
        limit: int,
    ) -> tuple[Float[Tensor, "M 4"], Int[Tensor, " M"]]:
        rows = greedy(boxes, scores, labels, distance_box_iou, iou)[:limit]
        return boxes[rows], rows
