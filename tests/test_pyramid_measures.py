"""The levels of a pyramid: against loops over objects and candidates, for one- and two-stage detectors and any neck."""

import copy
import math

import pytest
import torch

from detbalance import attach, recipes
from detbalance.adapters import kind_of
from detbalance.adapters.stage import StageLoss
from detbalance.detectors import build
from detbalance.pyramid_measures import _explained, pyramid_levels


def batch(seed=0):
    g = torch.Generator().manual_seed(seed)
    images = [torch.rand(3, 64, 96, generator=g) for _ in range(3)]
    boxes = torch.tensor([[4.0, 4, 20, 28], [30, 10, 90, 60], [10, 20, 24, 30], [50, 5, 74, 29]])
    some = {"boxes": boxes, "labels": torch.tensor([1, 2, 2, 1])}
    none = {"boxes": boxes[:0], "labels": torch.zeros(0, dtype=torch.long)}
    return images, [some, none, some]


def model_of(detector, name="baseline"):
    torch.manual_seed(0)
    model = build(detector, classes=2, image_size=(64, 96))
    return attach(model, recipes.get(name, kind_of(model)))


@pytest.mark.parametrize("detector", ["retinanet", "fcos", "faster_rcnn"])
def test_levels(detector):
    torch.manual_seed(1)
    levels = pyramid_levels(model_of(detector), [batch(0), batch(1)])
    assert [level.name for level in levels] == ["1", "2", "3"]
    assert [level.stride for level in levels] == [8, 16, 32]
    areas = [16 * 24, 60 * 50, 14 * 10, 24 * 24] * 4
    for level in levels:
        assert level.coarseness == pytest.approx(sorted(areas)[7] / level.stride**2)
        assert -1 < level.abstractness <= 1
    assert sum(level.cardinality for level in levels) > 0
    assert sum(level.gradient for level in levels) == pytest.approx(1)
    assert sum(level.backbone_gradient for level in levels) == pytest.approx(1)


def test_positives_and_gradient_one_by_one():
    model = model_of("retinanet").train()
    (levels,) = [pyramid_levels(model, [batch()])]
    twin = copy.deepcopy(model)
    seen, maps = [], {}
    (stage,) = [m for m in twin.modules() if isinstance(m, StageLoss)]
    stage.observers.append(lambda *args: seen.append(args[1]))
    twin.backbone.body.register_forward_hook(lambda module, inputs, output: maps.update(output))
    total = sum(twin(*batch()).values())
    samples = seen[0]
    gradients = torch.autograd.grad(total, [samples.logits, samples.deltas, *maps.values()])
    positives, shares = [0] * 3, [0.0] * 3
    for level, label, *rows in zip(samples.level.tolist(), samples.labels.tolist(), *gradients[:2]):
        positives[level] += label > 0
        shares[level] += sum(float(row.norm()) for row in rows)
    below = [float(g.norm()) for g in gradients[2:]]
    assert [level.cardinality for level in levels] == positives
    assert [level.gradient for level in levels] == pytest.approx([s / sum(shares) for s in shares], rel=1e-4)
    assert [level.backbone_gradient for level in levels] == pytest.approx([b / sum(below) for b in below], rel=1e-4)


def test_the_model_stays_as_it_is():
    model = model_of("retinanet", "panet").eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    pyramid_levels(model, [batch()])
    assert not model.training
    assert all(v.equal(before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not any(module.observers for module in model.modules() if isinstance(module, StageLoss))


def test_class_explains_what_it_can():
    labels = torch.tensor([1, 1, 1, 2, 2, 5, 5])
    features = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    groups = [features[labels == k] for k in (1, 2, 5)]
    total = sum((row - features.mean(0)).square().sum() for row in features)
    within = sum((row - g.mean(0)).square().sum() for g in groups for row in g)
    between = sum(len(g) * (g.mean(0) - features.mean(0)).square().sum() for g in groups)
    assert _explained(features, labels) == pytest.approx(float((between - 2 * within / 4) / total), rel=1e-5)
    assert _explained(labels[:, None] * torch.ones(7, 3), labels) == pytest.approx(1)
    many = torch.randn(3000, 2, generator=torch.Generator().manual_seed(1))
    assert abs(_explained(many, torch.arange(3000) % 7)) < 0.01


@pytest.mark.parametrize("labels", [[], [1], [1, 1], [1, 2]])
def test_too_few_objects_tell_nothing(labels):
    assert math.isnan(_explained(torch.randn(len(labels), 3), torch.tensor(labels, dtype=torch.long)))
    assert math.isnan(_explained(torch.zeros(4, 3), torch.tensor([1, 1, 2, 2])))


def test_images_without_objects():
    images, (_, none, _) = batch()
    levels = pyramid_levels(model_of("retinanet"), [(images[:1], [none])])
    assert all(math.isnan(level.coarseness) and math.isnan(level.abstractness) for level in levels)
    assert sum(level.cardinality for level in levels) == 0


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ValueError, match="a model with a recipe"):
        pyramid_levels(build("retinanet", classes=2), [batch()])
    with pytest.raises(ValueError, match="backbone has a neck"):
        pyramid_levels(model_of("ssd"), [batch()])
    with pytest.raises(ValueError, match="at least one batch"):
        pyramid_levels(model_of("retinanet"), [])
