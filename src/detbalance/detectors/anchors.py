"""Put other anchors into a detector."""

from __future__ import annotations

from torch import nn
from torchvision.models.detection import FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD

from ..anchor_settings import AnchorSettings

__all__ = ["set_anchors"]


def set_anchors(model: nn.Module, settings: AnchorSettings) -> None:
    """Replace the anchors of a RetinaNet, SSD or Faster R-CNN, in place. No weight changes.

    Raises ValueError for a detector that has none to replace, and for another number of them than its head predicts.

    >>> from detbalance.detectors import build
    >>> model = build("retinanet", classes=3)
    >>> set_anchors(model, AnchorSettings(detector="retinanet", sizes=((9, 12, 15), (20, 26, 33), (40, 50, 60))))
    >>> model.anchor_generator.sizes[0]
    (9, 12, 15)
    """
    kinds = {"retinanet": RetinaNet, "ssd": SSD}
    if not isinstance(model, kinds.get(settings.detector, FasterRCNN)):
        raise ValueError(f"these anchors are for {settings.detector}, and the detector is a {type(model).__name__}")
    owner = model.rpn if isinstance(model, FasterRCNN) else model
    old = owner.anchor_generator
    if settings.detector == "ssd":
        new = DefaultBoxGenerator([list(r) for r in settings.ratios], scales=list(settings.scales), clip=old.clip)
    else:
        new = AnchorGenerator(settings.sizes, (settings.ratios,) * len(settings.sizes))
    had, has = old.num_anchors_per_location(), new.num_anchors_per_location()
    if had != has:
        raise ValueError(f"expected {had} anchors a place on the levels, as the head predicts, but got {has}")
    owner.anchor_generator = new
