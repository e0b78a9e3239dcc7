"""RetinaNet (Lin et al. 2017, arXiv 1708.02002) from torchvision's parts."""

from __future__ import annotations

from functools import partial

from torch import nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from .backbone import with_fpn

__all__ = ["build_retinanet"]


def build_retinanet(
    *, classes: int, size: str = "nano", image_size: tuple[int, int] = (192, 256), weights: str | None = None
) -> RetinaNet:
    """RetinaNet for `classes` object classes (the background not counted).

    `nano` (about 1 million parameters) has a pyramid of 64 channels and three levels (strides 8 to 32), towers of two
    convolutions and anchors of twice the stride, for small images; the other sizes are torchvision's detector on
    ResNet-18, -50 and -101.

    >>> model = build_retinanet(classes=3)
    >>> 0.8e6 < sum(p.numel() for p in model.parameters()) < 1.3e6
    True
    """
    nano = size == "nano"
    channels = 64 if nano else 256
    levels = (2, 3, 4)
    extra = None if nano else LastLevelP6P7(channels, channels)
    backbone = with_fpn(size, levels=levels, out_channels=channels, extra_blocks=extra, weights=weights)
    bases = (16, 32, 64) if nano else (32, 64, 128, 256, 512)
    anchors = AnchorGenerator(
        sizes=tuple((b, int(b * 2 ** (1 / 3)), int(b * 2 ** (2 / 3))) for b in bases),
        aspect_ratios=((0.5, 1.0, 2.0),) * len(bases),
    )
    norm = partial(nn.GroupNorm, 8) if nano else None
    head = RetinaNetHead(channels, anchors.num_anchors_per_location()[0], classes + 1, norm_layer=norm)
    if nano:
        for tower in (head.classification_head, head.regression_head):
            tower.conv = tower.conv[:2]
    return RetinaNet(
        backbone,
        classes + 1,
        min_size=min(image_size),
        max_size=max(image_size),
        anchor_generator=anchors,
        head=head,
        detections_per_img=100 if nano else 300,
    )
