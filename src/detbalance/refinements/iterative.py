"""One head applied to its own boxes, again and again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..common import require
from ..taxonomy import Imbalance

__all__ = ["IterativeRefinement"]

Boxes = list[Float[Tensor, "N 4"]]


@dataclass(frozen=True, kw_only=True)
class IterativeRefinement:
    """Regresses the proposals several times with the one head there is, in detection alone: what a cascade is
    measured by. A head that was trained on proposals just above its threshold gains little from boxes that are better.

    Gidaris and Komodakis, Multi-Region CNN, section 5 (two passes; each box B^t = R(B^(t-1)) has the score of the box
    it comes from, and the boxes of all passes are detections together, `union`); AttractioNet refines proposals in the
    same way. Cai and Vasconcelos, Cascade R-CNN, section 3.1, call it iterative bounding box regression and take the
    boxes of the last pass alone (`union=False`). Where each class has a box of its own, a pass takes that of the class
    with the highest score; the papers carry the boxes of all classes on, which multiplies the work. The papers' voting
    of overlapping detections is not part of it.

    Shapes: regress (proposals -> boxes, lists of (N, 4), one for each image), proposals -> lists of (M, 4), M = N or
    passes * N: what the head is to detect from.
    Identity: `passes=1` gives the proposals, and so the detector as it is.
    Errors: ValueError for fewer than one pass.

    >>> halfway = lambda boxes: [b / 2 for b in boxes]
    >>> IterativeRefinement(passes=3)(halfway, [torch.tensor([[0.0, 0, 8, 8]])])
    [tensor([[0., 0., 8., 8.],
            [0., 0., 4., 4.],
            [0., 0., 2., 2.]])]
    >>> IterativeRefinement(passes=3, union=False)(halfway, [torch.tensor([[0.0, 0, 8, 8]])])
    [tensor([[0., 0., 2., 2.]])]
    """

    passes: int = 2
    """how often a box is regressed, once being the detector as it is"""
    union: bool = True
    """do the boxes of all passes become detections, not of the last alone?"""

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.IOU_DISTRIBUTION,)
    paper: ClassVar[str] = (
        "Gidaris, Komodakis, Object Detection via a Multi-Region and Semantic Segmentation-Aware CNN Model, ICCV 2015, "
        "arXiv:1505.01749"
    )

    def __post_init__(self) -> None:
        require(isinstance(self.passes, int) and self.passes >= 1, "passes", "an integer of 1 or more", self.passes)

    def __call__(self, regress: Callable[[Boxes], Boxes], proposals: Boxes) -> Boxes:
        rounds = [proposals]
        for _ in range(self.passes - 1):
            rounds.append(regress(rounds[-1]))
        return [torch.cat(boxes) for boxes in zip(*rounds)] if self.union else rounds[-1]
