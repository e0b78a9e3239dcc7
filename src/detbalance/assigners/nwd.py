"""Assignment by the normalised Gaussian Wasserstein distance, for tiny objects."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor

from ..boxes import mean_side, wasserstein
from ..common import require
from ..taxonomy import Imbalance
from ..types import Target
from .max_iou import MaxIoUAssigner

__all__ = ["NWDAssigner"]


@dataclass(frozen=True, kw_only=True)
class NWDAssigner(MaxIoUAssigner):
    """`MaxIoUAssigner` with another measure: boxes as normal distributions. A tiny object overlaps no anchor by half,
    so thresholds of IoU leave it with one positive or none; its distance from an anchor does not fall off so steeply.

    Wang et al., section 3.3: exp(-W / C) in place of IoU (see `NWDLoss`) against the proposal network's thresholds. C
    is about the mean side of the objects (12.8 pixels in AI-TOD); for objects much larger than C the measure is far
    stricter than IoU.

    Shapes: boxes (N, 4), target of G objects, levels (N,), predictions unused -> (N,).
    Identity: a candidate that equals the object measures 1.
    Errors: as `MaxIoUAssigner`; ValueError for a constant of 0 or less.

    >>> import torch
    >>> tiny = {"boxes": torch.tensor([[10.0, 10, 14, 14]]), "labels": torch.tensor([1])}
    >>> boxes = torch.tensor([[11.0, 11, 17, 17], [40, 40, 46, 46]])
    >>> NWDAssigner()(boxes, tiny), MaxIoUAssigner(positive=0.7, negative=0.3, low_quality=False)(boxes, tiny)
    (tensor([ 0, -1]), tensor([-1, -1]))
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.OBJECT_SCALE, Imbalance.FOREGROUND_BACKGROUND)
    paper: ClassVar[str] = (
        "Wang, Xu, Yang, Yu, A Normalized Gaussian Wasserstein Distance for Tiny Object Detection, 2021, "
        "arXiv:2110.13389, section 3.3"
    )

    positive: float = 0.7
    negative: float = 0.3
    constant: float | None = 12.8
    """C, pixels; None: the mean side of the image's objects, which fits any data (and is not the authors')"""

    def __post_init__(self) -> None:
        super().__post_init__()
        known = self.constant is None or 0 < self.constant < float("inf")
        require(known, "constant", "greater than 0, or None", self.constant)

    def __call__(
        self,
        boxes: Float[Tensor, "N 4"],
        target: Target,
        levels: Int[Tensor, " N"] | None = None,
        predictions: tuple[Tensor, Tensor] | None = None,
    ) -> Int[Tensor, " N"]:
        if self.constant is None:
            return replace(self, constant=float(mean_side(target["boxes"])))(boxes, target, levels)
        return super().__call__(boxes, target, levels)

    def measure(self, truth: Float[Tensor, "G 4"], boxes: Float[Tensor, "N 4"]) -> Float[Tensor, "G N"]:
        """How much each candidate resembles each object, in (0, 1]."""
        return (-wasserstein(truth[:, None], boxes) / self.constant).exp()
