"""Context of several widths from the image made small, handed from the finest level up to the coarser ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..common import require
from ..taxonomy import Imbalance
from ._enriched import Enriched, convolution, enrich, output_channels

__all__ = ["MSCF"]


@dataclass(frozen=True, kw_only=True)
class MSCF:
    """Instils multi-scale contextual features into the detector's finest level and passes them on to the coarser ones:
    three dilated convolutions see the surroundings of a place in three widths, so that small and large objects alike
    find a context of their own size.

    Nie et al.; review section 5.1.3. The image is max-pooled to the size of the finest map (40 x 40 of 320 x 320 in the
    paper). Two convolutions (3x3, 1x1), then three branches side by side (1x1, then 3x3 of each of the `dilations`),
    stacked and merged by a 1x1 convolution, make of it as many channels as the map has. The normalised map is
    multiplied by these features, each coarser map by what a 3x3 convolution of stride two brings of the level before;
    then ReLU and a 3x3 convolution:

        c_1 = conv(ReLU(norm(x_1) context)),    c_n = conv(ReLU(norm(x_n) down(c_{n-1})))

    The maps are those that the detector predicts from, with a feature pyramid the pyramid's own (the paper has SSD,
    also on a ResNet). Pooling, dilations, widths (a quarter within, a sixteenth in a branch) and where norms and ReLUs
    stand are those of the authors' public code, which normalises the maps of VGG alone and has no ReLU before the last
    convolution of the coarse ones; here all levels are alike, and group norm stands in place of batch norm. What the
    paper does with these features is `heads.CascadedRefinement`.

    Shapes: a backbone of several maps -> the same backbone, with parameters more under `enriched`; maps as before.
    Errors: ValueError for settings out of range or a backbone that gives a single map.

    >>> from detbalance.detectors import build
    >>> backbone = MSCF()(build("retinanet", classes=2).backbone)
    >>> [tuple(level.shape) for level in backbone(torch.zeros(1, 3, 64, 64)).values()]
    [(1, 64, 8, 8), (1, 64, 4, 4), (1, 64, 2, 2)]
    """

    levels: int = 4
    """that are enriched, from the finest on"""
    dilations: tuple[int, ...] = (1, 2, 4)
    """of the branches"""

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.OBJECT_SCALE,)
    paper: ClassVar[str] = (
        "Nie, Anwer, Cholakkal, Khan, Pang, Shao, Enriched Feature Guided Refinement Network for Object Detection, "
        "ICCV 2019"
    )

    def __post_init__(self) -> None:
        require(self.levels >= 1, "levels", "1 or greater", self.levels)
        good = len(self.dilations) > 0 and min(self.dilations) >= 1
        require(good, "dilations", "one or more, of 1 or more", self.dilations)

    def __call__(self, backbone: nn.Module) -> nn.Module:
        return enrich(backbone, _Context(output_channels(backbone, self.levels), self.dilations))


class _Context(Enriched):
    """The context of the finest level; what multiplies the coarser ones comes from there."""

    def __init__(self, channels: Sequence[int], dilations: Sequence[int]):
        super().__init__(channels)
        within, branch = max(channels[0] // 4, 1), max(channels[0] // 16, 1)
        self.first = nn.Sequential(convolution(3, within, 3), convolution(within, within, 1))
        self.branches = nn.ModuleList(
            nn.Sequential(convolution(within, branch, 1), convolution(branch, branch, 3, dilation=d)) for d in dilations
        )
        self.last = convolution(branch * len(dilations), channels[0], 1, relu=False)

    def mix(self, level: int, x: Tensor, image: Tensor, passed: Tensor | None) -> Tensor:
        return x * (self.context(image) if passed is None else passed)

    def context(self, image: Tensor) -> Tensor:
        """The small image -> its multi-scale contextual features."""
        seen = self.first(image)
        return self.last(torch.cat([branch(seen) for branch in self.branches], 1))
