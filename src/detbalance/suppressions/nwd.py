"""Suppression by the normalised Gaussian Wasserstein distance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor

from ..boxes import mean_side, wasserstein
from ..common import require
from ..taxonomy import Imbalance
from ._greedy import greedy

__all__ = ["NWDSuppression"]


@dataclass(frozen=True, kw_only=True)
class NWDSuppression:
    """Two detections of one tiny object hardly overlap, so suppression by IoU lets both stay; as normal distributions
    they are near each other.

    Wang et al., section 3.3: exp(-W / C) in place of IoU (see `losses.NWDLoss`).

    Shapes: boxes (N, 4), scores (N,), labels (N,), deviations unused -> (M, 4), (M,) rows.
    Identity: equal boxes measure 1, so the better one alone stays.
    Errors: ValueError for a constant of 0 or less, or a threshold outside [0, 1].

    >>> import torch
    >>> boxes = torch.tensor([[0.0, 0, 4, 4], [2, 2, 6, 6], [30, 0, 34, 4]])
    >>> NWDSuppression()(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.ones(3).long(), None, iou=0.5, limit=9)[1]
    tensor([0, 2])
    """

    constant: float | None = 12.8
    """C, pixels; None: the mean side of the detections at hand"""
    threshold: float | None = None
    """above which two detections are one; None: the detector's own for IoU"""

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.OBJECT_SCALE,)
    paper: ClassVar[str] = (
        "Wang, Xu, Yang, Yu, A Normalized Gaussian Wasserstein Distance for Tiny Object Detection, 2021, "
        "arXiv:2110.13389, section 3.3"
    )

    def __post_init__(self) -> None:
        known = self.constant is None or 0 < self.constant < float("inf")
        require(known, "constant", "greater than 0, or None", self.constant)
        require(self.threshold is None or 0 <= self.threshold <= 1, "threshold", "in [0, 1], or None", self.threshold)

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
        constant = mean_side(boxes) if self.constant is None else self.constant

        def measure(first: Tensor, second: Tensor) -> Tensor:
            return (-wasserstein(first[:, None], second) / constant).exp()

        rows = greedy(boxes, scores, labels, measure, iou if self.threshold is None else self.threshold)[:limit]
        return boxes[rows], rows
