"""IoU-balanced classification: well placed boxes should be the confident ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..boxes import paired_iou
from ..common import widen
from ..taxonomy import Imbalance
from ..types import Samples
from ._present import predicted_boxes

__all__ = ["IoUBalancedWeights"]


@dataclass(frozen=True, kw_only=True)
class IoUBalancedWeights:
    """Weighs the class loss of a positive by how well its box is placed, so that confidence follows localisation.

    Wu et al., IoU-balanced classification loss: w = IoU(predicted box, truth) ** power, scaled so that the total class
    loss of the positives stays what it was (`samples.loss`; where there is none, their total weight). Background rows
    weigh 1. The box loss of the same paper is `losses.IoUBalancedLoss`.

    Shapes: samples of S rows -> (S,), detached. Applies to the class loss.

    Checked by: sum(w loss) = sum(loss) over the positives; power 0 weighs all rows by 1.

    >>> box = torch.tensor([[0.0, 0, 10, 10]]).expand(3, 4)
    >>> shift = torch.tensor([[0.0], [1 / 3], [0.0]]) * torch.tensor([[1.0, 0, 0, 0]])  # IoU 1 and 1/2
    >>> number = torch.zeros(3, dtype=torch.long)
    >>> one = Samples(logits=torch.zeros(3, 2), labels=torch.tensor([1, 1, 0]), deltas=shift, codes=shift * 0,
    ...     boxes=box, truth=box, iou=torch.ones(3), image=number, level=number, norm=torch.ones(3))
    >>> IoUBalancedWeights(power=1)(one)
    tensor([1.3333, 0.6667, 1.0000])
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FOREGROUND_BACKGROUND, Imbalance.OBJECTIVE)
    paper: ClassVar[str] = (
        "Wu et al., IoU-balanced Loss Functions for Single-stage Object Detection, Pattern Recognition Letters 2022, "
        "arXiv:1908.05641"
    )
    applies_to: ClassVar[str] = "class"

    power: float = 1.5

    def __post_init__(self) -> None:
        if not 0 <= self.power < float("inf"):
            raise ValueError(f"power must be 0 or more, and finite, got {self.power!r}")

    @torch.no_grad()
    def __call__(self, samples: Samples) -> Float[Tensor, " S"]:
        loss = widen(samples.norm if samples.loss is None else samples.norm * samples.loss())
        rows = samples.positive.nonzero().squeeze(1)
        weight = paired_iou(predicted_boxes(samples, rows), samples.truth[rows]).to(loss.dtype) ** self.power
        scale = loss[rows].sum() / (weight * loss[rows]).sum()
        weight = weight * torch.where(scale.isfinite() & (scale > 0), scale, 1.0)
        return torch.ones_like(loss).index_copy_(0, rows, weight)
