"""Detections vote on where the one that stays is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchvision.ops import batched_nms, box_iou

from ..common import require
from ..taxonomy import Imbalance

__all__ = ["VarianceVoting"]


@dataclass(frozen=True, kw_only=True)
class VarianceVoting:
    """A detection that stays is moved, coordinate by coordinate, to where its neighbours agree: those that are sure and
    near count most. The one with the best score is not always the one with the best box.

    He et al., section 3.3 and algorithm 1: of all detections of its class that overlap it and that no better one has
    suppressed before it, itself included,

        p_i = exp(-(1 - IoU_i)^2 / sigma),   x = sum(p_i x_i / sigma_x,i^2) / sum(p_i / sigma_x,i^2)

    The deviations are in pixels; the authors' code has them in sizes of the proposals, which is nearly the same where
    proposals are alike. The suppression around it is the usual one: the authors' soft one is not part of this.

    Shapes: boxes (N, 4), scores (N,), labels (N,), deviations (N, 4) -> (M, 4), (M,) rows.
    Identity: `sigma` towards 0 is plain suppression, whose scores and labels it always has.
    Errors: ValueError for `sigma` of 0 or less, TypeError without deviations.

    >>> boxes = torch.tensor([[0.0, 0, 10, 10], [1.0, 0, 11, 10], [50.0, 50, 60, 60]])
    >>> deviations = torch.tensor([[1.0, 1, 1, 1], [0.5, 1, 1, 1], [1.0, 1, 1, 1]])
    >>> scores, labels = torch.tensor([0.9, 0.8, 0.7]), torch.ones(3).long()
    >>> voted, rows = VarianceVoting()(boxes, scores, labels, deviations, iou=0.5, limit=10)
    >>> voted.round(decimals=2)
    tensor([[ 0.4300,  0.0000, 10.1600, 10.0000],
            [50.0000, 50.0000, 60.0000, 60.0000]])
    >>> rows
    tensor([0, 2])
    """

    sigma: float = 0.02

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.REGRESSION_LOSS,)
    paper: ClassVar[str] = (
        "He, Zhu, Wang, Savvides, Zhang, Bounding Box Regression with Uncertainty for Accurate Object Detection, "
        "CVPR 2019, arXiv:1809.08545, section 3.3"
    )
    needs_deviations: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require(0 < self.sigma < float("inf"), "sigma", "greater than 0, and finite", self.sigma)

    def __call__(
        self,
        boxes: Float[Tensor, "N 4"],
        scores: Float[Tensor, " N"],
        labels: Int[Tensor, " N"],
        deviations: Float[Tensor, "N 4"] | None,
        *,
        iou: float,
        limit: int,
    ) -> tuple[Float[Tensor, "M 4"], Int[Tensor, " M"]]:
        if deviations is None:
            raise TypeError("VarianceVoting votes by deviations, which this head does not learn; see losses.KLLoss")
        rows = batched_nms(boxes, scores, labels, iou)[:limit]
        overlap = box_iou(boxes[rows].double(), boxes.double()).nan_to_num(0)  # 0 / 0 of boxes without area
        overlap = overlap * (labels[rows, None] == labels)
        votes = torch.exp(-((1 - overlap) ** 2) / self.sigma) * (overlap > 0) * _open(overlap, rows, iou)
        votes[torch.arange(len(rows), device=rows.device), rows] = 1.0  # its own, if it has no area too
        sure = 1 / deviations.double().square().clamp(min=1e-12)
        voted = (votes @ (boxes.double() * sure)) / (votes @ sure)
        return voted.to(boxes.dtype), rows


def _open(overlap: Float[Tensor, "M N"], rows: Int[Tensor, " M"], iou: float) -> Bool[Tensor, "M N"]:
    """Which detections are still there when each that stays is chosen: no better one has taken them."""
    order = torch.arange(len(rows), device=rows.device)
    takes = overlap > iou
    takes[order, rows] = True
    taken = torch.where(takes, order[:, None], len(rows)).amin(0) if len(rows) else takes.new_zeros(takes.shape[1])
    return taken >= order[:, None]
