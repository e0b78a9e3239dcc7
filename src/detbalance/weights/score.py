"""Score weights: boxes that will rank high count more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..common import widen
from ..taxonomy import Imbalance
from ..types import Samples
from ._present import class_scores

__all__ = ["ScoreWeights"]


@dataclass(frozen=True, kw_only=True)
class ScoreWeights:
    """Weighs the box loss of a positive by its present score, so that the boxes that will stand highest in the ranking,
    and survive suppression, are placed best.

    Oksuz et al., Rank & Sort loss, section 4 (after the quality-weighted box losses of one-stage detectors): w is the
    score of the true class, without gradient, scaled so that the weights of the positives add up to their number.
    Background rows weigh 1.

    Shapes: samples of S rows -> (S,), detached. Applies to the box loss.

    Checked by: positives of equal score weigh 1.

    >>> box, number = torch.tensor([[0.0, 0, 10, 10]]).expand(3, 4), torch.zeros(3, dtype=torch.long)
    >>> logits = torch.tensor([[0.0, 0.0], [0.0, 2.0], [0.0, 1.0]])
    >>> one = Samples(logits=logits, labels=torch.tensor([1, 1, 0]), deltas=box * 0, codes=box * 0, boxes=box,
    ...     truth=box, iou=torch.ones(3), image=number, level=number, norm=torch.ones(3))
    >>> ScoreWeights()(one)
    tensor([0.7242, 1.2758, 1.0000])
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.OBJECTIVE,)
    paper: ClassVar[str] = (
        "Oksuz et al., Rank & Sort Loss for Object Detection and Instance Segmentation, ICCV 2021, arXiv:2107.11669"
    )
    applies_to: ClassVar[str] = "box"

    @torch.no_grad()
    def __call__(self, samples: Samples) -> Float[Tensor, " S"]:
        rows = samples.positive.nonzero().squeeze(1)
        scores = class_scores(samples, rows)
        column = samples.labels[rows].clamp(max=scores.shape[1] - 1)  # a head of objectness has a single one
        score = scores.gather(1, column[:, None]).squeeze(1)
        # Scores that are all 0 weigh alike.
        total = score.sum()
        weight = torch.where(total > 0, score * (len(rows) / total), 1.0)
        return torch.ones_like(widen(samples.norm)).index_copy_(0, rows, weight.to(samples.norm.dtype))
