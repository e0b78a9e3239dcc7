"""Random sampling: a fixed number of candidates per image, a fixed share of them positive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from ..taxonomy import Imbalance
from ..types import Candidates
from ._drawing import check, decided, draw, is_count

__all__ = ["RandomSampler"]


@dataclass(frozen=True, kw_only=True)
class RandomSampler:
    """Draws positives and negatives at random, so that background cannot outnumber objects by more than a set ratio.

    Ren et al., section 3.1.3; review section 4.1.1. Of `count` rows an image at most `positive_fraction` are positive;
    missing positives are replaced by negatives. The default is the region head's 512 at 1:3; the proposal network has
    `RandomSampler(count=256, positive_fraction=0.5)`. None, for either, is the detector's own, which `attach` fills in.

    Shapes: candidates of N rows -> (S,) rows, ascending, S <= count.

    Its two halves, `positives(candidates, count, generator)` and `negatives(candidates, count, generator)`, each give
    at most `count` rows, and are what `CombinedSampler` asks its parts for. Samplers that change one half derive from
    this.

    Checked by: the same rows as torchvision's `BalancedPositiveNegativeSampler` from the same random state.

    >>> from detbalance.types import Candidates
    >>> matched = torch.tensor([0, -1, 0, -1, -2])
    >>> one = Candidates(boxes=torch.zeros(5, 4), matched=matched, iou=torch.zeros(5), labels=(matched >= 0).long())
    >>> RandomSampler(count=8, positive_fraction=0.5)(one)
    tensor([0, 1, 2, 3])
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FOREGROUND_BACKGROUND,)
    paper: ClassVar[str] = (
        "Ren, He, Girshick, Sun, Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks, "
        "NeurIPS 2015, arXiv:1506.01497, section 3.1.3"
    )
    needs_predictions: ClassVar[bool] = False

    count: int | None = 512
    positive_fraction: float | None = 0.25

    def __post_init__(self) -> None:
        check("count", self.count, "a positive integer or None", self.count is None or is_count(self.count))
        fraction = self.positive_fraction
        check("positive_fraction", fraction, "in [0, 1] or None", fraction is None or 0 <= fraction <= 1)

    def __call__(self, candidates: Candidates, generator: torch.Generator | None = None) -> Int[Tensor, " S"]:
        count, fraction = decided(self)
        positives = self.positives(candidates, int(count * fraction), generator)
        negatives = self.negatives(candidates, count - len(positives), generator)
        return torch.cat((positives, negatives)).sort().values

    def positives(
        self, candidates: Candidates, count: int, generator: torch.Generator | None = None
    ) -> Int[Tensor, " P"]:
        """At most `count` rows that show objects."""
        return draw(candidates.positive.nonzero().squeeze(1), count, generator)

    def negatives(
        self, candidates: Candidates, count: int, generator: torch.Generator | None = None
    ) -> Int[Tensor, " Q"]:
        """At most `count` rows that show background."""
        return draw(candidates.negative.nonzero().squeeze(1), count, generator)
