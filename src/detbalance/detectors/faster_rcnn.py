"""Faster R-CNN (Ren et al. 2015, arXiv 1506.01497) on a feature pyramid, from torchvision's parts."""

from __future__ import annotations

from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from .backbone import with_fpn

__all__ = ["build_faster_rcnn"]


def build_faster_rcnn(
    *, classes: int, size: str = "nano", image_size: tuple[int, int] = (192, 256), weights: str | None = None
) -> FasterRCNN:
    """Faster R-CNN for `classes` object classes (the background not counted).

    `nano` (about 1 million parameters) has a pyramid of 64 channels and three levels (strides 8 to 32), RoI features
    of 5 x 5 and a head of 128 units; the other sizes are torchvision's detector on ResNet-18, -50 and -101.

    >>> model = build_faster_rcnn(classes=3)
    >>> 0.8e6 < sum(p.numel() for p in model.parameters()) < 1.3e6
    True
    """
    common = {"min_size": min(image_size), "max_size": max(image_size)}
    if size != "nano":
        backbone = with_fpn(
            size, levels=(1, 2, 3, 4), out_channels=256, extra_blocks=LastLevelMaxPool(), weights=weights
        )
        return FasterRCNN(backbone, classes + 1, **common)
    backbone = with_fpn(size, levels=(2, 3, 4), out_channels=64, extra_blocks=None, weights=weights)
    anchors = AnchorGenerator(sizes=((16, 24), (32, 48), (64, 112)), aspect_ratios=((0.5, 1.0, 2.0),) * 3)
    # The canonical level of an RoI is set for boxes a quarter of the usual size, as the images are.
    pool = MultiScaleRoIAlign(["1", "2", "3"], 5, 2, canonical_scale=56, canonical_level=4)
    return FasterRCNN(
        backbone,
        rpn_anchor_generator=anchors,
        rpn_pre_nms_top_n_train=600,
        rpn_pre_nms_top_n_test=300,
        rpn_post_nms_top_n_train=300,
        rpn_post_nms_top_n_test=150,
        rpn_batch_size_per_image=128,
        box_roi_pool=pool,
        box_head=TwoMLPHead(64 * 25, 128),
        box_predictor=FastRCNNPredictor(128, classes + 1),
        box_batch_size_per_image=128,
        **common,
    )
