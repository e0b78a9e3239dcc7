"""Suppression and learnt variances in one-stage detectors: formulas written out, and all else as torchvision's."""

import copy
import math
import pickle

import pytest
import torch
from torchvision.models.detection import ssdlite320_mobilenet_v3_large
from torchvision.ops import batched_nms

from detbalance import Recipe, Stage, attach, recipes
from detbalance.detectors import build
from detbalance.losses import CombinedBoxLoss, KLLoss
from detbalance.suppressions import DIoUSuppression, NWDSuppression, VarianceVoting

TARGETS = [
    {"boxes": torch.tensor([[10.0, 10, 40, 44], [42, 20, 80, 56]]), "labels": torch.tensor([1, 2])},
    {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)},
]
IMAGES = [torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(i)) for i in range(2)]
KINDS = {"retinanet": "dense", "fcos": "dense", "ssd": "ssd"}


class Plain:
    """What torchvision does, through the slot."""

    def __call__(self, boxes, scores, labels, deviations, *, iou, limit):
        rows = batched_nms(boxes, scores, labels, iou)[:limit]
        return boxes[rows], rows


def lively(model):
    """Scores and boxes that differ from place to place."""
    torch.manual_seed(1)
    for name, layer in model.head.named_modules():
        if isinstance(layer, torch.nn.Conv2d) and "conv." not in name:
            torch.nn.init.normal_(layer.weight, std=0.2)
    return model


def model(name, recipe):
    torch.manual_seed(0)
    made = lively(build(name, classes=3, image_size=(64, 96)))
    made.score_thresh, made.detections_per_img = 0.3, 40
    return attach(made, recipe)


@pytest.mark.parametrize("name", ["retinanet", "fcos", "ssd", "yolov2"])
def test_suppression_as_torchvisions_changes_nothing(name):
    kind = KINDS.get(name, "yolo")
    plain = model(name, recipes.baseline(kind)).eval()
    ours = model(name, Recipe(name="x", stages=Stage(suppress=Plain()))).eval()
    assert plain.state_dict().keys() == ours.state_dict().keys()
    for topk in (300, 7):
        plain.topk_candidates = ours.topk_candidates = topk
        with torch.no_grad():
            for one, other in zip(plain(IMAGES), ours(IMAGES)):
                assert len(one["boxes"]) > 3
                assert all(torch.equal(one[key], other[key]) for key in ("boxes", "scores", "labels"))


@pytest.mark.parametrize("suppress", [DIoUSuppression(), NWDSuppression()])
@pytest.mark.parametrize("name", ["retinanet", "fcos", "ssd", "yolov2"])
def test_other_suppressions(name, suppress):
    """None that stays is like a better one of its class, and what detects nothing gives nothing."""
    detector = model(name, Recipe(name="x", stages=Stage(suppress=suppress))).eval()
    with torch.no_grad():
        found = detector(IMAGES[:1])[0]
        order = found["scores"].argsort(descending=True, stable=True)
        assert torch.equal(order, torch.arange(len(order)))
        stays = suppress(found["boxes"], found["scores"], found["labels"], None, iou=detector.nms_thresh, limit=99)[1]
        assert torch.equal(stays, order)
        detector.score_thresh = 1.0
        assert detector(IMAGES)[0]["boxes"].shape == (0, 4)


def names_of_sides(name, box, code, weights):
    """The sides that a code makes of an anchor, one after another."""
    sizes = 2 * [box[2] - box[0], box[3] - box[1]]
    if name == "fcos":
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        return [at + sign * c * s for at, sign, c, s in zip((x, y, x, y), (-1, -1, 1, 1), code, sizes)]
    return [b + c / w * s for b, c, w, s in zip(box, code, weights, sizes)]


@pytest.mark.parametrize("name", KINDS)
def test_variance_starts_at_one_and_changes_no_name(name):
    torch.manual_seed(0)
    plain = build(name, classes=3, image_size=(64, 96))
    keys, parameters = plain.state_dict().keys(), {k: v.clone() for k, v in plain.state_dict().items()}
    detector = attach(plain, recipes.kl_loss(KINDS[name]))
    new = detector.state_dict()
    assert {key.partition(".")[0] for key in new.keys() - keys} == {"log_variance"}
    assert all(torch.equal(new[key], parameters[key]) for key in keys)
    for key in new.keys() - keys:
        assert not new[key].any() if key.endswith("bias") else 0.5e-4 < new[key].std() < 2e-4


@pytest.mark.parametrize("name", KINDS)
def test_training_step_by_the_formula(name):
    """Each positive's loss from what the head predicts, averaged as the detector averages."""
    detector = model(name, recipes.kl_loss(KINDS[name])).train()
    for layer in detector.log_variance.layers:
        layer.bias.data.uniform_(-1, 1)
    seen = []
    detector.treatment.observers.append(lambda stage, samples, losses, rows: seen.append(samples))
    losses = detector(IMAGES, copy.deepcopy(TARGETS))
    (samples,), total, weights = seen, 0.0, (10.0,) * 4
    assert samples.positive.sum() > 1
    for row in samples.positive.nonzero().flatten().tolist():
        box, truth = samples.boxes[row].tolist(), samples.truth[row].tolist()
        sides = names_of_sides(name, box, samples.codes[row].tolist(), weights)
        assert sides == pytest.approx(truth, abs=1e-3)
        value = 0.0
        for k in range(4):
            d = abs(float(samples.deltas[row, k].detach() - samples.codes[row, k]))
            alpha = float(samples.log_variance[row, k].detach())
            value += math.exp(-alpha) * (d * d / 2 if d <= 1 else d - 0.5) + alpha / 2
        total += value * float(samples.norm[row])
    assert float(losses["bbox_regression"].detach()) == pytest.approx(total, rel=1e-4)
    sum(losses.values()).backward()
    assert any(layer.weight.grad.any() for layer in detector.log_variance.layers)
    assert all(p.grad is not None for p in detector.log_variance.parameters())


@pytest.mark.parametrize("name", KINDS)
def test_variance_of_an_anchor_is_read_at_its_place(name):
    """As the box code of the same anchor would be, by a regressor of the same weights."""
    detector = model(name, recipes.kl_loss(KINDS[name])).eval()
    branch = detector.head.regression_head
    last = branch.module_list if name == "ssd" else [branch.bbox_reg]
    for layer, regressor in zip(detector.log_variance.layers, last):
        layer.load_state_dict(regressor.state_dict())
    seen = []
    detector.head.register_forward_hook(lambda m, x, output: seen.append(output))
    with torch.no_grad():
        detector(IMAGES)
    variance = seen[0]["log_variance"]
    torch.testing.assert_close(variance.relu() if name == "fcos" else variance, seen[0]["bbox_regression"])


@pytest.mark.parametrize("name", KINDS)
def test_detections_are_voted_with_deviations_in_pixels(name, voted):
    detector = model(name, recipes.kl_loss(KINDS[name])).eval()
    detector.topk_candidates = 25
    for layer in detector.log_variance.layers:
        layer.bias.data.uniform_(-2, 2)
    seen = {}
    detector.head.register_forward_hook(lambda m, x, output: seen.update(output))
    detector.anchor_generator.register_forward_hook(lambda m, x, output: seen.update(anchors=output[0]))
    levels = []
    detector.head.register_forward_pre_hook(
        lambda m, x: levels.extend(f.shape[-2] * f.shape[-1] for f in x[0]),
    )
    with torch.no_grad():
        found = detector(IMAGES[:1])[0]
    if name == "ssd":
        scores = seen["cls_logits"][0].softmax(-1)
        groups = [[(n, k) for n in range(len(scores))] for k in (1, 2, 3)]
    else:
        scores = seen["cls_logits"][0].sigmoid()
        if name == "fcos":
            scores = (scores * seen["bbox_ctrness"][0].sigmoid()).sqrt()
        each = len(scores) // sum(levels)
        ends = [each * sum(levels[: i + 1]) for i in range(len(levels))]
        groups = [
            [(n, k) for n in range(end - each * count, end) for k in range(4)] for end, count in zip(ends, levels)
        ]
    rows = []
    for group in groups:
        ranked = sorted((pair for pair in group if scores[pair] > 0.3), key=lambda pair: -scores[pair])
        rows += ranked[:25]
    boxes, deviations = [], []
    weights = (1.0,) * 4 if name == "fcos" else (10.0,) * 4
    for n, _ in rows:
        box = seen["anchors"][n].tolist()
        sides = names_of_sides(name, box, seen["bbox_regression"][0, n].tolist(), weights)
        boxes.append([min(max(v, 0), limit) for v, limit in zip(sides, (96, 64, 96, 64))])
        sizes = 2 * [box[2] - box[0], box[3] - box[1]]
        alphas = seen["log_variance"][0, n].tolist()
        deviations.append([math.exp(a / 2) / w * s for a, w, s in zip(alphas, weights, sizes)])
    values, labels = [float(scores[pair]) for pair in rows], [k for _, k in rows]
    solid = [i for i, b in enumerate(boxes) if b[2] > b[0] and b[3] > b[1]]  # the loop divides by areas
    boxes, deviations, values, labels = ([c[i] for i in solid] for c in (boxes, deviations, values, labels))
    expected = voted(torch.tensor(boxes), values, labels, torch.tensor(deviations), detector.nms_thresh, 0.02)
    assert len(expected) > 5
    proper = ((found["boxes"][:, 2:] - found["boxes"][:, :2]) > 0).all(1)
    count = int(proper.sum())
    assert count == min(len(expected), count) > 5
    assert found["labels"][proper].tolist() == [labels[row] for row, _ in expected][:count]
    places = torch.tensor([place for _, place in expected][:count])
    torch.testing.assert_close(found["boxes"][proper], places, rtol=1e-3, atol=2e-2)


@pytest.mark.parametrize("name", KINDS)
def test_learns_and_goes_with_the_checkpoint(name, tmp_path):
    torch.manual_seed(0)
    detector = attach(build(name, classes=3, image_size=(64, 96)), recipes.kl_loss(KINDS[name])).train()
    optimizer = torch.optim.AdamW(detector.parameters(), lr=2e-3)
    totals = []
    for _ in range(12):
        losses = detector(IMAGES, copy.deepcopy(TARGETS))
        assert all(loss.isfinite() for loss in losses.values())
        optimizer.zero_grad()
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_(detector.parameters(), 10.0, error_if_nonfinite=True)
        optimizer.step()
        totals.append(float(losses["bbox_regression"].detach()))
    assert sum(totals[-3:]) < 0.9 * sum(totals[:3])
    torch.save(detector.state_dict(), tmp_path / "model.pt")
    other = attach(build(name, classes=3, image_size=(64, 96)), recipes.kl_loss(KINDS[name]))
    other.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    detector.eval()
    detector.score_thresh = other.score_thresh = 0.02
    with torch.no_grad():
        expected = detector(IMAGES)
        for twin in (other.eval(), copy.deepcopy(detector), pickle.loads(pickle.dumps(detector))):
            twin.head.register_forward_hook(lambda m, x, output: output)
            for one, two in zip(expected, twin(IMAGES)):
                assert all(torch.equal(one[key], two[key]) for key in one)
    with torch.autocast("cpu", torch.bfloat16):
        losses = detector.train()(IMAGES, copy.deepcopy(TARGETS))
    assert all(loss.isfinite() and loss.dtype == torch.float32 for loss in losses.values())


def test_no_objects_at_all():
    for name, kind in KINDS.items():
        detector = model(name, recipes.kl_loss(kind)).train()
        losses = detector(IMAGES, [copy.deepcopy(TARGETS[1]) for _ in IMAGES])
        assert losses["bbox_regression"] == 0
        sum(losses.values()).backward()
        assert all(p.grad is not None and not p.grad.any() for p in detector.log_variance.parameters())


def test_ssdlite_and_the_combined_loss():
    """Blocks of two convolutions; and the other loss that asks for variances."""
    lite = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4)
    attach(lite, Recipe(name="x", stages=Stage(box_loss=CombinedBoxLoss(variance="box", weights=(10.0,) * 4))))
    images = [torch.rand(3, 320, 320) for _ in range(2)]
    losses = lite.train()(images, copy.deepcopy(TARGETS))
    losses["bbox_regression"].backward()
    assert any(layer.weight.grad.any() for layer in lite.log_variance.layers)


def test_refuses():
    with pytest.raises(ValueError, match=r"losses\.KLLoss"):
        model("retinanet", Recipe(name="x", stages=Stage(suppress=VarianceVoting())))
    with pytest.raises(ValueError, match="reads the box code of anchors"):
        model("fcos", Recipe(name="x", stages=Stage(box_loss=CombinedBoxLoss(variance="box"))))
    with pytest.raises(ValueError, match="not"):
        recipes.kl_loss("yolo")
    strange = build("retinanet", classes=3)
    strange.head.regression_head.bbox_reg = torch.nn.Identity()
    before = strange.state_dict().keys()
    with pytest.raises(ValueError, match="convolution bbox_reg"):
        attach(strange, Recipe(name="x", stages=Stage(box_loss=KLLoss())))
    assert strange.state_dict().keys() == before
