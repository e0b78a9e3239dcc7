"""The feature pyramid network, the neck that the others are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from ..taxonomy import Imbalance


class FPN(FeaturePyramidNetwork):
    """Adds to every level what the coarser ones know, top down, so that small objects are seen on fine maps by features
    that carry meaning (Lin et al., figure 3). It is torchvision's own, with the construction that all necks share.

    Shapes: {name: (B, in_channels[i], H_i, W_i)}, fine to coarse -> {name: (B, out_channels, H_i, W_i)}; `extra_blocks`
    (torchvision's `LastLevelMaxPool`, `LastLevelP6P7`) append coarser levels. Any sizes, each at most the one before.

    >>> import torch
    >>> maps = {"0": torch.zeros(1, 8, 13, 9), "1": torch.zeros(1, 16, 7, 5)}
    >>> {name: tuple(x.shape) for name, x in FPN([8, 16], 4)(maps).items()}
    {'0': (1, 4, 13, 9), '1': (1, 4, 7, 5)}
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.OBJECT_SCALE,)
    paper: ClassVar[str] = "Lin et al., Feature Pyramid Networks for Object Detection, CVPR 2017, arXiv:1612.03144"

    def __init__(self, in_channels: Sequence[int], out_channels: int, *, extra_blocks: ExtraFPNBlock | None = None):
        super().__init__(list(in_channels), out_channels, extra_blocks)
