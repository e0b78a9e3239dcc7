"""Hierarchical shot: boxes are regressed before they are classified, twice."""

from __future__ import annotations

import math
from math import gcd
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..common import require, widen
from ..necks.nonlocal_block import NonLocal
from ..taxonomy import Imbalance
from ..types import BACKGROUND, IGNORED
from ._moved import moved_convolution
from ._wrapped import WrappedHead, binary_loss, flatten

__all__ = ["HierarchicalShot"]

_LARGEST_LOG = math.log(1000.0 / 16)  # of the decoded sizes, as the box coder's


class HierarchicalShot(WrappedHead):
    """Regresses a box, then classifies it where it has come to lie, and does both once more: the score is that of the
    box that is detected, not of the anchor it began as, and the boxes that are learnt from are better ones.

    Cao et al., the detector HSD of two "reg-offset-cls" modules, here in RetinaNet. On each level

        d1 = regression_head(F)        m1 = f(d1)          o = objectness of b1, read at m1 on the class tower T
        E  = enhanced T                d2 read at m1 on E
        m2 = m1 + g(d2)                classes of b2, read at m2 on E

    m are offsets of a 3x3 deformable convolution, for each anchor its own, from its box code alone (two 1x1 layers,
    detached, the last one from 0). b1 and b2 are the boxes after one and two regressions. d1 learns from the anchors as
    the detector assigns them; o from b1 of IoU 0.6 or more with an object, three times as many negatives, the hardest;
    d2 from b1 of IoU 0.5 (`regressed`); the classes from b2 of IoU 0.7 (`classified`); an object's best box is positive
    in each. Background of an objectness of 0.01 or less (`threshold`) neither trains the classes nor is detected. E is
    the authors' module of local and non-local context, made of T and of the next coarser level's (of itself on the
    coarsest): attention over all places, a 3x3 convolution and one of dilation 3, side by side.

    The thresholds, the layers of f and g and the enhancement are those of the authors' code; the paper's own text was
    not at hand. Otherwise than there: RetinaNet's towers, anchors, box code (both regressions at one scale) and class
    loss, where the authors have SSD's; weights shared by the levels; each anchor reads at its own offsets alone, not at
    those of all; group norm; no dropout; an object's boxes are not filtered, background alone is.

    Args:
        head: RetinaNet's, or one like it (`classification_head`, `regression_head`). Its last class layer is kept: at
            offsets 0 it is the convolution that it was.
        first, regressed, classified: IoUs from which b1 shows an object to the objectness, b1 to the second regression,
            b2 to the classes.
        threshold: objectness up to which background is filtered.
        ratio: negatives a positive that train the objectness; None: all.

    Shapes: maps (B, C, H, W) of each level -> "cls_logits" (B, N, K), "bbox_regression" (B, N, 4) from anchor to b2; in
    training also "objectness" (B, N, 1), "first_regression" and "second_regression" (B, N, 4).

    Checked by: the offset convolution equals torchvision's `deform_conv2d`; d2 = 0 leaves RetinaNet's boxes.

    >>> from torchvision.models.detection.retinanet import RetinaNetHead
    >>> old = RetinaNetHead(16, 3, 5)
    >>> head, maps = HierarchicalShot(old).eval(), [torch.randn(1, 16, 4, 4)]
    >>> bool(nn.init.zeros_(head.second.weight).any()), sorted(head(maps))
    (False, ['bbox_regression', 'cls_logits'])
    >>> torch.equal(head(maps)["bbox_regression"], old(maps)["bbox_regression"])
    True
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.IOU_DISTRIBUTION,)
    paper: ClassVar[str] = "Cao, Pang, Han, Li, Hierarchical Shot Detector, ICCV 2019"

    def __init__(
        self,
        head: nn.Module,
        *,
        first: float = 0.6,
        regressed: float = 0.5,
        classified: float = 0.7,
        threshold: float = 0.01,
        ratio: float | None = 3.0,
    ) -> None:
        super().__init__(head)
        for name, value in (("first", first), ("regressed", regressed), ("classified", classified)):
            require(0 <= value <= 1, name, "in [0, 1]", value)
        require(0 <= threshold < 0.5, "threshold", "0 or greater, and below 0.5", threshold)
        require(ratio is None or ratio > 0, "ratio", "None or greater than 0", ratio)
        self.first, self.regressed, self.classified = first, regressed, classified
        self.threshold, self.ratio = threshold, ratio
        channels, anchors = self.classification_head.cls_logits.in_channels, self.classification_head.num_anchors
        self.move, self.move_again = _offsets(anchors), _offsets(anchors)
        self.object = _small(nn.Conv2d(channels, anchors, 3, padding=1))
        self.enhance = _Enhancement(channels)
        self.second = _small(nn.Conv2d(channels, 4 * anchors, 3, padding=1))

    def forward(self, features: list[Float[Tensor, "B C H W"]]) -> dict[str, Tensor]:
        """The predictions of all levels."""
        branch, head = self.regression_head, self.classification_head
        towers = [head.conv(feature) for feature in features]
        parts = []
        for level, (feature, tower) in enumerate(zip(features, towers)):
            first = branch.bbox_reg(branch.conv(feature))
            enhanced = self.enhance(tower, towers[min(level + 1, len(towers) - 1)])
            moves = self.move(first.detach())
            objects = moved_convolution(tower, moves, self.object.weight, self.object.bias)
            second = moved_convolution(enhanced, moves, self.second.weight, self.second.bias)
            moves = moves + self.move_again(second.detach())
            logits = moved_convolution(enhanced, moves, head.cls_logits.weight, head.cls_logits.bias)
            maps = (logits, objects, first, second)
            parts.append([flatten(m, columns) for m, columns in zip(maps, (head.num_classes, 1, 4, 4))])
        logits, objectness, first, second = (torch.cat(levels, 1) for levels in zip(*parts))
        outputs = {"cls_logits": logits, "bbox_regression": _chained(first, second)}
        if self.training:
            return {**outputs, "objectness": objectness, "first_regression": first, "second_regression": second}
        return {**outputs, "cls_logits": logits.masked_fill(self._easy(objectness), -1e4)}

    def supervise(
        self,
        outputs: dict[str, Tensor],
        matched: Int[Tensor, "B N"],
        labels: Int[Tensor, "B N"],
        norm: Float[Tensor, " B"],
    ) -> tuple[Int[Tensor, "B N"], dict[str, Tensor]]:
        """The objectness loss, given what b1 shows; background that it filters is hidden."""
        loss = binary_loss(outputs["objectness"], matched, norm, self.ratio)
        easy = (matched == BACKGROUND) & self._easy(outputs["objectness"]).squeeze(-1)
        return torch.where(easy, IGNORED, matched), {"objectness": loss}

    def _easy(self, objectness: Tensor) -> Tensor:
        return objectness.detach().float().sigmoid() <= self.threshold

    def extra_repr(self) -> str:
        """The settings."""
        return (
            f"first={self.first}, regressed={self.regressed}, classified={self.classified}, "
            f"threshold={self.threshold}, ratio={self.ratio}"
        )


class _Enhancement(nn.Module):
    """Local and non-local context of a map and a coarser one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(channels // 2, 1)
        self.attended = nn.Sequential(_layer(2 * channels, inner), NonLocal(inner), _layer(inner, inner))
        self.near = nn.Sequential(_layer(2 * channels, inner, 1), _layer(inner, inner))
        self.far = nn.Sequential(_layer(2 * channels, inner, 1), _layer(inner, inner, dilation=3))
        self.fuse = _layer(3 * inner, channels)

    def forward(self, x: Tensor, coarser: Tensor) -> Tensor:
        """(B, C, H, W), (B, C, h, w) -> (B, C, H, W)."""
        both = torch.cat((F.interpolate(coarser, size=x.shape[-2:], mode="bilinear", align_corners=False), x), 1)
        return self.fuse(torch.cat((self.attended(both), self.near(both), self.far(both)), 1))


def _layer(inputs: int, outputs: int, kernel: int = 3, *, dilation: int = 1) -> nn.Sequential:
    padding = kernel // 2 * dilation
    layer = nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out")
    return nn.Sequential(layer, nn.GroupNorm(gcd(8, outputs), outputs), nn.ReLU())


def _offsets(anchors: int) -> nn.Sequential:
    """The offsets of each anchor's kernel from its four numbers; 0 to begin with."""
    hidden = nn.Conv2d(4 * anchors, 12 * anchors, 1, groups=anchors)
    last = nn.Conv2d(12 * anchors, 18 * anchors, 1, groups=anchors, bias=False)
    nn.init.kaiming_normal_(hidden.weight, mode="fan_out")
    nn.init.zeros_(hidden.bias)
    nn.init.zeros_(last.weight)
    return nn.Sequential(hidden, nn.ReLU(), last)


def _small(layer: nn.Conv2d) -> nn.Conv2d:
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
    return layer


def _chained(first: Float[Tensor, "*N 4"], second: Float[Tensor, "*N 4"]) -> Float[Tensor, "*N 4"]:
    """The code of two regressions one after another, the second of the box that the first has made.

    >>> from detbalance.boxes import decode
    >>> first, second = torch.tensor([[0.1, -0.2, 0.3, 0.0]]), torch.tensor([[0.5, 0.4, -0.1, 0.2]])
    >>> anchor = torch.tensor([[0.0, 0, 8, 4]])
    >>> torch.allclose(decode(_chained(first, second), anchor), decode(second, decode(first, anchor)))
    True
    """
    first, second = widen(first), widen(second)
    size = first[..., 2:].clamp(max=_LARGEST_LOG)
    shift = first[..., :2] + second[..., :2] * size.exp()
    return torch.cat((shift, size + second[..., 2:].clamp(max=_LARGEST_LOG)), -1)
