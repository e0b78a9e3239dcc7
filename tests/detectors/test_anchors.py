"""Anchors put into a detector: the defaults are those it is built with, and what is labelled is what it makes."""

import numpy as np
import pytest
import torch
from torchvision.models.detection.image_list import ImageList

from detbalance.anchor_settings import AnchorSettings, default_anchors
from detbalance.detectors import build
from detbalance.detectors.anchors import set_anchors

WITH_ANCHORS = ("retinanet", "faster_rcnn", "ssd")


def generator(model):
    return model.rpn.anchor_generator if hasattr(model, "rpn") else model.anchor_generator


@pytest.mark.parametrize("size", ["nano", "small"])
@pytest.mark.parametrize("detector", WITH_ANCHORS)
def test_defaults_are_those_of_the_detector(detector, size):
    built, settings = generator(build(detector, classes=3, size=size)), default_anchors(detector, size)
    if detector == "ssd":
        assert tuple(built.scales) == settings.scales
        assert tuple(map(tuple, built.aspect_ratios)) == settings.ratios
    else:
        assert tuple(map(tuple, built.sizes)) == settings.sizes
        assert tuple(map(tuple, built.aspect_ratios)) == (settings.ratios,) * len(settings.sizes)


@pytest.mark.parametrize("detector", WITH_ANCHORS)
def test_the_preset_has_the_anchors_that_the_detector_makes(detector):
    settings = default_anchors(detector)
    preset = settings.preset((64, 128))
    model = build(detector, classes=3, image_size=(64, 128)).eval()
    set_anchors(model, settings)
    image = torch.zeros(1, 3, 64, 128)
    maps = [torch.zeros(1, 1, -(-64 // s), -(-128 // s)) for s in preset.strides]
    found = generator(model)(ImageList(image, [(64, 128)]), maps)[0].numpy()
    wanted = []
    for level in range(len(preset.strides)):
        (left, right), (top, bottom) = preset.edges(level, 0, 128), preset.edges(level, 1, 64)
        full = (left.shape[0], top.shape[1], left.shape[1])
        x1, x2 = (np.broadcast_to(x[:, None, :], full) for x in (left, right))
        y1, y2 = (np.broadcast_to(y[:, :, None], full) for y in (top, bottom))
        wanted.append(np.stack((x1, y1, x2, y2), -1).reshape(-1, 4))
    both = [a[np.lexsort(a.round(2).T)] for a in (found, np.concatenate(wanted))]
    np.testing.assert_allclose(*both, atol=2e-2)


def test_another_detector_or_another_number_is_refused():
    with pytest.raises(ValueError, match="for ssd, and the detector is a RetinaNet"):
        set_anchors(build("retinanet", classes=3), default_anchors("ssd"))
    few = AnchorSettings(detector="retinanet", sizes=((16,), (32,), (64,)))
    with pytest.raises(ValueError, match=r"expected \[9, 9, 9\] anchors a place"):
        set_anchors(build("retinanet", classes=3), few)
