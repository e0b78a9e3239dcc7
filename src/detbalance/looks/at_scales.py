"""Detection in an image pyramid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from ..common import require
from ..data.annotations import Annotations
from ..data.images import DetectionImages
from ..prediction import predict_pyramid, refuse_scales
from ..taxonomy import Imbalance
from ..valid_ranges import check_ranges

__all__ = ["AtScales"]


@dataclass(frozen=True, kw_only=True)
class AtScales:
    """Looks at each image at several scales and keeps, of the detections that are one object, the best: small objects
    are seen enlarged, large ones as a whole. With `ranges` each scale tells the objects of its own sizes alone.

    Singh and Davis, section 5; without ranges, multi-scale testing. The paper merges by soft-NMS, this by non-maximum
    suppression. See `prediction.predict_pyramid`, which it calls. Time grows with the squares of the scales.

    Shapes: images -> a dict each: boxes (D, 4), labels (D,), scores (D,).
    Identity: the scale 1 alone is the plain detection.
    Errors: ValueError for scales that are not above 0, ranges that leave sizes to no scale, and for an SSD.

    >>> AtScales(scales=(2.0, 1.0), ranges=((0.0, 0.2), (0.1, 1.0))).iou
    0.5
    """

    scales: tuple[float, ...] = (0.75, 1.0, 1.5)
    """factors on the training size"""
    ranges: tuple[tuple[float, float], ...] | None = None
    """of each scale, what a detection's side over the image's must be to count; None: all"""
    iou: float = 0.5
    """above which two detections of a class are one"""

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.OBJECT_SCALE,)
    paper: ClassVar[str] = (
        "Singh, Davis, An Analysis of Scale Invariance in Object Detection: SNIP, CVPR 2018, arXiv:1711.08189"
    )

    def __post_init__(self) -> None:
        require(len(self.scales) > 0 and min(self.scales) > 0, "scales", "one or more, above 0", self.scales)
        require(0 <= self.iou <= 1, "iou", "in [0, 1]", self.iou)
        if self.ranges is not None:
            check_ranges(self.ranges, len(self.scales))

    def check(self, model: nn.Module) -> None:
        """Raise ValueError for a detector that cannot look so: before it is trained, and not after."""
        refuse_scales(model)

    def __call__(
        self,
        model: nn.Module,
        data: Annotations,
        *,
        image_size: tuple[int, int],
        batch_size: int = 16,
        device: str | torch.device = "cpu",
        progress: Callable[[int, int], None] | None = None,
        images: DetectionImages | None = None,
    ) -> list[dict[str, np.ndarray]]:
        how = {"scales": self.scales, "ranges": self.ranges, "iou": self.iou, "images": images}
        options = {"batch_size": batch_size, "device": device, "progress": progress}
        return predict_pyramid(model, data, image_size=image_size, **how, **options)
