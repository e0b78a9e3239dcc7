"""MetaAnchor: the functions of prior boxes one by one, their order, other boxes in detection, and RetinaNet with it."""

import copy
import math
import pickle
from dataclasses import asdict
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNetHead

from detbalance import Recipe, Stage, attach, recipes
from detbalance.anchor_settings import default_anchors
from detbalance.atomic import write_json
from detbalance.detectors import build
from detbalance.heads import MetaAnchor
from detbalance.priors import preset_of
from detbalance.runs import Settings, build_model, load_model

VARIANTS = pytest.mark.parametrize("data_dependent", [False, True])


def head_of(**options):
    torch.manual_seed(0)
    head = MetaAnchor(RetinaNetHead(8, 3, 4), **options)
    for p in head.parameters():
        nn.init.normal_(p, std=0.3)
    return head


def maps():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, 8, h, w, generator=generator) for h, w in ((4, 6), (2, 3))]


def batch():
    """Three images; the second has no objects."""
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(3, 64, 96, generator=generator) for _ in range(3)]
    box = torch.tensor([[10.0, 10, 42, 42], [50, 20, 82, 52]])
    some = {"boxes": box, "labels": torch.tensor([1, 3])}
    return images, [some, {"boxes": box[:0], "labels": torch.zeros(0, dtype=torch.long)}, some]


def retinanet(**options):
    torch.manual_seed(0)
    recipe = Recipe(name="x", head=partial(MetaAnchor, **options)) if options else recipes.meta_anchor("dense")
    return attach(build("retinanet", classes=3, image_size=(64, 96)), recipe)


# ---- the functions --------------------------------------------------------------------------------------------------


def naive(layer, towers, priors, columns):
    """Image by image, level by level, prior box by prior box, from the equations; a table in torchvision's order."""
    images = []
    for image in range(len(towers[0])):
        rows = []
        for tower in towers:
            x = tower[image : image + 1]
            predicted = []
            for prior in priors:
                inner = layer.first.weight @ prior
                if layer.of_features is not None:
                    inner = inner + layer.of_features.weight @ x[0].flatten(1).mean(1)
                change = layer.second.weight @ inner.clamp(min=0) / math.sqrt(128)
                weight = layer.weight + change[: layer.weight.numel()].view_as(layer.weight)
                predicted.append(conv2d(x, weight, layer.bias + change[-columns:], padding=1)[0])
            for i in range(tower.shape[2]):
                for j in range(tower.shape[3]):
                    rows += [p[:, i, j] for p in predicted]
        images.append(torch.stack(rows))
    return torch.stack(images)


@VARIANTS
def test_predictions_are_those_of_the_equations(data_dependent):
    head = head_of(data_dependent=data_dependent, ratios=(0.5, 3.0), scales=(1.0, 1.5)).double()
    inputs = [m.double() for m in maps()]
    outputs = head(inputs)
    priors = torch.tensor(
        [[math.log(s * math.sqrt(r)), math.log(s / math.sqrt(r))] for r in (0.5, 3.0) for s in (1.0, 1.5)],
        dtype=torch.float64,
    )
    torch.testing.assert_close(head.priors().double(), priors, rtol=1e-6, atol=1e-6)
    priors = head.priors().double()  # rounded as they are
    for name, part, layer, columns in (
        ("cls_logits", head.classification_head, head.classification_head.cls_logits, 4),
        ("bbox_regression", head.regression_head, head.regression_head.bbox_reg, 4),
    ):
        expected = naive(layer, [part.conv(m) for m in inputs], priors, columns)
        torch.testing.assert_close(outputs[name], expected)
        parameters = list(layer.parameters())
        share = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        for one, other in zip(*(torch.autograd.grad((y * share).sum(), parameters) for y in (outputs[name], expected))):
            torch.testing.assert_close(one, other)


def test_the_square_has_the_shared_function():
    head = head_of(scales=(1.0,), ratios=(1.0,))
    tower = head.classification_head.conv(maps()[0])
    layer = head.classification_head.cls_logits
    (found,) = layer([tower], head.priors())
    torch.testing.assert_close(found, conv2d(tower, layer.weight, layer.bias, padding=1))
    other = head_of(scales=(1.0,), ratios=(1.2,))
    assert not torch.allclose(other(maps())["cls_logits"], head(maps())["cls_logits"], atol=0.1)


def test_images_have_functions_of_their_own():
    """What one image holds changes the function by which the other places of that image are judged, and no other's."""
    for data_dependent in (False, True):
        head = head_of(data_dependent=data_dependent, scales=(1.0,), ratios=(1.0,))
        layer, tower = head.classification_head.cls_logits, torch.randn(2, 8, 6, 6)
        changed = tower.clone()
        changed[0, :, 5, 5] += 9
        (before,), (after,) = layer([tower], head.priors()), layer([changed], head.priors())
        assert torch.allclose(before[0, :, 0, 0], after[0, :, 0, 0], atol=1e-5) is not data_dependent
        torch.testing.assert_close(before[1], after[1])


def test_it_starts_as_the_mean_of_the_detectors_own():
    torch.manual_seed(0)
    old = RetinaNetHead(8, 3, 4)
    expected = old(maps())["cls_logits"].view(2, -1, 3, 4).mean(2)
    found = MetaAnchor(copy.deepcopy(old), scales=(1.0,), ratios=(1.0,))(maps())["cls_logits"]
    torch.testing.assert_close(found, expected)


# ---- the prior boxes ------------------------------------------------------------------------------------------------


def test_anchors_are_torchvisions_and_in_the_order_of_the_functions():
    head = head_of(scales=(1.0, 2.0), ratios=(0.25, 1.0, 4.0))
    images = ImageList(torch.zeros(2, 3, 32, 48), [(32, 48)] * 2)
    anchors = head.anchors(AnchorGenerator(((16, 20), (32, 40)), ((0.5, 1.0, 2.0),) * 2))
    own = AnchorGenerator(((16.0, 32.0), (32.0, 64.0)), ((0.25, 1.0, 4.0),) * 2)
    for one, other in zip(anchors(images, maps()), own(images, maps())):
        assert one.equal(other)
    first = own(images, maps())[0][:6]
    extent = (first[:, 2:] - first[:, :2]) / 16
    torch.testing.assert_close(head.priors(), extent.log().flip(1))  # height, width
    assert anchors.num_anchors_per_location() == [6, 6]


@VARIANTS
def test_other_boxes_in_detection(data_dependent):
    model = retinanet(detection_ratios=(0.25, 0.5, 1.0, 2.0, 4.0), data_dependent=data_dependent)
    images, targets = batch()
    seen = []
    model.head.register_forward_hook(lambda m, i, o: seen.append(o["cls_logits"].shape[1]))
    model.train()(images, targets)
    model.eval()(images)
    model.head.detection_scales = (1.0,)
    model(images)
    places = 8 * 12 + 4 * 6 + 2 * 3
    assert seen == [9 * places, 15 * places, 5 * places]
    assert preset_of(model.train()).ratios[0] == (0.5, 1.0, 2.0)


# ---- in a detector --------------------------------------------------------------------------------------------------


@VARIANTS
def test_losses_fall(data_dependent):
    model = retinanet(data_dependent=data_dependent).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    totals = []
    for _ in range(12):
        losses = model(*batch())
        optimizer.zero_grad()
        sum(losses.values()).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
        optimizer.step()
        totals.append(sum(float(v.detach()) for v in losses.values()))
    assert totals[-1] < 0.6 * totals[0]
    images, targets = batch()
    assert all(value.isfinite() for value in model(images, [targets[1]] * 3).values())


def test_copies_have_boxes_of_their_own():
    model = retinanet()
    twins = copy.deepcopy(model).eval(), pickle.loads(pickle.dumps(model)).eval()
    model.head.ratios = (1.0,)
    assert all(twin.anchor_generator.num_anchors_per_location() == [9] * 3 for twin in twins)
    assert all(len(twin(batch()[0])) == 3 for twin in twins)


@VARIANTS
def test_half_precision(data_dependent):
    model = retinanet(data_dependent=data_dependent).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(*batch())
    assert all(value.dtype == torch.float32 for value in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_a_saved_run_is_rebuilt_from_its_recipe(tmp_path):
    model = build_model(Settings(image_size=(64, 96)), ("a", "b", "c"), "meta_anchor")
    for p in model.parameters():
        p.data.add_(0.05 * torch.randn_like(p))
    settings = {"recipe": "meta_anchor", "settings": asdict(Settings(image_size=(64, 96)))}
    write_json(tmp_path / "settings.json", settings)
    torch.save({"model": model.state_dict(), "classes": ["a", "b", "c"]}, tmp_path / "model.pt")
    loaded, _ = load_model(tmp_path)
    with torch.no_grad():
        for one, other in zip(model.eval()(batch()[0]), loaded(batch()[0])):
            assert one["boxes"].equal(other["boxes"])


def test_a_prior_goes_into_the_shared_function():
    recipe = Recipe(name="x", head=MetaAnchor, stages=Stage(prior=0.2))
    model = attach(build("retinanet", classes=3, image_size=(64, 96)), recipe)
    bias = model.head.classification_head.cls_logits.bias
    torch.testing.assert_close(bias.sigmoid(), torch.full((4,), 0.2))


def test_refusals():
    assert recipes.kinds("meta_anchor") == ("dense",)
    for name in ("fcos", "ssd", "faster_rcnn"):
        with pytest.raises(ValueError, match=r"head \(RetinaNet alone has it\)"):
            attach(build(name, classes=3, image_size=(64, 96)), Recipe(name="x", head=MetaAnchor))
    with pytest.raises(ValueError, match="MetaAnchor, makes its own"):
        attach(build("retinanet", classes=3), Recipe(name="x", head=MetaAnchor, anchors=default_anchors("retinanet")))
    for options in ({"scales": ()}, {"ratios": (0.0,)}, {"detection_ratios": (-1.0,)}, {"hidden": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            MetaAnchor(RetinaNetHead(8, 3, 4), **options)
