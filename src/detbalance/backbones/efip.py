"""An image pyramid that costs little: each level sees the image in its own size through a few convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from ..common import require
from ..taxonomy import Imbalance
from ._enriched import Enriched, convolution, enrich, output_channels

__all__ = ["EFIP"]


@dataclass(frozen=True, kw_only=True)
class EFIP:
    """Gives each level of the detector what a light network sees in the image made as small as the level: an image
    pyramid, which is the classic remedy against unequal sizes of objects, without a backbone for each of its scales.

    Pang et al.; review section 5.1.3. The image is max-pooled to the size of each of the finest `levels` maps; four
    convolutions (3x3, 1x1, 3x3, 1x1) make of it as many channels as the map x has. Attention: the normalised map times
    these features s; forward fusion: to it is added the finer enriched level p, brought down by a 3x3 convolution of
    stride two; then ReLU and a 3x3 convolution:

        p_n = conv(ReLU(norm(x_n) s_n + down(p_{n-1})))

    The maps are those that the detector predicts from, with a feature pyramid the pyramid's own (the paper has SSD
    alone). Pooling, widths (a quarter within) and where norms and ReLUs stand are those of the authors' public code,
    which has six convolutions at the levels beyond the first for COCO; the review says four. Group norm stands in place
    of batch norm.

    Shapes: a backbone of several maps -> the same backbone, with parameters more under `enriched`; maps as before.
    Errors: ValueError for settings out of range or a backbone that gives a single map.

    >>> import torch
    >>> from detbalance.detectors import build
    >>> backbone = EFIP()(build("retinanet", classes=2).backbone)
    >>> [tuple(level.shape) for level in backbone(torch.zeros(1, 3, 64, 64)).values()]
    [(1, 64, 8, 8), (1, 64, 4, 4), (1, 64, 2, 2)]
    """

    levels: int = 4
    """that are enriched, from the finest on"""

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.OBJECT_SCALE,)
    paper: ClassVar[str] = (
        "Pang, Wang, Anwer, Khan, Shao, Efficient Featurized Image Pyramid Network for Single Shot Detector, CVPR 2019"
    )

    def __post_init__(self) -> None:
        require(self.levels >= 1, "levels", "1 or greater", self.levels)

    def __call__(self, backbone: nn.Module) -> nn.Module:
        return enrich(backbone, _ImagePyramid(output_channels(backbone, self.levels)))


class _ImagePyramid(Enriched):
    """The light networks, and their features as attention."""

    def __init__(self, channels: Sequence[int]):
        super().__init__(channels)
        self.light = nn.ModuleList(_light(c) for c in channels)

    def mix(self, level: int, x: Tensor, image: Tensor, passed: Tensor | None) -> Tensor:
        seen = x * self.light[level](image)
        return seen if passed is None else seen + passed


def _light(channels: int) -> nn.Sequential:
    within = max(channels // 4, 1)
    return nn.Sequential(
        convolution(3, within, 3),
        convolution(within, within, 1),
        convolution(within, within, 3),
        convolution(within, channels, 1, relu=False),
    )
