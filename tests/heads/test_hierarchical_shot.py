"""The hierarchical shot head: offsets, chained codes and all four losses written out, alone and in RetinaNet."""

import copy
import math
import pickle

import pytest
import torch
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import deform_conv2d

from detbalance import Recipe, Stage, attach, recipes
from detbalance.boxes import decode, encode
from detbalance.detectors import build
from detbalance.heads import HierarchicalShot
from detbalance.heads._moved import moved_convolution
from detbalance.heads.hierarchical_shot import _chained
from detbalance.losses import GIoULoss, KLLoss, QualityFocalLoss
from detbalance.samplers import OHEMSampler, RandomSampler
from detbalance.suppressions import DIoUSuppression
from detbalance.weights import ClassBalancedWeights

IMAGES = [torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(i)) for i in range(3)]
TARGETS = [
    {"boxes": torch.tensor([[10.0, 10, 30, 30], [42, 20, 80, 52]]), "labels": torch.tensor([1, 2])},
    {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)},
    {"boxes": torch.tensor([[50.0, 30, 68, 60]]), "labels": torch.tensor([3])},
]


def retinanet(stage=None, **options):
    torch.manual_seed(0)
    recipe = Recipe(name="x", head=lambda head: HierarchicalShot(head, **options), stages=stage or Stage())
    return attach(build("retinanet", classes=3, image_size=(64, 96)), recipe)


def lively(model):
    """Every part says something at every place, and the boxes move."""
    torch.manual_seed(1)
    head = model.head
    for layer in (head.object, head.second, head.regression_head.bbox_reg, head.classification_head.cls_logits):
        torch.nn.init.normal_(layer.weight, std=0.02)
    for layers in (head.move, head.move_again):
        torch.nn.init.normal_(layers[-1].weight, std=0.3)
    return model


# ---- numbers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("anchors", "outputs"), [(1, 1), (3, 2)])
def test_moved_convolution_is_torchvisions_deformable_one(anchors, outputs):
    g = torch.Generator().manual_seed(0)
    shapes = ((2, 5, 6, 7), (2, anchors * 18, 6, 7), (anchors * outputs, 5, 3, 3), (anchors * outputs,))
    given = [torch.randn(shape, generator=g, dtype=torch.float64).requires_grad_() for shape in shapes]
    given[1].data *= 3
    x, moves, weight, bias = given
    expected = deform_conv2d(x.repeat(1, anchors, 1, 1), moves, weight, bias, padding=1)
    found = moved_convolution(*given)
    torch.testing.assert_close(found, expected)
    pull = torch.randn(found.shape, generator=g, dtype=torch.float64)
    ours, theirs = (torch.autograd.grad((value * pull).sum(), given) for value in (found, expected))
    for one, other in zip(ours, theirs):
        torch.testing.assert_close(one, other)


def test_one_code_for_two_regressions():
    torch.manual_seed(0)
    anchors = 10 * torch.rand(50, 2, dtype=torch.float64)
    anchors = torch.cat((anchors, anchors + 1 + 9 * torch.rand(50, 2, dtype=torch.float64)), 1)
    first, second = torch.randn(2, 50, 4, dtype=torch.float64)
    expected = decode(second, decode(first, anchors))
    torch.testing.assert_close(decode(_chained(first, second), anchors), expected)


def test_head_by_its_parts():
    """Each part reads the map that it should at the offsets that it should."""
    torch.manual_seed(0)
    head = HierarchicalShot(RetinaNetHead(16, 3, 5)).train()
    for layers in (head.move, head.move_again):
        torch.nn.init.normal_(layers[-1].weight)
    for layer in (head.second, head.object, head.regression_head.bbox_reg):
        torch.nn.init.normal_(layer.weight, std=0.1)
    features = [torch.randn(2, 16, h, w) for h, w in ((4, 6), (2, 3))]
    found, start = head(features), 0
    towers = [head.classification_head.conv(f) for f in features]

    def read(x, moves, layer):
        return deform_conv2d(x.repeat(1, 3, 1, 1), moves, layer.weight, layer.bias, padding=1)

    for level, tower in enumerate(towers):
        d1 = head.regression_head.bbox_reg(head.regression_head.conv(features[level]))
        m1 = head.move(d1)
        e = head.enhance(tower, towers[1])
        d2 = read(e, m1, head.second)
        m2 = m1 + head.move_again(d2)
        rows = slice(start, start + tower[0, 0].numel() * 3)
        start = rows.stop
        parts = {
            "first_regression": d1,
            "objectness": read(tower, m1, head.object),
            "second_regression": d2,
            "cls_logits": read(e, m2, head.classification_head.cls_logits),
        }
        for name, part in parts.items():
            table = part.unflatten(1, (3, -1)).permute(0, 3, 4, 1, 2).flatten(1, 3)
            torch.testing.assert_close(found[name][:, rows], table, rtol=1e-4, atol=1e-4)
    chained = _chained(found["first_regression"], found["second_regression"])
    assert torch.equal(found["bbox_regression"], chained)


def test_offsets_learn_from_what_is_read_and_regression_does_not():
    head = lively(retinanet()).head.train()
    features = [torch.randn(1, 64, h, w) for h, w in ((8, 12), (4, 6), (2, 3))]
    head(features)["cls_logits"].square().sum().backward()
    assert head.move[0].weight.grad.any()
    assert head.move_again[2].weight.grad.any()
    assert head.regression_head.bbox_reg.weight.grad is None
    assert head.second.weight.grad is None


# ---- the losses ---------------------------------------------------------------------------------------------------


def overlap(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def assigned(boxes, objects, high, low):
    """By thresholds, one box after another; in between -2; an object's best boxes show the object they overlap most."""
    table = [[overlap(b, o) for o in objects] for b in boxes]
    best = [max(table[n][k] for n in range(len(boxes))) for k in range(len(objects))]
    found = []
    for row in table:
        most = max(row, default=0.0)
        favourite = any(v == best[k] > 0 for k, v in enumerate(row))
        found.append(row.index(most) if row and (most >= high or favourite) else -1 if most < low else -2)
    return found


def focal(x, target):
    p = 1 / (1 + math.exp(-x))
    return -0.25 * (1 - p) ** 2 * math.log(p) if target else -0.75 * p**2 * math.log(1 - p)


def test_all_losses_written_out():
    """Assignment of anchors, of boxes after one and two regressions, filter, mining and averages, in plain Python."""
    model = lively(retinanet(threshold=0.47)).train()
    seen = {}
    model.head.register_forward_hook(lambda m, x, output: seen.update(output))
    model.anchor_generator.register_forward_hook(lambda m, x, output: seen.update(anchors=output[0]))
    losses = model(IMAGES, copy.deepcopy(TARGETS))
    seen = {name: value.detach().double() for name, value in seen.items()}
    anchors, count = seen["anchors"], []
    expected = dict.fromkeys(losses, 0.0)
    for i, target in enumerate(TARGETS):
        truth, labels = target["boxes"].double(), target["labels"].tolist()
        d1, d2 = seen["first_regression"][i], seen["second_regression"][i]
        once = decode(d1, anchors)
        twice = decode(d2, once)
        start = assigned(anchors.tolist(), truth.tolist(), 0.5, 0.4)
        shown = assigned(once.tolist(), truth.tolist(), 0.6, 0.6)
        moved = assigned(once.tolist(), truth.tolist(), 0.5, 0.5)
        final = assigned(twice.tolist(), truth.tolist(), 0.7, 0.7)
        each = [sum(m >= 0 for m in matched) for matched in (start, shown, moved, final)]
        count.append(each)
        weight = [1 / (3 * max(number, 1)) for number in each]

        for name, d, boxes, matched, w in (
            ("first_regression", d1, anchors, start, weight[0]),
            ("bbox_regression", d2, once, moved, weight[2]),
        ):
            for n in (n for n, m in enumerate(matched) if m >= 0):
                code = encode(truth[matched[n]][None], boxes[n][None])[0]
                expected[name] += w * float((d[n] - code).abs().sum())

        objectness = seen["objectness"][i, :, 0].tolist()
        hard = sorted((math.log1p(math.exp(x)) for x, m in zip(objectness, shown) if m == -1), reverse=True)
        positive = [math.log1p(math.exp(-x)) for x, m in zip(objectness, shown) if m >= 0]
        expected["objectness"] += weight[1] * (sum(positive) + sum(hard[: 3 * len(positive)]))

        for n, m in enumerate(final):
            background = shown[n] == -1 and 1 / (1 + math.exp(-objectness[n])) <= 0.47
            if m >= 0 or not background:
                row = seen["cls_logits"][i, n].tolist()
                right = labels[m] if m >= 0 else None
                expected["classification"] += weight[3] * sum(focal(x, k == right) for k, x in enumerate(row))
            count[i].append(background and m < 0)
    assert len({tuple(column) for column in zip(*[c[:4] for c in count])}) == 4  # every assignment is another
    filtered = sum(sum(c[4:]) for c in count)
    assert 100 < filtered < 3000
    for name, value in losses.items():
        assert float(value.detach()) == pytest.approx(expected[name], rel=1e-4), name


@pytest.mark.parametrize(
    "stage",
    [
        Stage(sample=RandomSampler(count=64, positive_fraction=0.5)),
        Stage(sample=OHEMSampler(count=64)),
        Stage(weigh=ClassBalancedWeights(counts=(0, 5, 10, 20))),
        Stage(cls_loss=QualityFocalLoss(), box_loss=GIoULoss(), box_weight=2.0),
    ],
    ids=repr,
)
def test_slots(stage):
    plain = lively(retinanet()).train()(IMAGES, copy.deepcopy(TARGETS))
    model = lively(retinanet(stage)).train()
    seen = []
    model.treatment.observers.append(lambda *given: seen.append(given[1]))
    losses = model(IMAGES, copy.deepcopy(TARGETS))
    assert losses["classification"] != plain["classification"]
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    (samples,) = seen
    assert samples.labels[samples.generated].all()
    if stage.sample is not None:
        assert (~samples.generated).sum() <= 3 * 64
        torch.testing.assert_close(losses["first_regression"], plain["first_regression"])
    if stage.box_weight is not None:
        assert losses["first_regression"] != plain["first_regression"]


# ---- in the detector ----------------------------------------------------------------------------------------------


def test_keeps_retinanets_weights_and_starts_where_it_reads_straight_on():
    torch.manual_seed(0)
    plain = build("retinanet", classes=3, image_size=(64, 96))
    before = copy.deepcopy(plain.state_dict())
    model = attach(plain, recipes.hsd("dense"))
    after = model.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    features = [torch.randn(1, 64, h, w) for h, w in ((8, 12), (4, 6), (2, 3))]
    head = model.head
    with torch.no_grad():
        towers = [head.classification_head.conv(f) for f in features]
        straight = head.classification_head.cls_logits(head.enhance(towers[2], towers[2]))
        torch.testing.assert_close(
            head.train()(features)["cls_logits"][0, -54:].flatten(),
            straight.permute(0, 2, 3, 1).flatten(),
            rtol=1e-3,
            atol=1e-4,
        )


def test_filters_what_is_background_beyond_doubt():
    model = lively(retinanet(threshold=0.49)).eval()
    model.score_thresh = 0.0
    features = [torch.randn(1, 64, h, w) for h, w in ((8, 12), (4, 6), (2, 3))]
    with torch.no_grad():
        outputs = model.head.train()(features)
        detected = model.head.eval()(features)["cls_logits"]
    easy = outputs["objectness"].sigmoid() <= 0.49
    assert 0.01 < easy.float().mean() < 0.99
    assert (detected[easy.expand_as(detected)] == -1e4).all()
    hard = ~easy.expand_as(detected)
    torch.testing.assert_close(detected[hard], outputs["cls_logits"][hard])


def test_learns_and_goes_with_the_checkpoint(tmp_path):
    torch.manual_seed(0)
    recipe = recipes.hsd("dense")
    model = attach(build("retinanet", classes=3, image_size=(64, 96)), recipe).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    totals = []
    for _ in range(12):
        losses = model(IMAGES, copy.deepcopy(TARGETS))
        optimizer.zero_grad()
        sum(losses.values()).backward()
        assert all(p.grad is not None for p in model.head.parameters())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0, error_if_nonfinite=True)
        optimizer.step()
        totals.append({name: float(loss.detach()) for name, loss in losses.items()})
    for name in ("objectness", "first_regression", "bbox_regression"):
        assert sum(t[name] for t in totals[-3:]) < 0.9 * sum(t[name] for t in totals[:3]), name
    assert sum(t["classification"] for t in totals[-3:]) < sum(t["classification"] for t in totals[:3])
    torch.save(model.state_dict(), tmp_path / "model.pt")
    other = attach(build("retinanet", classes=3, image_size=(64, 96)), recipe)
    other.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    model.eval().score_thresh = other.score_thresh = 0.02
    with torch.no_grad():
        expected = model(IMAGES)
        assert any(len(found["boxes"]) for found in expected)
        for twin in (other.eval(), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            for one, two in zip(expected, twin(IMAGES)):
                assert all(torch.equal(one[key], two[key]) for key in one)
    with torch.autocast("cpu", torch.bfloat16):
        losses = model.train()(IMAGES, copy.deepcopy(TARGETS))
    assert all(loss.isfinite() and loss.dtype == torch.float32 for loss in losses.values())


def test_no_objects_and_wild_features():
    model = retinanet().train()
    losses = model(IMAGES, [copy.deepcopy(TARGETS[1]) for _ in IMAGES])
    assert all(losses[name] == 0 for name in ("first_regression", "bbox_regression", "objectness"))
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.head.parameters())
    for scale in (1e2, 1e4):
        for layer in (model.head.regression_head.bbox_reg, model.head.second, model.head.object):
            torch.nn.init.normal_(layer.weight, std=scale)
        losses = model(IMAGES, copy.deepcopy(TARGETS))
        assert all(loss.isfinite() for loss in losses.values())
        gradients = torch.autograd.grad(sum(losses.values()), list(model.head.parameters()), allow_unused=True)
        assert all(g.isfinite().all() for g in gradients if g is not None)


def test_other_suppression_and_refusals():
    model = retinanet(Stage(suppress=DIoUSuppression(), score_threshold=0.005)).eval()
    with torch.no_grad():
        assert len(model(IMAGES)[0]["boxes"])
    with pytest.raises(ValueError, match="hierarchical shot head has not"):
        retinanet(Stage(box_loss=KLLoss()))
    with pytest.raises(ValueError, match="head"):
        attach(build("fcos", classes=3), recipes.hsd("dense"))
    for kind in ("ssd", "yolo", "rcnn"):
        with pytest.raises(ValueError, match="RetinaNet"):
            recipes.hsd(kind)
    old = RetinaNetHead(16, 3, 5)
    for options in ({"first": 1.2}, {"regressed": -0.1}, {"classified": 2}, {"threshold": 0.5}, {"ratio": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            HierarchicalShot(old, **options)
