"""What guided anchors are made from, in any head: where objects are, of what shape an anchor there is, which features
fit it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from math import gcd

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..common import require
from ..deformable import read_moved
from ._wrapped import start

__all__ = ["FeatureAdaption", "Guidance", "Guide", "one_anchor"]


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """The settings of guided anchors.

    >>> Guidance().pairs()[:3]
    ((1.0, 0.5), (1.0, 1.0), (1.0, 2.0))
    """

    threshold: float = 0.01
    """in detection there are anchors where an object is at least so likely"""
    center: float = 0.2
    """sigma 1: share of an object's width and height in the middle of which its location is"""
    ignore: float = 0.5
    """sigma 2: share in which a place that is none is ignored, also on the next finer and the next coarser level"""
    scales: tuple[float, ...] = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
    """of the level's square, of the shapes that are tried to find out which object a place could show best"""
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    """height / width of those shapes"""
    positive: float = 0.5
    """IoU of the best of them from which a place learns the object's shape"""
    location_weight: float = 1.0
    shape_weight: float = 0.1
    background_weight: float = 0.1
    """of a place that shows nothing in the location loss"""
    groups: int = 4
    """of channels that are read at the same places by the deformable convolution"""

    def __post_init__(self) -> None:
        require(0 <= self.threshold < 1, "threshold", "0 or greater, and below 1", self.threshold)
        require(0 < self.center <= 1, "center", "greater than 0, and 1 at most", self.center)
        require(self.center <= self.ignore, "ignore", f"center={self.center} or greater", self.ignore)
        require(0 <= self.positive <= 1, "positive", "in [0, 1]", self.positive)
        for name in ("location_weight", "shape_weight", "background_weight"):
            require(0 <= getattr(self, name) < math.inf, name, "0 or greater", getattr(self, name))
        for name in ("scales", "ratios"):
            values = getattr(self, name)
            require(len(values) > 0 and all(0 < v < math.inf for v in values), name, "one or more, above 0", values)
        require(isinstance(self.groups, int) and self.groups >= 1, "groups", "an integer of 1 or more", self.groups)

    def pairs(self) -> tuple[tuple[float, float], ...]:
        """The shapes that are tried: scale and ratio."""
        return tuple((scale, ratio) for scale in self.scales for ratio in self.ratios)


class Guide(nn.Module):
    """Predicts from the features of a place whether an object has its middle there, and the shape of its anchor.

    Args:
        channels: of the features.

    Shapes: (B, C, H, W) twice, what each of the two is predicted from -> (B, 1, H, W) logits and (B, 2, H, W): the
    logarithms of width and height by the side of the level's square.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.location, self.shape = nn.Conv2d(channels, 1, 1), nn.Conv2d(channels, 2, 1)
        start(self.location, 0.01)
        start(self.shape, 0.5)  # a bias of 0

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        return self.location(first), self.shape(second)


class FeatureAdaption(nn.Module):
    """A deformable 3x3 convolution that reads where the anchor is, and a ReLU: wide anchors see wide regions.

    The offsets are a 1x1 convolution of the shape, through which no gradient returns to it.
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.offset = nn.Conv2d(2, 18 * gcd(groups, channels), 1, bias=False)
        self.weight = nn.Parameter(torch.empty(channels, channels, 3, 3))
        nn.init.normal_(self.offset.weight, std=0.1)
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")

    def forward(self, x: Float[Tensor, "B C H W"], shape: Float[Tensor, "B 2 H W"]) -> Float[Tensor, "B C H W"]:
        seen = read_moved(x, self.offset(shape.detach()))
        return torch.einsum("bckhw,ock->bohw", seen, self.weight.flatten(2).to(seen.dtype)).relu()


def one_anchor(layer: nn.Conv2d, columns: int) -> nn.Conv2d:
    """A prediction layer for one anchor, the mean of those of all anchors; each has so many columns."""
    new = nn.Conv2d(layer.in_channels, columns, layer.kernel_size, padding=layer.padding)
    with torch.no_grad():
        new.weight.copy_(layer.weight.unflatten(0, (-1, columns)).mean(0))
        new.bias.copy_(layer.bias.unflatten(0, (-1, columns)).mean(0))
    return new
