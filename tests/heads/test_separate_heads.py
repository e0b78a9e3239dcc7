"""A head for each level: the same as before at first, weights of its own, and MS-CNN's proposal layers."""

import copy
import pickle

import pytest
import torch
from torchvision.models.detection.rpn import RPNHead

from detbalance import Recipe, Stage, attach, recipes
from detbalance.detectors import build
from detbalance.heads import SeparateHeads
from detbalance.necks import FeatureHierarchy

IMAGES = [torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(i)) for i in range(2)]
TARGETS = [
    {"boxes": torch.tensor([[10.0, 10, 40, 44], [42, 20, 60, 32]]), "labels": torch.tensor([1, 2])},
    {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)},
]
SLOTS = {"faster_rcnn": "proposal_head", "retinanet": "head"}


def detectors(name):
    torch.manual_seed(0)
    plain = build(name, classes=3, image_size=(64, 96))
    return plain, attach(copy.deepcopy(plain), Recipe(name="x", **{SLOTS[name]: SeparateHeads}))


def head_of(model):
    return model.rpn.head if hasattr(model, "rpn") else model.head


@pytest.mark.parametrize("name", SLOTS)
def test_before_the_first_step_it_is_the_head_as_it_was(name):
    plain, model = detectors(name)
    maps = [torch.randn(1, 64, *size) for size in ((8, 12), (4, 6), (2, 3))]
    old, new = head_of(plain)(maps), head_of(model)(maps)
    pairs = zip(old.values(), new.values()) if isinstance(old, dict) else zip((*old[0], *old[1]), (*new[0], *new[1]))
    assert all(a.equal(b) for a, b in pairs)
    assert set(plain.state_dict()) < set(model.state_dict())


@pytest.mark.parametrize("name", SLOTS)
def test_each_level_has_weights_of_its_own(name):
    _, model = detectors(name)
    head = head_of(model)
    assert len(head.further) == 2
    maps = [torch.randn(1, 64, *size) for size in ((8, 12), (4, 6), (2, 3))]
    before = head(maps)
    with torch.no_grad():
        for p in head.further[0].parameters():
            p.add_(1.0)
    after = head(maps)
    if isinstance(before, dict):
        places = (96 * 9, 24 * 9, 6 * 9)
        tables = [torch.split(x["cls_logits"], places, 1) for x in (before, after)]
    else:
        tables = before[0], after[0]
    assert [a.equal(b) for a, b in zip(*tables)] == [True, False, True]
    losses = model.train()(IMAGES, copy.deepcopy(TARGETS))
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    twins = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
    expected = model.eval()(IMAGES)
    for twin in twins:
        for p in model.parameters():
            p.data.zero_()
        for a, b in zip(twin.eval()(IMAGES), expected):
            assert all(a[key].equal(b[key]) for key in a)


@pytest.mark.parametrize("name", SLOTS)
def test_priors_reach_every_level(name):
    slot = "proposals" if name == "faster_rcnn" else "stages"
    recipe = Recipe(name="x", **{SLOTS[name]: SeparateHeads, slot: Stage(prior=0.3)})
    head = head_of(attach(build(name, classes=3), recipe))
    for one in (head, *head.further):
        layer = getattr(one, "classification_head", one).cls_logits
        torch.testing.assert_close(layer.bias.sigmoid(), torch.full_like(layer.bias, 0.3))


def test_ms_cnn():
    recipe = recipes.get("ms_cnn", "rcnn")
    assert recipes.kinds("ms_cnn") == ("rcnn",)
    torch.manual_seed(0)
    model = attach(build("faster_rcnn", classes=3, image_size=(64, 96)).train(), recipe)
    assert isinstance(model.backbone.fpn, FeatureHierarchy)
    optimizer, totals = torch.optim.AdamW(model.parameters(), lr=1e-3), []
    for _ in range(6):
        total = sum(model(IMAGES, copy.deepcopy(TARGETS)).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < 0.9 * totals[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert all(loss.isfinite() for loss in model(IMAGES, copy.deepcopy(TARGETS)).values())


def test_what_is_refused():
    with pytest.raises(ValueError, match="expected 2 maps, one for each head, but got 1"):
        SeparateHeads(RPNHead(4, 3), levels=2)([torch.zeros(1, 4, 8, 8)])
    with pytest.raises(ValueError, match="levels"):
        SeparateHeads(RPNHead(4, 3), levels=0)
    with pytest.raises(ValueError, match="proposal_head"):
        attach(build("retinanet", classes=2), Recipe(name="x", proposal_head=SeparateHeads))
