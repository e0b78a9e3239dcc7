"""AugFPN's two parts in the region head against a naive reading of the paper."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign, roi_align

from detbalance import Recipe, attach, recipes
from detbalance.adapters.auxiliary import _proposals
from detbalance.detectors import build
from detbalance.necks import STDN, AugFPN, PANet
from detbalance.region_heads import AdaptivePooling, ConsistentSupervision, SoftRoISelection
from detbalance.types import RegionParts

SHAPES = [(64, 96), (60, 80)]
BOXES = [torch.tensor([[3.0, 4, 20, 30], [0, 0, 96, 64], [50, 20, 53, 24]]).double(), torch.zeros(0, 4).double()]
IMAGES = [torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(i)) for i in range(2)]
TARGETS = [
    {"boxes": torch.tensor([[10.0, 10, 40, 44], [42, 20, 60, 32]]), "labels": torch.tensor([1, 2])},
    {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)},
]


def test_soft_selection_against_the_paper():
    torch.manual_seed(0)
    pool = MultiScaleRoIAlign(["0", "1"], 3, 2)
    new = SoftRoISelection()(RegionParts(pool, nn.Identity(), nn.Identity(), 5)).pool.double()
    features = {n: torch.randn(2, 5, *s).double().requires_grad_() for n, s in {"0": (16, 24), "1": (8, 12)}.items()}
    found = new(features, BOXES, SHAPES)
    narrow, wide = new.select[0], new.select[2]
    expected = torch.zeros_like(found)
    for row, box in enumerate(BOXES[0]):
        grids = [roi_align(features[n][:1], [box[None]], (3, 3), 1 / s, 2)[0] for n, s in (("0", 4), ("1", 8))]
        both = torch.cat(grids)
        hidden = torch.stack(
            [(narrow.weight[:, :, 0, 0] @ both[:, y, x] + narrow.bias).clamp(min=0) for y in range(3) for x in range(3)]
        )
        hidden = hidden.T.reshape(5, 3, 3)
        for y in range(3):
            for x in range(3):
                for level in (0, 1):
                    score = wide.bias[level].clone()
                    for dy in (-1, 0, 1):
                        for dx in (-1, 0, 1):
                            if 0 <= y + dy < 3 and 0 <= x + dx < 3:
                                score = score + wide.weight[level, :, dy + 1, dx + 1] @ hidden[:, y + dy, x + dx]
                    expected[row, :, y, x] += grids[level][:, y, x] / (1 + (-score).exp())
    torch.testing.assert_close(found, expected)
    leaves = [*features.values(), *new.parameters()]
    weights = torch.randn(expected.shape).double()
    ours, theirs = (torch.autograd.grad((x * weights).sum(), leaves) for x in (found, expected))
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b)


def test_without_weights_it_is_half_the_sum_of_the_levels():
    pool = MultiScaleRoIAlign(["0", "1"], 3, 2)
    new = SoftRoISelection()(RegionParts(pool, nn.Identity(), nn.Identity(), 5)).pool.double()
    nn.init.zeros_(new.select[2].weight)
    features = {"0": torch.randn(2, 5, 16, 24).double(), "1": torch.randn(2, 5, 8, 12).double()}
    sums = sum(roi_align(features[n], BOXES, (3, 3), 1 / s, 2) for n, s in (("0", 4), ("1", 8)))
    torch.testing.assert_close(new(features, BOXES, SHAPES), sums / 2)


def supervised(**slots):
    torch.manual_seed(0)
    model = build("faster_rcnn", classes=3, image_size=(64, 96)).train()
    return attach(model, Recipe(name="x", region=ConsistentSupervision(weight=0.5), **slots))


def len_of(lateral):
    """The finest first: the pyramid makes its coarsest lateral map first."""
    return -lateral.shape[-1]


def test_consistent_supervision_against_the_paper():
    model = supervised()
    auxiliary = model.roi_heads.box_roi_pool.auxiliary
    seen, laterals = [], []
    model.roi_heads.treatment.observers.append(lambda stage, samples, losses, rows: seen.append(samples))
    for block in model.backbone.fpn.inner_blocks:
        block.register_forward_hook(lambda m, x, output: laterals.append(output))
    losses = model(IMAGES, copy.deepcopy(TARGETS))
    samples, classes, boxes = seen[0], 0.0, 0.0
    for lateral, stride in zip(sorted(laterals, key=len_of), (8, 16, 32)):
        for row in range(len(samples.labels)):
            rois = torch.cat((samples.image[row, None].float(), samples.boxes[row]))[None]
            grid = roi_align(lateral, rois, (5, 5), 1 / stride, 2)
            logits, regression = auxiliary.box_predictor(auxiliary.box_head(grid))
            label = int(samples.labels[row])
            classes -= logits.log_softmax(1)[0, label] / len(samples.labels)
            if label:
                error = (regression[0, 4 * label : 4 * label + 4] - samples.codes[row]).abs()
                smooth = torch.where(error < 1 / 9, 4.5 * error**2, error - 1 / 18)
                boxes += smooth.sum() / len(samples.labels)
    assert samples.positive.any()
    torch.testing.assert_close(losses["loss_auxiliary_classifier"], 0.5 * classes, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(losses["loss_auxiliary_box_reg"], 0.5 * boxes, rtol=1e-4, atol=1e-5)


def test_it_trains_the_lateral_maps_and_leaves_the_rest_alone():
    model = supervised()
    losses = model(IMAGES, copy.deepcopy(TARGETS))
    own = losses["loss_auxiliary_classifier"] + losses["loss_auxiliary_box_reg"]
    own.backward()
    trained = {n.split(".layer_blocks")[0] for n, p in model.named_parameters() if p.grad is not None}
    assert any("inner_blocks.0" in n for n in trained)
    assert any("backbone.body" in n for n in trained)
    assert not any(n.startswith(("rpn", "roi_heads.box_head", "roi_heads.box_predictor")) for n in trained)
    assert all(p.grad is None for n, p in model.named_parameters() if "layer_blocks" in n)
    torch.manual_seed(0)
    plain = build("faster_rcnn", classes=3, image_size=(64, 96)).eval()
    plain.load_state_dict({n: v for n, v in model.state_dict().items() if ".auxiliary." not in n})
    for a, b in zip(model.eval()(IMAGES), plain(IMAGES)):
        assert all(a[key].equal(b[key]) for key in a)  # in detection nothing is left of it
    assert not model.roi_heads.box_roi_pool.auxiliary.laterals._maps


def test_its_head_is_no_copy():
    model = supervised()
    old, new = model.roi_heads.box_head.fc6.weight, model.roi_heads.box_roi_pool.auxiliary.box_head.fc6.weight
    assert not torch.equal(old, new)
    assert new.std() > 0


@pytest.mark.parametrize("neck", [PANet, AugFPN])
def test_other_pyramids_with_lateral_layers(neck):
    losses = supervised(neck=neck)(IMAGES, copy.deepcopy(TARGETS))
    assert losses["loss_auxiliary_classifier"] > 0


def test_what_is_refused_leaves_the_model_alone():
    model = build("faster_rcnn", classes=3, image_size=(64, 96))
    with pytest.raises(ValueError, match="lateral layers"):
        attach(model, Recipe(name="x", neck=STDN, region=ConsistentSupervision()))
    with pytest.raises(ValueError, match="MultiScaleRoIAlign"):
        attach(model, Recipe(name="x", region=(AdaptivePooling(), ConsistentSupervision())))
    assert not hasattr(model, "recipe")
    assert not model.backbone.fpn.inner_blocks[0]._forward_hooks
    with pytest.raises(ValueError, match="weight"):
        ConsistentSupervision(weight=-1)
    parts = RegionParts(nn.Identity(), TwoMLPHead(45, 7), FastRCNNPredictor(7, 3), 5)
    with pytest.raises(ValueError, match="MultiScaleRoIAlign"):
        SoftRoISelection()(parts)


def test_the_recipe_is_the_paper_whole():
    recipe = recipes.get("aug_fpn", "rcnn")
    assert recipe.neck is AugFPN
    assert recipe.region == (ConsistentSupervision(), SoftRoISelection())
    both = recipes.get("consistent_supervision+soft_roi_selection", "rcnn")
    assert both.region == recipe.region
    assert recipes.get("aug_fpn", "dense").region == ConsistentSupervision()
    model = attach(build("faster_rcnn", classes=3, image_size=(64, 96)).train(), recipe)
    assert len(model(IMAGES, copy.deepcopy(TARGETS))) == 6


@pytest.mark.parametrize("name", ["retinanet", "fcos"])
def test_one_stage_detectors_have_a_region_head_in_training(name):
    torch.manual_seed(0)
    plain = build(name, classes=3, image_size=(64, 96))
    model = attach(copy.deepcopy(plain), Recipe(name="x", region=ConsistentSupervision())).train()
    model.auxiliary.heads.fg_bg_sampler.batch_size_per_image = 32
    assert {n for n in model.state_dict() if not n.startswith("auxiliary.")} == set(plain.state_dict())
    for a, b in zip(model.eval()(IMAGES), plain.eval()(IMAGES)):
        assert all(a[key].equal(b[key]) for key in a)  # in detection nothing is left of it
    for targets in (TARGETS, [TARGETS[1]] * 2):
        model.zero_grad()
        losses = model.train()(IMAGES, copy.deepcopy(targets))
        own = losses["auxiliary_classification"] + losses["auxiliary_bbox_regression"]
        own.backward()
        learning = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
        assert learning == {"auxiliary", "backbone"}
        assert all(p.grad is not None for p in model.auxiliary.parameters())
        assert not any("layer_blocks" in n for n, p in model.named_parameters() if p.grad is not None)
    twin = pickle.loads(pickle.dumps(model))
    torch.manual_seed(0)
    expected = model(IMAGES, copy.deepcopy(TARGETS))
    torch.manual_seed(0)
    for key, loss in twin(IMAGES, copy.deepcopy(TARGETS)).items():
        torch.testing.assert_close(loss, expected[key])
    with torch.autocast("cpu", torch.bfloat16):
        assert all(loss.dtype == torch.float32 for loss in model(IMAGES, copy.deepcopy(TARGETS)).values())


def test_what_a_one_stage_detectors_region_head_trains_on():
    """The losses of one lateral map and another, from the boxes that it has drawn, box by box."""
    torch.manual_seed(0)
    model = build("retinanet", classes=3, image_size=(64, 96)).train()
    nn.init.normal_(model.head.classification_head.cls_logits.weight, std=0.3)
    model = attach(model, Recipe(name="x", region=ConsistentSupervision(weight=0.5)))
    heads, tables, laterals = model.auxiliary.heads, [], []
    made = heads._table
    heads._table = lambda *a, **k: tables.append(made(*a, **k)) or tables[-1]
    for block in model.backbone.fpn.inner_blocks:
        block.register_forward_hook(lambda m, x, output: laterals.append(output))
    losses = model(IMAGES, copy.deepcopy(TARGETS))
    boxes, labels, image = tables[0].boxes, tables[0].labels, tables[0].image
    assert all(table.boxes.equal(boxes) for table in tables)
    assert len(tables) == len(laterals)
    for box in TARGETS[0]["boxes"]:  # the objects are among them
        assert (boxes == box).all(1).any()
    assert (labels[image == 1] == 0).all()
    assert (image == 0).sum() > 2  # detections, too
    classes = 0.0
    for lateral, stride in zip(sorted(laterals, key=len_of), (8, 16, 32)):
        rois = torch.cat((image[:, None].float(), boxes), 1)
        logits, _ = heads.box_predictor(heads.box_head(roi_align(lateral, rois, (7, 7), 1 / stride, 2)))
        for row, label in enumerate(labels):
            classes -= logits[row].log_softmax(0)[label] / len(labels)
    torch.testing.assert_close(losses["auxiliary_classification"], 0.5 * classes, rtol=1e-4, atol=1e-5)


def test_the_detections_that_it_trains_on():
    """Good enough, the best of their level, each object once a class, the best first, within the image."""
    boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 8], [0, 0, 9, 8], [-5, 0, 20, 9], [30, 30, 40, 40], [50, 1, 60, 9]])
    scores = torch.tensor([[0, 0.5, 0], [0, 0.9, 0], [0, 0, 0.4], [0, 0.3, 0], [0, 0.005, 0], [0, 0.02, 0.01]])
    level = torch.tensor([0, 0, 0, 1, 1, 1])
    found = _proposals(scores, boxes, level, (64, 55))
    assert found.tolist() == [[0, 0, 9, 8], [0, 0, 9, 8], [0, 0, 20, 9], [50, 1, 55, 9]]
    assert _proposals(scores * 0, boxes, level, (64, 55)).shape == (0, 4)


def test_a_one_stage_detector_with_another_pyramid():
    losses = attach(build("retinanet", classes=3, image_size=(64, 96)).train(), recipes.aug_fpn("dense"))(
        IMAGES, copy.deepcopy(TARGETS)
    )
    assert losses["auxiliary_classification"] > 0
    model = build("retinanet", classes=3)
    with pytest.raises(ValueError, match="lateral layers"):
        attach(model, Recipe(name="x", neck=STDN, region=ConsistentSupervision()))
    with pytest.raises(ValueError, match="region"):
        attach(model, Recipe(name="x", region=(ConsistentSupervision(), SoftRoISelection())))
    assert not hasattr(model, "recipe")
