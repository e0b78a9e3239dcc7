"""Guided anchoring: anchors where objects are, of the shape that they have."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..taxonomy import Imbalance
from ._guidance import FeatureAdaption, Guidance, Guide, one_anchor
from ._guided_anchors import GuidedAnchors
from ._wrapped import WrappedHead, flatten

__all__ = ["GuidedAnchoring", "GuidedProposals"]

_NOWHERE = -1e4
"""logit of what is filtered out"""


class GuidedAnchoring(WrappedHead):
    """Learns where anchors are worth laying and of what shape: there is one where an object is, however slender, and
    none in the background, instead of the same nine everywhere.

    Wang et al., in RetinaNet; review, section 6.3. On the towers of RetinaNet's head:

        location: a 1x1 convolution of the class tower, with focal loss (gamma 2, alpha 0.25)
        shape: a 1x1 convolution of the box tower, (dw, dh): w = side e^dw, h = side e^dh of the level's square, with
            the bounded IoU loss (beta 0.2) of 1 - min(w / w_g, w_g / w) and the same of h
        adaption: a deformable 3x3 convolution of each tower by offsets from the shape, before the last layers

    The location of an object is the middle of it (`center` of its sides) on the level of its size; what is near (within
    `ignore`, and there on the next finer and coarser levels) is ignored. Which object a place learns the shape of, is
    decided by the best IoU over nine sampled shapes. In detection there are anchors where the location is at least
    `threshold`; in training everywhere. The anchors are not differentiated.

    The losses `location` and `shape` (weights 1 and 0.1) are divided by their positives in the batch. From the authors'
    code are the weight of a tenth for background in the location loss, the groups of the deformable convolution, and
    `ignore` on adjacent levels. The side of a level's square is the detector's smallest anchor there (in the paper 8
    strides, in the authors' RetinaNet 4). Of an object that no sampled shape overlaps by `positive`, the best place
    learns nevertheless. The layers of one anchor start as the mean of those of all anchors; the adaption starts by He's
    rule, as the authors' 0.01 would leave small networks next to nothing.

    Args:
        head: RetinaNet's, or one like it.
        guidance: the settings; None: as they are by default.

    Shapes: a list of (B, C, H, W) maps -> `cls_logits` (B, N, K), `bbox_regression` (B, N, 4), one anchor a place.

    Checked by: a shape of 0 is the square; the loss of an anchor of the object's shape is 0.

    >>> from torchvision.models.detection.anchor_utils import AnchorGenerator
    >>> from torchvision.models.detection.image_list import ImageList
    >>> from torchvision.models.detection.retinanet import RetinaNetHead
    >>> head, maps = GuidedAnchoring(RetinaNetHead(16, 3, 5)), [torch.zeros(1, 16, 1, 2)]
    >>> anchors = head.anchors(AnchorGenerator(((32, 40),), ((0.5, 1.0, 2.0),)))
    >>> head(maps)["cls_logits"].shape, anchors(ImageList(torch.zeros(1, 3, 8, 16), [(8, 16)]), maps)
    (torch.Size([1, 2, 5]), [tensor([[-16., -16.,  16.,  16.],
            [ -8., -16.,  24.,  16.]])])
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.LOCATION, Imbalance.FOREGROUND_BACKGROUND)
    paper: ClassVar[str] = (
        "Wang, Chen, Yang, Loy, Lin, Region Proposal by Guided Anchoring, CVPR 2019, arXiv:1901.03278"
    )

    def __init__(self, head: nn.Module, *, guidance: Guidance | None = None) -> None:
        super().__init__(head)
        self.guidance = guidance = guidance or Guidance()
        classes, boxes = self.classification_head, self.regression_head
        classes.cls_logits, classes.num_anchors = one_anchor(classes.cls_logits, classes.num_classes), 1
        boxes.bbox_reg = one_anchor(boxes.bbox_reg, 4)
        channels = classes.cls_logits.in_channels
        self.guide = Guide(channels)
        self.class_adaption = FeatureAdaption(channels, guidance.groups)
        self.box_adaption = FeatureAdaption(channels, guidance.groups)

    def anchors(self, generator: nn.Module) -> GuidedAnchors:
        """What takes the place of the detector's anchor generator."""
        return GuidedAnchors(self, [min(sizes) for sizes in generator.sizes], self.guidance)

    def forward(self, features: list[Float[Tensor, "B C H W"]]) -> dict[str, Tensor]:
        """The predictions of all levels."""
        classes, boxes = self.classification_head, self.regression_head
        towers = [(classes.conv(feature), boxes.conv(feature)) for feature in features]
        self.predicted = [self.guide(*pair) for pair in towers]
        logits, deltas = [], []
        for (first, second), (location, shape) in zip(towers, self.predicted):
            seen = flatten(classes.cls_logits(self.class_adaption(first, shape)), classes.num_classes)
            logits.append(seen if self.training else seen.masked_fill(self._empty(location), _NOWHERE))
            deltas.append(flatten(boxes.bbox_reg(self.box_adaption(second, shape)), 4))
        return {"cls_logits": torch.cat(logits, 1), "bbox_regression": torch.cat(deltas, 1)}

    def _empty(self, location: Tensor) -> Tensor:
        return flatten(location, 1).float().sigmoid() < self.guidance.threshold

    def extra_repr(self) -> str:
        """The settings."""
        return f"guidance={self.guidance}"


class GuidedProposals(nn.Module):
    """Guided anchoring in a proposal network: `GuidedAnchoring`, with location, shape and adaption on its one tower.

    Args:
        head: torchvision's RPNHead, or one like it (`conv`, `cls_logits`, `bbox_pred`).
        guidance: the settings; None: as by default, but that a place learns the shape of an object from an IoU of 0.7.

    Shapes: a list of (B, C, H, W) maps -> lists of (B, 1, H, W) logits and (B, 4, H, W) codes.
    """

    def __init__(self, head: nn.Module, *, guidance: Guidance | None = None) -> None:
        super().__init__()
        for name in ("conv", "cls_logits", "bbox_pred"):
            if not hasattr(head, name):
                raise TypeError(f"expected a proposal network's head, with a {name}, but got {type(head).__name__}")
        self.guidance = guidance = guidance or Guidance(positive=0.7)
        self.conv = head.conv
        self.cls_logits, self.bbox_pred = one_anchor(head.cls_logits, 1), one_anchor(head.bbox_pred, 4)
        channels = self.cls_logits.in_channels
        self.guide, self.adaption = Guide(channels), FeatureAdaption(channels, guidance.groups)

    def anchors(self, generator: nn.Module) -> GuidedAnchors:
        """What takes the place of the network's anchor generator."""
        return GuidedAnchors(self, [min(sizes) for sizes in generator.sizes], self.guidance)

    def forward(self, features: list[Float[Tensor, "B C H W"]]) -> tuple[list[Tensor], list[Tensor]]:
        """The predictions of all levels."""
        towers = [self.conv(feature) for feature in features]
        self.predicted = [self.guide(tower, tower) for tower in towers]
        seen = [self.adaption(tower, shape) for tower, (_, shape) in zip(towers, self.predicted)]
        logits = [self.cls_logits(x) for x in seen]
        if not self.training:
            empty = [location.float().sigmoid() < self.guidance.threshold for location, _ in self.predicted]
            logits = [x.masked_fill(none, _NOWHERE) for x, none in zip(logits, empty)]
        return logits, [self.bbox_pred(x) for x in seen]

    def extra_repr(self) -> str:
        """The settings."""
        return f"guidance={self.guidance}"
