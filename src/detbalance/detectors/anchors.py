"""Put other anchors into a detector."""

from __future__ import annotations

from torch import nn
from torchvision.models.detection import FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD

from ..anchor_settings import AnchorSettings

__all__ = ["generator_of", "place_anchors", "prepare_anchors", "set_anchors"]


def set_anchors(model: nn.Module, settings: AnchorSettings) -> None:
    """Replace the anchors of a RetinaNet, SSD or Faster R-CNN, in place. No weight changes.

    Raises ValueError for a detector that has none to replace, and for another number of them than its head predicts.

    >>> from detbalance.detectors import build
    >>> model = build("retinanet", classes=3)
    >>> set_anchors(model, AnchorSettings(detector="retinanet", sizes=((9, 12, 15), (20, 26, 33), (40, 50, 60))))
    >>> model.anchor_generator.sizes[0]
    (9, 12, 15)
    """
    place_anchors(model, prepare_anchors(model, settings))


def prepare_anchors(model: nn.Module, settings: AnchorSettings) -> nn.Module:
    """What `set_anchors` puts into the model, which stays as it is. Raises as that does."""
    wanted = {"retinanet": RetinaNet, "ssd": SSD}.get(settings.detector, FasterRCNN)
    if not isinstance(model, wanted):
        raise ValueError(f"these anchors are for {settings.detector}, and the detector is a {type(model).__name__}")
    old = generator_of(model)
    if settings.detector == "ssd":
        ratios, scales = [list(level) for level in settings.ratios], list(settings.scales)
        new = DefaultBoxGenerator(ratios, scales=scales, steps=old.steps, clip=old.clip)
    else:
        new = AnchorGenerator(settings.sizes, (settings.ratios,) * len(settings.sizes))
    had, has = old.num_anchors_per_location(), new.num_anchors_per_location()
    if had != has:
        raise ValueError(f"expected {had} anchors a place on the levels, as the head predicts, but got {has}")
    return new


def place_anchors(model: nn.Module, generator: nn.Module) -> None:
    """The second half of `set_anchors`."""
    _owner(model).anchor_generator = generator


def generator_of(model: nn.Module) -> nn.Module:
    """The detector's anchor generator."""
    return _owner(model).anchor_generator


def _owner(model: nn.Module) -> nn.Module:
    return getattr(model, "rpn", model)
