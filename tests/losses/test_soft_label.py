"""Soft labels about the threshold: the expected loss written out, alone and in the detectors."""

import copy
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from detbalance import Recipe, Stage, attach, recipes
from detbalance.assigners import MaxIoUAssigner
from detbalance.detectors import build
from detbalance.losses import APLoss, CrossEntropyLoss, FocalLoss, GHMCLoss, SoftLabelLoss
from detbalance.types import Samples

IMAGES = [torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(i)) for i in range(2)]
TARGETS = [
    {"boxes": torch.tensor([[10.0, 10, 40, 44], [42, 20, 80, 56]]), "labels": torch.tensor([1, 2])},
    {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)},
]


def samples(iou, labels, matched, image=None):
    """Rows of which only labels, objects and IoUs matter."""
    count = len(iou)
    number = torch.zeros(count, dtype=torch.long)
    boxes = torch.tensor([[0.0, 0, 10, 10]]).expand(count, 4)
    return Samples(
        logits=torch.zeros(count, 4),
        labels=torch.tensor(labels, dtype=torch.long),
        deltas=boxes * 0,
        codes=boxes * 0,
        boxes=boxes,
        truth=boxes,
        iou=torch.tensor(iou, dtype=torch.float32),
        image=number if image is None else torch.tensor(image),
        level=number,
        norm=torch.ones(count),
        matched=torch.tensor(matched, dtype=torch.long),
    )


def test_label_grows_over_the_band_and_the_best_is_certain():
    rows = samples(
        [0.3, 0.4, 0.45, 0.5, 0.58, 0.7, 0.2, 0.44, 0.1],
        [1, 1, 1, 1, 1, 1, 2, 2, 0],
        [0, 0, 0, 0, 0, 0, 1, 1, -1],
    )
    share = SoftLabelLoss().soften(rows)
    torch.testing.assert_close(share, torch.tensor([0, 0, 0.25, 0.5, 0.9, 1, 0, 1, 0]))
    torch.testing.assert_close(SoftLabelLoss(width=0).soften(rows), torch.tensor([0.0, 0, 0, 1, 1, 1, 0, 1, 0]))
    # The same object number in two images is two objects.
    share = SoftLabelLoss().soften(samples([0.45, 0.41], [1, 1], [0, 0], image=[0, 1]))
    assert share.tolist() == [1, 1]
    u = torch.linspace(0, 1, 41).tolist()
    assert (SoftLabelLoss(width=0.3).soften(samples(u, [1] * 41, [0] * 41)).diff() >= 0).all()
    assert SoftLabelLoss().soften(samples([], [], [])).shape == (0,)


@pytest.mark.parametrize("softmax", [False, True])
def test_expected_loss_and_gradient(softmax):
    torch.manual_seed(0)
    logits = (2 * torch.randn(20, 4, dtype=torch.float64)).requires_grad_()
    labels, share = torch.randint(0, 4, (20,)), torch.rand(20, dtype=torch.float64)
    share[:3] = torch.tensor([0.0, 1.0, 0.5])
    target = torch.zeros(20, 4, dtype=torch.float64)
    for n, (label, y) in enumerate(zip(labels.tolist(), share.tolist())):
        if label:
            target[n, label] = y
        if softmax:
            target[n, 0] = 1 - y if label else 1.0
    loss = SoftLabelLoss(base=FocalLoss(gamma=1.5, alpha=0.3, softmax=softmax))
    value = loss(logits, target)
    value = value.sum(1) if value.dim() == 2 else value
    (gradient,) = torch.autograd.grad(value.sum(), logits)

    def once(row, column):
        """Focal loss of one row of which one column (or none) is true."""
        if softmax:
            p = math.exp(row[column]) / sum(math.exp(x) for x in row)
            return -(0.7 if column == 0 else 0.3) * (1 - p) ** 1.5 * math.log(p)
        total = 0.0
        for k, x in enumerate(row):
            p = 1 / (1 + math.exp(-x))
            total -= 0.3 * (1 - p) ** 1.5 * math.log(p) if k == column else 0.7 * p**1.5 * math.log(1 - p)
        return total

    nobody = 0 if softmax else None

    def expected(row, label, y):
        return y * once(row, label) + (1 - y) * once(row, nobody) if label else once(row, nobody)

    for n, row in enumerate(logits.tolist()):
        given = labels[n].item(), share[n].item()
        assert value[n].item() == pytest.approx(expected(row, *given))
        for k in range(4):
            low, high = ([x + s * 1e-6 * (i == k) for i, x in enumerate(row)] for s in (-1, 1))
            slope = (expected(high, *given) - expected(low, *given)) / 2e-6
            assert gradient[n, k].item() == pytest.approx(slope, rel=1e-4, abs=1e-7)


def test_refuses():
    for options in ({"threshold": 1.1}, {"width": -0.1}, {"base": GHMCLoss()}):
        with pytest.raises(ValueError, match=next(iter(options))):
            SoftLabelLoss(**options)
    with pytest.raises(ValueError, match="ranks a set"):
        SoftLabelLoss(base=APLoss())(torch.zeros(3, 2), torch.ones(3, 2))
    with pytest.raises(ValueError, match="softmax"):
        attach(build("ssd", classes=3), Recipe(name="x", stages=Stage(cls_loss=SoftLabelLoss())))


def losses_of(name, stage):
    torch.manual_seed(0)
    model = attach(build(name, classes=3, image_size=(64, 96)), Recipe(name="x", stages=stage)).train()
    torch.manual_seed(0)
    return model, model(IMAGES, copy.deepcopy(TARGETS))


@pytest.mark.parametrize("name", ["retinanet", "ssd", "faster_rcnn"])
def test_no_width_is_the_hard_threshold(name):
    kind = {"retinanet": "dense", "ssd": "ssd"}.get(name, "rcnn")
    stage = recipes.soft_labels(kind).stages
    hard = replace(stage.assign, positive=0.5, negative=0.5)
    base = stage.cls_loss.base
    _, expected = losses_of(name, Stage(assign=hard, cls_loss=base))
    _, found = losses_of(name, Stage(assign=hard, cls_loss=replace(stage.cls_loss, width=0.0)))
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    model, soft = losses_of(name, stage)
    key = next(key for key in soft if "classif" in key)
    assert soft[key] != expected[key]
    sum(soft.values()).backward()
    treatment = model.roi_heads.treatment if name == "faster_rcnn" else model.treatment
    rows = samples([0.45, 0.55, 0.7, 0.0], [2, 2, 2, 0], [0, 0, 0, -1])
    rows = replace(rows, logits=torch.randn(4, 4), softmax=name != "retinanet")
    hard = base(rows.logits, rows.onehot()), base(rows.logits, replace(rows, labels=rows.labels * 0).onehot())
    there, absent = (loss.sum(1) if loss.dim() == 2 else loss for loss in hard)
    share = torch.tensor([0.25, 0.75, 1, 0])
    torch.testing.assert_close(treatment.class_rows(rows), share * there + (1 - share) * absent)
    _, nothing = losses_of(name, replace(stage, assign=MaxIoUAssigner(positive=1, negative=1, low_quality=False)))
    assert nothing[key].isfinite()


def test_is_what_a_loss_of_the_targets_mixture_is_for_cross_entropy():
    """Cross-entropy is linear in its target, so there it is the loss of the soft target itself."""
    torch.manual_seed(0)
    logits, y = torch.randn(9, 3), torch.rand(9)
    target = torch.zeros(9, 3)
    target[:, 1] = y
    found = SoftLabelLoss(base=CrossEntropyLoss())(logits, target)
    torch.testing.assert_close(found, F.binary_cross_entropy_with_logits(logits, target, reduction="none"))
