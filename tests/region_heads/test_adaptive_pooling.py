"""Adaptive feature pooling against a naive reading of the paper, region by region and level by level."""

import pytest
import torch
from torch import nn
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign, roi_align

from detbalance import Recipe, attach, recipes
from detbalance.detectors import build
from detbalance.necks import PANet
from detbalance.region_heads import AdaptivePooling
from detbalance.types import RegionParts

SHAPES = [(64, 96), (60, 80)]
BOXES = [torch.tensor([[3.0, 4, 20, 30], [0, 0, 96, 64], [50, 20, 53, 24]]).double(), torch.zeros(0, 4).double()]


def maps(seed=0):
    g = torch.Generator().manual_seed(seed)
    sizes = {"0": (16, 24), "1": (8, 12), "2": (4, 6), "pool": (2, 3)}
    return {n: torch.randn(2, 5, *s, generator=g).double().requires_grad_() for n, s in sizes.items()}


def parts(head):
    pool = MultiScaleRoIAlign(["0", "1", "2"], 3, 2)
    return RegionParts(pool, head.double(), nn.Identity(), 5)


def layer_of(head, level, name):
    return getattr(head, name) if level == 0 else head.further[level - 1]


@pytest.mark.parametrize("fuse", ["max", "sum"])
def test_against_the_paper(fuse):
    torch.manual_seed(0)
    new = AdaptivePooling(fuse=fuse)(parts(TwoMLPHead(5 * 9, 7)))
    for p in new.head.parameters():
        nn.init.normal_(p)
    features = maps()
    found = new.head(new.pool(features, BOXES, SHAPES))
    expected = []
    for image, boxes in enumerate(BOXES):
        for box in boxes:
            answers = []
            for level, (name, stride) in enumerate((("0", 4), ("1", 8), ("2", 16))):
                grid = roi_align(features[name][image : image + 1], [box[None]], (3, 3), 1 / stride, 2)
                layer = layer_of(new.head, level, "fc6")
                answers.append((layer.weight @ grid.flatten() + layer.bias).clamp(min=0))
            total = answers[0]
            for answer in answers[1:]:
                total = torch.maximum(total, answer) if fuse == "max" else total + answer
            expected.append((new.head.fc7.weight @ total + new.head.fc7.bias).clamp(min=0))
    expected = torch.stack(expected)
    torch.testing.assert_close(found, expected)
    weights = torch.randn(expected.shape).double()
    leaves = [*(features[n] for n in "012"), *new.head.parameters()]
    ours = torch.autograd.grad((found * weights).sum(), leaves)
    for a, b in zip(ours, torch.autograd.grad((expected * weights).sum(), leaves)):
        torch.testing.assert_close(a, b)
    assert all(g.abs().sum() > 0 for g in ours)


def test_a_head_of_convolutions_is_fused_after_the_first():
    torch.manual_seed(0)
    old = FastRCNNConvFCHead((5, 3, 3), [6, 6], [7], norm_layer=nn.BatchNorm2d)
    new = AdaptivePooling(fuse="sum")(parts(old))
    new.head.eval()
    grids = torch.randn(4, 3, 5, 3, 3).double()
    fused = sum(layer_of(new.head, i, "0")(grids[:, i]) for i in range(3))
    expected = torch.nn.Sequential(*list(old)[1:])(fused)
    torch.testing.assert_close(new.head(grids), expected)


def test_a_sequence_of_layers_is_activated_before_it_is_fused():
    torch.manual_seed(0)
    old = nn.Sequential(nn.Flatten(), nn.Linear(45, 6), nn.ReLU(), nn.Linear(6, 2))
    new = AdaptivePooling(fuse="sum")(parts(old))
    grids = torch.randn(4, 3, 5, 3, 3).double()
    fused = sum(layer_of(new.head, i, "1")(grids[:, i].flatten(1)).clamp(min=0) for i in range(3))
    torch.testing.assert_close(new.head(grids), old[3](fused))


def test_where_all_levels_show_the_same_it_is_the_head_as_it_was():
    torch.manual_seed(0)
    old = TwoMLPHead(5 * 9, 7).double()
    grid = torch.randn(4, 5, 3, 3).double()
    expected = old(grid)
    head = AdaptivePooling()(parts(old)).head
    torch.testing.assert_close(head(grid[:, None].expand(-1, 3, -1, -1, -1)), expected)


def test_panet_whole():
    recipe = recipes.get("panet+adaptive_pooling", "rcnn")
    model = attach(build("faster_rcnn", classes=2, image_size=(64, 96)), recipe)
    assert isinstance(model.backbone.fpn, PANet)
    assert len(model.roi_heads.box_head.further) == 2
    assert recipes.kinds("adaptive_pooling") == ("rcnn",)


@pytest.mark.parametrize(
    ("pool", "head", "wrong"),
    [
        (nn.Identity(), TwoMLPHead(45, 7), "MultiScaleRoIAlign of two or more levels"),
        (MultiScaleRoIAlign(["0"], 3, 2), TwoMLPHead(45, 7), "MultiScaleRoIAlign of two or more levels"),
        (MultiScaleRoIAlign(["0", "1"], 3, 2), nn.Identity(), "TwoMLPHead or a Sequential"),
        (MultiScaleRoIAlign(["0", "1"], 3, 2), nn.Sequential(nn.Flatten()), "a layer that learns"),
    ],
)
def test_what_is_refused(pool, head, wrong):
    with pytest.raises(ValueError, match=wrong):
        AdaptivePooling()(RegionParts(pool, head, nn.Identity(), 5))


def test_settings_out_of_range():
    with pytest.raises(ValueError, match="fuse"):
        AdaptivePooling(fuse="mean")


def test_two_that_pool_cannot_both_be():
    with pytest.raises(ValueError, match="MultiScaleRoIAlign"):
        attach(
            build("faster_rcnn", classes=2),
            Recipe(name="twice", region=(AdaptivePooling(), AdaptivePooling(fuse="sum"))),
        )
