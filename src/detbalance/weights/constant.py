"""A constant factor for objects and another for background."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..common import widen
from ..taxonomy import Imbalance
from ..types import Samples

__all__ = ["ConstantWeights"]


@dataclass(frozen=True, kw_only=True)
class ConstantWeights:
    """Weighs all objects alike and all background alike, so that the many background samples count for less.

    Redmon et al., eq. 3 (lambda_noobj = 0.5; its lambda_coord = 5 is a recipe's `box_weight`); review section 4.1.2.

    Shapes: samples of S rows -> (S,), detached. Applies to the class loss.

    Checked by: `foreground=1, background=1` changes nothing.

    >>> from detbalance.types import Samples
    >>> box, number = torch.zeros(3, 4), torch.zeros(3, dtype=torch.long)
    >>> one = Samples(logits=torch.zeros(3, 2), labels=torch.tensor([1, 0, 0]), deltas=box, codes=box, boxes=box,
    ...     truth=box, iou=torch.ones(3), image=number, level=number, norm=torch.ones(3))
    >>> ConstantWeights()(one)
    tensor([1.0000, 0.5000, 0.5000])
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FOREGROUND_BACKGROUND,)
    paper: ClassVar[str] = (
        "Redmon, Divvala, Girshick, Farhadi, You Only Look Once: Unified, Real-Time Object Detection, CVPR 2016, "
        "arXiv:1506.02640, eq. 3"
    )
    applies_to: ClassVar[str] = "class"

    foreground: float = 1.0
    background: float = 0.5

    def __post_init__(self) -> None:
        for name in ("foreground", "background"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be 0 or more, and finite, got {getattr(self, name)!r}")

    def __call__(self, samples: Samples) -> Float[Tensor, " S"]:
        return torch.where(samples.positive, self.foreground, self.background).to(widen(samples.norm).dtype)
