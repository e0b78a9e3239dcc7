"""Scale dependent pooling and cascaded rejection against a naive reading of the paper, box by box."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign, roi_align

from detbalance import attach, recipes
from detbalance.detectors import build
from detbalance.necks import FeatureHierarchy
from detbalance.region_heads import ScaleDependentPooling
from detbalance.types import RegionParts

SHAPES = [(64, 96), (60, 80)]
BOXES = [
    torch.tensor([[3.0, 4, 20, 14], [0, 0, 96, 64], [50, 20, 53, 40], [1, 1, 9, 41], [0, 0, 9, 20]]).double(),
    torch.tensor([[2.0, 3, 60, 23], [0, 0, 70, 59]]).double(),
]
EVERY = torch.cat(BOXES)
HEIGHTS = [10, 64, 20, 40, 20, 20, 59]
LEVELS = [0, 2, 1, 2, 1, 1, 2]  # bounds 20 and 40: a height at a bound belongs above it
IMAGE = [0] * 5 + [1] * 2


def maps():
    g = torch.Generator().manual_seed(0)
    sizes = {"0": (16, 24), "1": (8, 12), "2": (4, 6)}
    return {n: torch.randn(2, 3, *s, generator=g).double() for n, s in sizes.items()}


def made(**settings):
    torch.manual_seed(0)
    pool = MultiScaleRoIAlign(["0", "1", "2"], 2, 2)
    parts = RegionParts(pool, TwoMLPHead(12, 5), FastRCNNPredictor(5, 3), 3)
    parts = ScaleDependentPooling(bounds=(20.0, 40.0), **settings)(parts)
    for part in (parts.pool, parts.head, parts.predictor):
        part.double()
        for p in part.parameters():
            nn.init.normal_(p, std=0.5)
    return parts


def grid_of(features, row, level):
    return roi_align(features[str(level)][IMAGE[row], None], [EVERY[row][None]], (2, 2), 1 / 4 / 2**level, 2)


def answer(parts, grid, level):
    head = parts.head if level == 0 else parts.head.further[level - 1]
    predictor = parts.predictor if level == 0 else parts.predictor.further[level - 1]
    x = F.relu(F.linear(grid.flatten(), head.fc6.weight, head.fc6.bias))
    x = F.relu(F.linear(x, head.fc7.weight, head.fc7.bias))
    return [F.linear(x, layer.weight, layer.bias) for layer in (predictor.cls_score, predictor.bbox_pred)]


def objectness(parts, features, row, layer):
    """The logit of the classifier on one map for a box, from its group."""
    classifier = parts.pool.rejection[LEVELS[row]][layer]
    return F.linear(grid_of(features, row, layer).flatten(), classifier.weight, classifier.bias).squeeze()


@pytest.mark.parametrize("reject", [None, 0.4])
@pytest.mark.parametrize("training", [True, False])
def test_against_the_paper(reject, training):
    parts, features = made(reject=reject), maps()
    for part in (parts.pool, parts.head, parts.predictor):
        part.train(training)
    pooled = parts.pool(features, BOXES, SHAPES)
    logits, regression = parts.predictor(parts.head(pooled))
    assert parts.pool.levels(BOXES).tolist() == LEVELS
    rejected = 0
    for row, level in enumerate(LEVELS):
        gone = (
            reject is not None
            and not training
            and any(objectness(parts, features, row, i).sigmoid() < reject for i in range(level + 1))
        )
        rejected += gone
        if gone:
            assert logits[row].tolist() == [0, -1e4, -1e4]
            assert not regression[row].any()
        else:
            for found, expected in zip(
                (logits[row], regression[row]), answer(parts, grid_of(features, row, level), level)
            ):
                torch.testing.assert_close(found, expected)
    if reject is not None and not training:
        assert 0 < rejected < len(LEVELS)


def test_what_the_rejection_classifiers_learn_from():
    """Each from all that those before it on the way would let pass; the features have no gradient of it."""
    parts, features = made(reject=0.4), {n: m.requires_grad_() for n, m in maps().items()}
    pooled = parts.pool.train()(features, BOXES, SHAPES)
    positive, norm = torch.tensor([1, 0, 0, 1, 1, 0, 0]).bool(), torch.full((7,), 1 / 7).double()

    class Step:
        class samples:
            generated = None

    Step.samples.positive, Step.samples.norm, Step.pooled = positive, norm, pooled
    loss = parts.pool.supervise(Step)["loss_rejection"]
    expected, passed = 0.0, 0
    for row, level in enumerate(LEVELS):
        for layer in range(level + 1):
            logit = objectness(parts, features, row, layer)
            p = logit.sigmoid()
            expected -= (p.log() if positive[row] else (1 - p).log()) / 7
            if p < 0.4:
                break
            passed += layer < level
    assert passed
    torch.testing.assert_close(loss, expected)
    theirs = torch.autograd.grad(expected, list(parts.pool.parameters()), retain_graph=True, allow_unused=True)
    ours = torch.autograd.grad(loss, list(parts.pool.parameters()))
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, torch.zeros_like(a) if b is None else b)
    loss = parts.pool.supervise(Step)["loss_rejection"]
    assert torch.autograd.grad(loss, list(features.values()), allow_unused=True) == (None, None, None)


def test_without_bounds_the_level_is_the_detectors_own_by_height():
    model = attach(build("faster_rcnn", classes=3), recipes.scale_dependent_pooling("rcnn")).eval()
    with torch.no_grad():
        model([torch.rand(3, 192, 256)])
    heights = torch.tensor([1.0, 55.9, 56.1, 111.9, 112.1, 190.0])
    boxes = torch.stack((torch.zeros(6), torch.zeros(6), torch.full((6,), 9.0), heights), 1)
    expected = [min(max(math.floor(4 + math.log2(float(h) / 56)), 3), 5) - 3 for h in heights]
    assert model.roi_heads.box_roi_pool.levels([boxes]).tolist() == expected == [0, 0, 1, 1, 2, 2]
    own = MultiScaleRoIAlign(["1", "2", "3"], 5, 2, canonical_scale=56, canonical_level=4)
    own({n: torch.zeros(1, 1, 24 >> i, 32 >> i) for i, n in enumerate("123")}, [boxes], [(192, 256)])
    square = torch.stack((torch.zeros(6), torch.zeros(6), heights, heights), 1)
    assert own.map_levels([square]).tolist() == expected


def test_the_recipe_stands_on_the_backbones_maps():
    assert recipes.get("scale_dependent_pooling", "rcnn").neck is FeatureHierarchy


def test_samples_know_their_level_and_detections_are_fewer():
    torch.manual_seed(0)
    model = attach(
        build("faster_rcnn", classes=3, image_size=(64, 96)).train(), recipes.scale_dependent_pooling("rcnn")
    )
    seen = []
    model.roi_heads.treatment.observers.append(lambda stage, samples, losses, rows: seen.append(samples))
    image = torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(0))
    target = {"boxes": torch.tensor([[10.0, 1, 40, 63], [42, 20, 60, 32]]), "labels": torch.tensor([1, 2])}
    model([image], [copy.deepcopy(target)])
    assert seen[0].level.tolist() == model.roi_heads.box_roi_pool.levels([seen[0].boxes]).tolist()
    with torch.no_grad():
        some = model.eval()([image])[0]["scores"]
        for layer in model.roi_heads.box_roi_pool.rejection.modules():
            if isinstance(layer, nn.Linear):
                layer.bias.fill_(-1e3)
        none = model([image])[0]["scores"]
    assert len(some) > 0
    assert len(none) == 0


def test_what_is_refused():
    pool = MultiScaleRoIAlign(["0", "1", "2"], 2, 2)
    parts = RegionParts(pool, TwoMLPHead(12, 5), FastRCNNPredictor(5, 3), 3)
    with pytest.raises(ValueError, match="bounds must be 2 heights"):
        ScaleDependentPooling(bounds=(64.0,))(parts)
    for wrong in ((64.0, 64.0), (0.0, 5.0), ()):
        with pytest.raises(ValueError, match="bounds must be None or ascending"):
            ScaleDependentPooling(bounds=wrong)
    with pytest.raises(ValueError, match="reject"):
        ScaleDependentPooling(reject=1.0)
    with pytest.raises(ValueError, match="MultiScaleRoIAlign"):
        ScaleDependentPooling()(RegionParts(nn.Identity(), TwoMLPHead(12, 5), FastRCNNPredictor(5, 3), 3))
