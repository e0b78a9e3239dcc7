"""The named recipes of the necks: which detectors take them, and that a detector's pretrained pyramid is kept."""

import pytest
import torch

from detbalance import attach, necks, recipes
from detbalance.detectors import build

NAMED = {
    "feature_hierarchy": "FeatureHierarchy",
    "panet": "PANet",
    "stdn": "STDN",
    "parallel_fpn": "ParallelFPN",
    "reconfigured_fpn": "ReconfiguredFPN",
    "zoom_out_in": "ZoomOutIn",
    "mlfpn": "MLFPN",
    "nas_fpn": "NASFPN",
    "auto_fpn": "AutoFPN",
    "bifpn": "BiFPN",
    "aug_fpn": "AugFPN",
    "dynamic_head": "DynamicHead",
}


@pytest.mark.parametrize(("name", "cls"), NAMED.items())
def test_named_recipe(name, cls):
    assert recipes.kinds(name) == ("dense", "rcnn")
    assert recipes.get(name, "dense").neck is getattr(necks, cls)
    with pytest.raises(ValueError, match=name):
        recipes.get(name, "ssd")


def test_every_neck_has_a_name():
    assert {*NAMED.values(), "FPN", "BalancedFPN"} == set(necks.__all__)


def test_laterals_of_the_detector_are_kept():
    model = build("retinanet", classes=3, image_size=(64, 96))
    weight = model.backbone.fpn.inner_blocks[0][0].weight.detach().clone()
    attach(model, recipes.feature_hierarchy("dense"))
    assert torch.equal(model.backbone.fpn.inner_blocks[0][0].weight, weight)
