"""Focal weights: easy samples fade out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..common import widen
from ..taxonomy import Imbalance
from ..types import Samples

__all__ = ["FocalWeights"]


@dataclass(frozen=True, kw_only=True)
class FocalWeights:
    """Weighs a sample by how far it is from being right, so that any class loss can fade out what is easy.

    Lin et al.; review eq. 3: w = (1 - p_s) ** gamma, p_s the probability of the truth: of the true class, or of the
    background. One sigmoid a class gives the background no probability of its own: there it is 1 minus the highest
    score of a class. The weight has no gradient, unlike that of `losses.FocalLoss`, which also weighs class by class.

    Shapes: samples of S rows -> (S,), detached. Applies to the class loss.

    Checked by: gamma = 0 weighs all rows by 1; table 3 of the review.

    >>> from detbalance.types import Samples
    >>> box, number = torch.zeros(2, 4), torch.zeros(2, dtype=torch.long)
    >>> logits = torch.tensor([[0.8, 0.2], [0.3, 0.7]]).log()
    >>> one = Samples(logits=logits, labels=torch.tensor([1, 0]), deltas=box, codes=box, boxes=box, truth=box,
    ...     iou=torch.ones(2), image=number, level=number, norm=torch.ones(2), softmax=True)
    >>> FocalWeights(gamma=1)(one)
    tensor([0.8000, 0.7000])
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FOREGROUND_BACKGROUND,)
    paper: ClassVar[str] = (
        "Lin, Goyal, Girshick, He, Dollar, Focal Loss for Dense Object Detection, ICCV 2017, arXiv:1708.02002, eq. 4"
    )
    applies_to: ClassVar[str] = "class"

    gamma: float = 2.0
    """how fast easy rows fade; 0: not at all"""

    def __post_init__(self) -> None:
        if not 0 <= self.gamma < float("inf"):
            raise ValueError(f"gamma must be 0 or more, and finite, got {self.gamma!r}")

    @torch.no_grad()
    def __call__(self, samples: Samples) -> Float[Tensor, " S"]:
        logits = widen(samples.logits)
        column = samples.labels.clamp(max=max(0, logits.shape[1] - 1))[:, None]
        if samples.softmax:
            miss = logits.softmax(-1).scatter(1, column, 0.0).sum(1)  # 1 - p would round small misses away
        else:
            objects = logits[:, min(1, logits.shape[1] - 1) :]
            miss = torch.where(samples.positive, -logits.gather(1, column).squeeze(1), objects.amax(1)).sigmoid()
        return miss**self.gamma
