"""Branches: weights shared, fields apart, each with the objects of its range, merged in detection."""

import copy
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from torchvision.models import resnet18
from torchvision.models.detection.backbone_utils import BackboneWithFPN

from detbalance import Recipe, attach, recipes
from detbalance.adapters.stage import StageLoss
from detbalance.backbones import Trident
from detbalance.backbones.trident import TridentConv
from detbalance.detectors import build
from detbalance.necks import PANet

DETECTORS = ("retinanet", "fcos", "faster_rcnn")
SIZE = (64, 96)
SIDE = math.sqrt(64 * 96)
IMAGES = [torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(i)) for i in range(2)]
BOXES = torch.tensor([[4.0, 4, 14, 14], [20, 8, 40, 28], [30, 4, 90, 60]])
TARGETS = [
    {"boxes": BOXES, "labels": torch.tensor([1, 2, 3])},
    {"boxes": BOXES[:0], "labels": torch.zeros(0, dtype=torch.long)},
]
NOTHING = Trident(dilations=(1,), ranges=None)


def detector(name, trident=None, **options):
    torch.manual_seed(0)
    model = build(name, classes=3, image_size=SIZE)
    return model if trident is None else attach(model, Recipe(name="trident", backbone=trident, **options))


def seen(monkeypatch):
    """What the heads are told their candidates are matched to."""
    found, forward = [], StageLoss.forward
    monkeypatch.setattr(StageLoss, "forward", lambda self, samples: found.append(samples) or forward(self, samples))
    return found


def naive(layer, x, dilation):
    """A convolution of 3 x 3 whose nine taps are read one by one."""
    padded = F.pad(x, (dilation,) * 4)
    height, width = x.shape[-2:]
    taps = [
        torch.einsum(
            "nchw,dc->ndhw",
            padded[:, :, i * dilation : i * dilation + height, j * dilation : j * dilation + width],
            layer.weight[:, :, i, j],
        )
        for i in range(3)
        for j in range(3)
    ]
    return sum(taps)


def test_a_convolution_of_three_dilations_shares_its_weights():
    backbone = Trident()(build("retinanet", classes=2).backbone).double()
    (layer,) = [m for m in backbone.modules() if isinstance(m, TridentConv)]
    x = torch.randn(6, layer.in_channels, 7, 5, dtype=torch.float64)
    expected = [naive(layer, part, d) for part, d in zip(x.chunk(3), (1, 2, 3))]
    torch.testing.assert_close(layer(x), torch.cat(expected))
    mine = torch.autograd.grad(layer(x).square().sum(), layer.weight)[0]
    theirs = torch.autograd.grad(torch.cat(expected).square().sum(), layer.weight)[0]
    torch.testing.assert_close(mine, theirs)


def test_the_last_stage_of_a_resnet_is_dilated_but_for_its_strides():
    network = resnet18(weights=None)
    backbone = BackboneWithFPN(network, {"layer3": "0", "layer4": "1"}, [256, 512], 8)
    names = list(backbone.state_dict())
    changed = Trident()(backbone)
    assert list(changed.state_dict()) == names
    found = [n for n, m in changed.named_modules() if isinstance(m, TridentConv)]
    assert found == ["body.layer4.0.conv2", "body.layer4.1.conv1", "body.layer4.1.conv2"]


@pytest.mark.parametrize("name", ["retinanet", "faster_rcnn"])
def test_one_branch_of_dilation_one_is_the_detector_as_it_is(name):
    plain, same = attach(detector(name), Recipe(name="baseline")), detector(name, NOTHING)
    assert list(plain.state_dict()) == list(same.state_dict())
    for model in (plain.train(), same.train()):
        torch.manual_seed(1)
        model.losses = model(IMAGES, TARGETS)
    for key, value in plain.losses.items():
        torch.testing.assert_close(same.losses[key], value)
    for a, b in zip(plain.eval()(IMAGES), same.eval()(IMAGES)):
        assert all(a[key].equal(b[key]) for key in a)


@pytest.mark.parametrize("name", DETECTORS)
def test_each_branch_learns_the_objects_of_its_range(name, monkeypatch):
    found = seen(monkeypatch)
    trident = Trident(ranges=((0, 20 / SIDE), (15 / SIDE, 30 / SIDE), (25 / SIDE, math.inf)))
    model = detector(name, trident).train()
    losses = model(IMAGES, TARGETS)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    valid = {0: {0, 1}, 2: {1}, 4: {2}}  # branch by branch, two images each
    for samples in found:
        assert int(samples.image.max()) == 5
        positive = samples.positive
        for image in range(6):
            objects = set(samples.matched[positive & (samples.image == image)].tolist())
            assert objects <= valid.get(image, set()), (name, image)
        assert positive.any()
    regions = found[-1] if name.endswith("rcnn") else None
    if regions is not None:  # proposals beyond the range take no part, be they background
        side = (regions.boxes[:, 2:] - regions.boxes[:, :2]).prod(1).sqrt()
        low, high = (torch.tensor(x)[regions.image // 2] for x in zip(*trident.ranges))
        assert ((side >= low * SIDE - 0.01) & (side <= high * SIDE + 0.01))[regions.image % 2 == 0].all()


def test_anchors_of_and_near_invalid_objects_are_ignored(monkeypatch):
    found = seen(monkeypatch)
    model = detector("retinanet", Trident(dilations=(1,), ranges=((0, 1),))).train()
    target = {**TARGETS[0], "valid": torch.tensor([True, False, True])}
    model(IMAGES[:1], [target])
    (samples,) = found
    overlap = torch.tensor([[iou(box, BOXES[1]) for box in samples.boxes.tolist()]])
    assert overlap.max() <= 0.3
    assert set(samples.matched[samples.positive].tolist()) == {0, 2}


def iou(box, other):
    low = [max(a, float(b)) for a, b in zip(box[:2], other[:2])]
    high = [min(a, float(b)) for a, b in zip(box[2:], other[2:])]
    shared = max(0, high[0] - low[0]) * max(0, high[1] - low[1])
    area = (box[2] - box[0]) * (box[3] - box[1]) + float((other[2:] - other[:2]).prod())
    return shared / (area - shared)


@pytest.mark.parametrize("name", ["retinanet", "faster_rcnn"])
def test_detection_merges_the_branches_within_their_ranges(name):
    trident = Trident(ranges=((0, 0.3), (0.3, 0.6), (0.6, math.inf)))
    model = detector(name, trident).eval()
    scale = model.roi_heads if name.endswith("rcnn") else model
    scale.score_thresh = 0.0
    merged = model(IMAGES)
    assert len(merged) == 2
    kept = []
    for branch in range(3):
        alone = detector(name, Trident(dilations=trident.dilations, ranges=None, branch=branch)).eval()
        (alone.roi_heads if name.endswith("rcnn") else alone).score_thresh = 0.0
        kept.append(alone(IMAGES))
    for image in range(2):
        everything = set()
        for (low, high), branch in zip(trident.ranges, kept):
            for box, score in zip(branch[image]["boxes"].tolist(), branch[image]["scores"].tolist()):
                side = math.sqrt((box[2] - box[0]) * (box[3] - box[1])) / SIDE
                if low - 1e-4 <= side <= high + 1e-4:
                    everything.add((*(round(x, 1) for x in box), round(score, 3)))
        rows = zip(merged[image]["boxes"].tolist(), merged[image]["scores"].tolist())
        mine = {(*(round(x, 1) for x in box), round(score, 3)) for box, score in rows}
        assert mine
        assert len(mine - everything) <= 0.05 * len(mine)  # a rounding apart
        scores = merged[image]["scores"]
        assert scores.equal(scores.sort(descending=True).values)
        assert len(scores) <= scale.detections_per_img


def test_a_single_branch_detects_at_its_dilation():
    model = detector("retinanet", Trident(ranges=None, branch=1)).eval()
    assert all(len(level) == 2 for level in model.backbone(torch.zeros(2, 3, *SIZE)).values())
    assert len(model(IMAGES)) == 2


def test_it_goes_with_a_neck_and_is_copied_and_sent():
    model = detector("retinanet", Trident(), neck=PANet).eval()
    twins = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
    expected = model(IMAGES)
    for twin in twins:
        assert twin.transform.postprocess.args[1] is twin.transform
        for a, b in zip(twin(IMAGES), expected):
            assert all(a[key].equal(b[key]) for key in a)


def test_an_image_may_have_no_valid_object_at_all():
    model = detector("faster_rcnn", Trident(ranges=None)).train()
    target = {**TARGETS[0], "valid": torch.tensor([False] * 3), "valid_range": torch.tensor([1e4, 1e5])}
    losses = model(IMAGES[:1], [target])
    assert all(loss.isfinite() for loss in losses.values())
    assert losses["loss_box_reg"].item() == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"dilations": ()},
        {"branch": 3},
        {"iou": 2},
        {"ranges": ((0, 1),)},
        {"ranges": ((0, 0.2), (0.3, 0.5), (0.4, 2))},
        {"ranges": ((0, 0.2), (0.1, 0.5), (0.4, 0.9))},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Trident(**wrong)


@pytest.mark.parametrize("name", ["ssd", "yolov2"])
def test_a_detector_without_a_pyramid_is_refused_and_left_alone(name):
    model = detector(name)
    with pytest.raises(ValueError, match="3 x 3"):
        attach(model, Recipe(name="trident", backbone=Trident()))
    assert not hasattr(model, "recipe")


def test_the_recipes_are_for_detectors_with_a_pyramid():
    assert recipes.kinds("trident") == recipes.kinds("trident_fast") == ("dense", "rcnn")
    assert recipes.get("trident", "dense").backbone == Trident()
