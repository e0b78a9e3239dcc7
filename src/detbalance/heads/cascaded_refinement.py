"""Two steps on each level: a first one filters and moves the anchors, a second one looks where they have gone."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..common import require, widen
from ..deformable import read_moved
from ..taxonomy import Imbalance
from ._wrapped import flatten
from .objectness_module import ObjectnessModule

__all__ = ["CascadedRefinement", "composed"]

_LARGEST = math.log(1000 / 16)  # what torchvision's decoder allows a log size, here also for the smallest


class CascadedRefinement(ObjectnessModule):
    """Refines anchors and features before it classifies: a binary classifier filters the easy anchors and guides the
    features, a first regression moves the anchors, and a deformable convolution reads where they have gone. Foreground
    and background are balanced before the classes are learnt, and boxes are regressed from better places.

    Nie et al., the cascaded refinement scheme. First step, on each level's features F: objectness and filter as in
    `ObjectnessModule`, and by a 3x3 convolution a box code for each anchor, trained with the detector's own box loss (a
    loss named `anchor_regression`). Second step: the guided features F + F sigmoid(max objectness) go through a 3x3
    deformable convolution whose offsets are a 1x1 convolution of the codes' dx and dy, group norm and ReLU, then to the
    towers. Its boxes start from the moved anchors: these are assigned, sampled and encoded anew, as in RefineDet; in
    evaluation the two codes are composed into one. Dilations fall from `dilation` at the finest level by one a level,
    as in the authors' public code. There each level has a convolution of its own, and offsets pass a norm and a ReLU;
    here RetinaNet's levels share it, as they do their towers, offsets start from 0, and no gradient goes through the
    moved anchors.

    Args:
        head: RetinaNet's, or one like it (`classification_head`, `regression_head`).
        threshold, ratio, prior, weight: of the objectness, as in `ObjectnessModule`.
        dilation: of the deformable convolution at the finest level.

    Shapes: as `ObjectnessBranch`, and in training `first_regression` (B, N, 4).

    Checked by: with a first step of zeros the boxes are those of the second alone.

    >>> from torchvision.models.detection.retinanet import RetinaNetHead
    >>> head = CascadedRefinement(RetinaNetHead(16, 3, 5))
    >>> sorted(head([torch.zeros(1, 16, 2, 2)]))
    ['bbox_regression', 'cls_logits', 'first_regression', 'objectness']
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FOREGROUND_BACKGROUND, Imbalance.OBJECT_SCALE)

    def __init__(
        self,
        head: nn.Module,
        *,
        threshold: float = 0.01,
        ratio: float | None = 3.0,
        prior: float = 0.1,
        weight: float = 1.0,
        dilation: int = 5,
    ) -> None:
        super().__init__(head, threshold=threshold, ratio=ratio, prior=prior, weight=weight)
        require(dilation >= 1, "dilation", "1 or greater", dilation)
        self.dilation = dilation
        channels, anchors = self.objectness[0].in_channels, self.classification_head.num_anchors
        self.first = nn.Conv2d(channels, 4 * anchors, 3, padding=1)
        nn.init.normal_(self.first.weight, std=0.01)
        nn.init.zeros_(self.first.bias)
        self.where = nn.Conv2d(2 * anchors, 18, 1)
        nn.init.zeros_(self.where.weight)
        nn.init.zeros_(self.where.bias)
        self.deformable = _Deformable(channels)

    def forward(self, features: list[Float[Tensor, "B C H W"]]) -> dict[str, Tensor]:
        """The predictions of all levels."""
        maps, moves = [self.objectness(f) for f in features], [self.first(f) for f in features]
        features = [self._refined(*level) for level in zip(range(len(features)), features, maps, moves)]
        objectness = torch.cat([flatten(m, 1) for m in maps], 1)
        first = torch.cat([flatten(m, 4) for m in moves], 1)
        logits, boxes = self.classification_head(features), self.regression_head(features)
        if self.training:
            return {
                "cls_logits": logits,
                "bbox_regression": boxes,
                "objectness": objectness,
                "first_regression": first,
            }
        return {
            "cls_logits": logits.masked_fill(self._easy(objectness), -1e4),
            "bbox_regression": composed(widen(first), widen(boxes)),
        }

    def _refined(self, level: int, feature: Tensor, objectness: Tensor, move: Tensor) -> Tensor:
        guided = feature + feature * objectness.amax(1, keepdim=True).sigmoid()
        offset = self.where(torch.cat((move[:, 0::4], move[:, 1::4]), 1))
        return self.deformable(guided, offset, max(self.dilation - level, 1))

    def moved(self, outputs: dict[str, Tensor]) -> Float[Tensor, "B N 4"]:
        """The code of the first step as the anchors are moved by it: bounded, and no gradient goes through it."""
        return _bounded(outputs["first_regression"].detach())

    def extra_repr(self) -> str:
        """The settings."""
        return f"{super().extra_repr()}, dilation={self.dilation}"


class _Deformable(nn.Module):
    """Deformable 3x3 convolution of a dilation, group norm and ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, channels, 3, 3))
        nn.init.normal_(self.weight, std=0.01)
        self.norm = nn.GroupNorm(math.gcd(16, channels), channels)

    def forward(self, x: Tensor, offset: Tensor, dilation: int) -> Tensor:
        kernel = torch.arange(9, device=x.device)
        spread = (dilation - 1) * torch.stack((kernel // 3 - 1, kernel % 3 - 1), 1).flatten()  # rows, columns in turn
        seen = read_moved(x, widen(offset) + spread[:, None, None]).to(offset.dtype)
        return self.norm(torch.einsum("bckhw,ock->bohw", seen, self.weight.flatten(2).to(seen.dtype))).relu()


def composed(first: Float[Tensor, "B N 4"], second: Float[Tensor, "B N 4"]) -> Float[Tensor, "B N 4"]:
    """The one code that does what the first does to an anchor and the second to the outcome (codes of unit weights).

    >>> from math import log
    >>> composed(torch.tensor([[0.5, 0, log(2), 0]]), torch.tensor([[0.25, 0, 0, 1]]))
    tensor([[1.0000, 0.0000, 0.6931, 1.0000]])
    """
    first = _bounded(first)
    centre = first[..., :2] + second[..., :2] * first[..., 2:].exp()
    return torch.cat((centre, first[..., 2:] + second[..., 2:]), -1)


def _bounded(code: Tensor) -> Tensor:
    return torch.cat((code[..., :2], code[..., 2:].clamp(-_LARGEST, _LARGEST)), -1)
