"""Detectors built from torchvision parts, in sizes nano, small, base and large."""

from __future__ import annotations

from torch import nn

from .backbone import SIZES
from .cascade_rcnn import build_cascade_rcnn
from .faster_rcnn import build_faster_rcnn
from .fcos import build_fcos
from .retinanet import build_retinanet
from .ssd import build_ssd
from .yolov2 import build_yolov2

__all__ = [
    "DETECTORS",
    "SIZES",
    "build",
    "build_cascade_rcnn",
    "build_faster_rcnn",
    "build_fcos",
    "build_retinanet",
    "build_ssd",
    "build_yolov2",
]

DETECTORS = {
    "retinanet": build_retinanet,
    "fcos": build_fcos,
    "ssd": build_ssd,
    "yolov2": build_yolov2,
    "faster_rcnn": build_faster_rcnn,
    "cascade_rcnn": build_cascade_rcnn,
}


def build(
    name: str,
    *,
    classes: int,
    size: str = "nano",
    image_size: tuple[int, int] = (192, 256),
    weights: str | None = None,
) -> nn.Module:
    """A detector by name.

    Args:
        name: one of `DETECTORS`: "retinanet", "fcos", "ssd", "yolov2", "faster_rcnn" or
            "cascade_rcnn".
        classes: number of object classes, the background not counted.
        size: "nano" (about 1 million parameters, for two CPU cores), "small" (ResNet-18), "base" (-50), "large" (-101).
        image_size: height and width that images are scaled into, keeping their shape (SSD: stretched to).
        weights: pretrained weights of the ResNet ("DEFAULT"), or None.

    Raises ValueError for a name or size that does not exist.
    """
    if name not in DETECTORS:
        raise ValueError(f"expected detector {', '.join(DETECTORS)} but got {name!r}")
    return DETECTORS[name](classes=classes, size=size, image_size=image_size, weights=weights)
