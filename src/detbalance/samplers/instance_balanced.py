"""Libra R-CNN's instance-balanced sampling: positives evenly from all objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from ..taxonomy import Imbalance
from ..types import Candidates
from ._drawing import shuffle_evenly
from .random import RandomSampler

__all__ = ["InstanceBalancedSampler"]


@dataclass(frozen=True, kw_only=True)
class InstanceBalancedSampler(RandomSampler):
    """Draws equally many positives for each object of the image: large objects own most candidates, small ones few.

    Pang et al., section 3.1 (the positives' side of IoU-balanced sampling). Of N positives each of G objects gets
    N // G (one, where G > N), at random among its own; what objects with fewer candidates leave over is drawn at random
    from the rest. Negatives are drawn at random. `reference=True` gives each object round(N / G) + 1 and cuts the
    result to N at random, as mmdetection does (without its fault of drawing a candidate twice).

    Shapes: candidates of N rows -> (S,) rows, ascending, S <= count.

    Checked by: with one object it is random sampling; an object with N // G candidates gets so many.

    >>> from detbalance.types import Candidates
    >>> matched = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1])
    >>> one = Candidates(boxes=torch.zeros(8, 4), matched=matched, iou=torch.ones(8), labels=torch.ones(8).long())
    >>> rows = InstanceBalancedSampler(count=4, positive_fraction=1)(one)
    >>> matched[rows]
    tensor([0, 0, 1, 1])
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FOREGROUND_FOREGROUND, Imbalance.OBJECT_SCALE)
    paper: ClassVar[str] = (
        "Pang, Chen, Shi, Feng, Ouyang, Lin, Libra R-CNN: Towards Balanced Learning for Object Detection, CVPR 2019, "
        "arXiv:1904.02701, section 3.1"
    )

    reference: bool = False

    def positives(
        self, candidates: Candidates, count: int, generator: torch.Generator | None = None
    ) -> Int[Tensor, " P"]:
        """At most `count` rows that show objects, evenly over the objects."""
        rows = candidates.positive.nonzero().squeeze(1)
        truth = candidates.matched[rows]
        objects = max(1, len(truth.unique()))
        quota = round(count / objects) + 1 if self.reference else max(1, count // objects)
        return shuffle_evenly(rows, truth, quota, generator)[:count]
