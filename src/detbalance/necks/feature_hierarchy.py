"""Prediction from the backbone's own maps, the reference of all pyramids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from ..taxonomy import Imbalance
from ._neck import Neck, lateral


class FeatureHierarchy(Neck):
    """No pyramid at all: each level is the backbone's own map, as in SSD and MS-CNN (the review's figure 8b). Small
    objects are predicted from fine maps that know no context; what a pyramid adds is measured against this.

    Heads that all levels share want one number of channels, so each map passes a 1x1 convolution, and nothing else; for
    a head of its own on each level, as both papers have it, see `heads.SeparateHeads`.

    Shapes: as `FPN`. Identity: no output depends on a map of another level.

    >>> import torch
    >>> maps = {"0": torch.zeros(1, 8, 13, 9), "1": torch.zeros(1, 16, 7, 5)}
    >>> {name: tuple(x.shape) for name, x in FeatureHierarchy([8, 16], 4)(maps).items()}
    {'0': (1, 4, 13, 9), '1': (1, 4, 7, 5)}
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.OBJECT_SCALE,)
    paper: ClassVar[str] = "Liu et al., SSD: Single Shot MultiBox Detector, ECCV 2016, arXiv:1512.02325, sec. 2.1"

    def __init__(self, in_channels: Sequence[int], out_channels: int, *, extra_blocks: ExtraFPNBlock | None = None):
        super().__init__(extra_blocks)
        self.inner_blocks = lateral(in_channels, out_channels)

    def merge(self, inputs: list[Tensor]) -> list[Tensor]:
        """Each map by itself."""
        return [block(x) for block, x in zip(self.inner_blocks, inputs)]
