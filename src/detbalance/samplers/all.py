"""No sampling: every candidate trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from ..taxonomy import Imbalance
from ..types import IGNORED, Candidates

__all__ = ["AllSampler"]


@dataclass(frozen=True, kw_only=True)
class AllSampler:
    """Takes every candidate that is not ignored, so that weights and losses, not chance, decide what each counts for.

    It addresses no problem by itself: it is the ground that soft sampling and sampling-free methods stand on (review,
    sections 4.1.2 and 4.1.3); Lin et al., section 4: "all ~100k anchors".

    `average_over = "positives"`: so many easy negatives would drown a mean over all rows, so the loss of a head that
    uses it is divided by the number of positives, as the paper's is.

    Shapes: candidates of N rows -> (S,) rows, ascending. Uses no random number.

    Checked by: positives, negatives and ignored candidates together are all N.

    >>> from detbalance.types import Candidates
    >>> matched = torch.tensor([0, -1, -2, -1])
    >>> one = Candidates(boxes=torch.zeros(4, 4), matched=matched, iou=torch.zeros(4), labels=(matched >= 0).long())
    >>> AllSampler()(one)
    tensor([0, 1, 3])
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = ()
    paper: ClassVar[str] = (
        "Lin, Goyal, Girshick, He, Dollar, Focal Loss for Dense Object Detection, ICCV 2017, arXiv:1708.02002, "
        "section 4"
    )
    average_over: ClassVar[str] = "positives"

    def __call__(self, candidates: Candidates, generator: torch.Generator | None = None) -> Int[Tensor, " S"]:
        return (candidates.matched != IGNORED).nonzero().squeeze(1)
