"""Anchors put into a detector: the defaults are those it is built with, and what is labelled is what it makes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.models.detection.image_list import ImageList

from detbalance import Recipe, attach, recipes
from detbalance.anchor_settings import AnchorSettings, default_anchors
from detbalance.data.annotations import Annotations
from detbalance.detectors import build
from detbalance.detectors.anchors import set_anchors
from detbalance.runs import Settings, claim, describe, load_model

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


@pytest.mark.parametrize(("detector", "kind"), [("retinanet", "dense"), ("faster_rcnn", "rcnn"), ("ssd", "ssd")])
def test_a_file_of_anchors_is_a_recipe(detector, kind, tmp_path):
    own = default_anchors(detector)
    if detector == "ssd":
        made = replace(own, scales=(0.05, 0.1, 0.2, 0.4, 0.9))
    else:
        made = replace(own, sizes=tuple(tuple(s - 3 for s in level) for level in own.sizes))
    path = str(made.save(tmp_path / "my-anchors.json"))
    assert recipes.get(path, kind) == Recipe(name="my-anchors", anchors=made)
    both = recipes.get(f"{path}+balanced_l1", kind)
    assert both.anchors == made
    assert both.stages.box_loss == recipes.get("balanced_l1", kind).stages.box_loss
    for other in {"dense", "rcnn", "ssd", "yolo"} - {kind}:
        with pytest.raises(ValueError, match=f"has anchors for {detector}"):
            recipes.get(path, other)
    model = attach(build(detector, classes=3, image_size=(64, 96)), both)
    plain = build(detector, classes=3, image_size=(64, 96))
    assert model.state_dict().keys() == plain.state_dict().keys()
    if detector == "ssd":
        assert generator(model).scales == list(made.scales)
    else:
        assert generator(model).sizes == made.sizes
    boxes = torch.tensor([[10.0, 10, 34, 34], [40, 20, 72, 52]])
    losses = model.train()([torch.rand(3, 64, 96)], [{"boxes": boxes, "labels": torch.tensor([1, 2])}])
    assert sum(losses.values()).isfinite()
    assert len(model.eval()([torch.rand(3, 64, 96)])) == 1


def test_a_run_knows_its_anchors(tmp_path):
    made = AnchorSettings(detector="retinanet", sizes=((9, 12, 15), (20, 26, 33), (40, 50, 60)))
    data = Annotations.from_arrays(
        classes=["cat"], sizes=[(96, 64)], image=[0], label=[1], boxes=[[10, 10, 40, 40]], file_names=["a.png"]
    )
    settings, recipe = Settings(image_size=(64, 96)), Recipe(name="mine", anchors=made)
    claim(tmp_path, describe(data, recipe, settings), resume=True)
    model = build("retinanet", classes=1, image_size=(64, 96))
    torch.save({"model": model.state_dict(), "classes": ["cat"]}, tmp_path / "model.pt")
    assert load_model(tmp_path)[0].anchor_generator.sizes == made.sizes
    claim(tmp_path, describe(data, recipe, settings), resume=True)  # the same again
    with pytest.raises(ValueError, match="differs in repr"):
        claim(tmp_path, describe(data, Recipe(name="mine"), settings), resume=True)
