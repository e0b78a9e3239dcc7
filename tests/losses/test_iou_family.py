"""The IoU losses against their formulas box by box, against torchvision, and the properties they promise."""

import math
from itertools import product

import pytest
import torch
import torchvision.ops as ops
from hypothesis import given, settings
from hypothesis import strategies as st

from detbalance import losses
from detbalance.losses import (
    AlphaIoULoss,
    BoundedIoULoss,
    CIoULoss,
    DIoULoss,
    EIoULoss,
    FocalEIoULoss,
    GIoULoss,
    IoULoss,
    SIoULoss,
    WIoULoss,
)


def facts(p, t):
    """What the formulas are made of, in plain Python floats."""
    w, h, wt, ht = p[2] - p[0], p[3] - p[1], t[2] - t[0], t[3] - t[1]
    inner = max(min(p[2], t[2]) - max(p[0], t[0]), 0) * max(min(p[3], t[3]) - max(p[1], t[1]), 0)
    union = w * h + wt * ht - inner
    cw, ch = max(p[2], t[2]) - min(p[0], t[0]), max(p[3], t[3]) - min(p[1], t[1])
    dx, dy = (p[0] + p[2] - t[0] - t[2]) / 2, (p[1] + p[3] - t[1] - t[3]) / 2
    return w, h, wt, ht, inner / union, union, cw, ch, dx, dy


def gap(f):
    return (f[6] * f[7] - f[5]) / (f[6] * f[7])


def distance(f):
    return (f[8] ** 2 + f[9] ** 2) / (f[6] ** 2 + f[7] ** 2)


def aspect(f):
    v = 4 / math.pi**2 * (math.atan(f[2] / f[3]) - math.atan(f[0] / f[1])) ** 2
    return v * v / (1 - f[4] + v)


def efficient(f):
    w, h, wt, ht, iou, _, cw, ch, _, _ = f
    return 1 - iou + distance(f) + (w - wt) ** 2 / cw**2 + (h - ht) ** 2 / ch**2


def scylla(f, theta=4):
    w, h, wt, ht, iou, _, cw, ch, dx, dy = f
    angle = 1 - 2 * math.sin(math.asin(abs(dy) / math.hypot(dx, dy)) - math.pi / 4) ** 2
    away = sum(1 - math.exp(-(2 - angle) * r) for r in ((dx / cw) ** 2, (dy / ch) ** 2))
    shape = sum((1 - math.exp(-abs(a - b) / max(a, b))) ** theta for a, b in ((w, wt), (h, ht)))
    return 1 - iou + (away + shape) / 2


def bounded(f, beta, factor):
    w, h, wt, ht, *_, dx, dy = f
    best = [max(0, (s - 2 * abs(d)) / (s + 2 * abs(d))) for s, d in ((wt, dx), (ht, dy))]
    best += [min(w / wt, wt / w), min(h / ht, ht / h)]
    return sum(factor * (0.5 * e * e / beta if e < beta else e - 0.5 * beta) for e in (1 - b for b in best))


def wise(f, version, mean=1.0):
    loss = 1 - f[4]
    beta = loss / mean
    focus = {1: 1, 2: beta**0.5, 3: beta / (3 * 1.9 ** (beta - 3))}[version]
    return focus * math.exp(distance(f)) * loss


CASES = [
    (IoULoss(), lambda f: -math.log(max(f[4], 1e-6))),
    (IoULoss(mode="linear"), lambda f: 1 - f[4]),
    (IoULoss(mode="square"), lambda f: 1 - f[4] ** 2),
    (GIoULoss(), lambda f: 1 - f[4] + gap(f)),
    (DIoULoss(), lambda f: 1 - f[4] + distance(f)),
    (CIoULoss(), lambda f: 1 - f[4] + distance(f) + aspect(f)),
    (CIoULoss(aspect_from=0.5), lambda f: 1 - f[4] + distance(f) + (aspect(f) if f[4] >= 0.5 else 0)),
    (EIoULoss(), efficient),
    (FocalEIoULoss(), lambda f: f[4] ** 0.5 * efficient(f)),
    (SIoULoss(), scylla),
    (SIoULoss(theta=2), lambda f: scylla(f, 2)),
    (AlphaIoULoss(base="iou"), lambda f: 1 - f[4] ** 3),
    (AlphaIoULoss(base="giou", alpha=2), lambda f: 1 - f[4] ** 2 + gap(f) ** 2),
    (AlphaIoULoss(base="diou"), lambda f: 1 - f[4] ** 3 + distance(f) ** 3),
    (AlphaIoULoss(), lambda f: 1 - f[4] ** 3 + distance(f) ** 3 + aspect(f) ** 3),
    (BoundedIoULoss(), lambda f: bounded(f, 1, 2)),
    (BoundedIoULoss(beta=0.2, factor=1), lambda f: bounded(f, 0.2, 1)),
    (WIoULoss(version=1).eval(), lambda f: wise(f, 1)),
    (WIoULoss(version=2).eval(), lambda f: wise(f, 2)),
    (WIoULoss().eval(), lambda f: wise(f, 3)),
]
LOSSES = [loss for loss, _ in CASES]
NAMES = [repr(loss) for loss in LOSSES]
# A factor of these is held constant in the gradient, so finite differences of the value are not the gradient.
HELD = (CIoULoss, FocalEIoULoss, WIoULoss)


def held(loss):
    return isinstance(loss, HELD) or (isinstance(loss, AlphaIoULoss) and loss.base == "ciou")


def pairs(count=60, seed=0):
    """Proper boxes; in the second half many do not overlap."""
    generator = torch.Generator().manual_seed(seed)
    corner, size, shift, growth = torch.rand(4, count, 2, generator=generator, dtype=torch.float64)
    corner, size = 10 * corner, 1 + 9 * size
    boxes = torch.cat((corner, corner + size), 1)
    shift = (shift - 0.5) * torch.linspace(1, 40, count, dtype=torch.float64)[:, None]
    truth = torch.cat((corner + shift, corner + shift + size * (0.5 + growth)), 1)
    return boxes.requires_grad_(), truth


@pytest.mark.parametrize(("loss", "formula"), CASES, ids=NAMES)
def test_equals_the_formula(loss, formula):
    boxes, truth = pairs()
    expected = [formula(facts(p, t)) for p, t in zip(boxes.tolist(), truth.tolist())]
    value = loss(boxes, truth)
    assert value.shape == (60,)
    torch.testing.assert_close(value.detach(), torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("loss", [loss for loss in LOSSES if not held(loss)], ids=repr)
def test_gradient_by_finite_differences(loss):
    boxes, truth = pairs(30)
    assert torch.autograd.gradcheck(lambda b: loss(b, truth), boxes)


@pytest.mark.parametrize("loss", [loss for loss in LOSSES if held(loss)], ids=repr)
def test_gradient_with_the_factor_held(loss):
    """Finite differences of the formula in which the constant factor keeps its value."""
    boxes, truth = pairs(30)
    (gradient,) = torch.autograd.grad(loss(boxes, truth).sum(), boxes)
    for row, (p, t) in enumerate(zip(boxes.tolist(), truth.tolist())):
        for k in range(4):
            low, high = ([x + s * 1e-6 * (i == k) for i, x in enumerate(p)] for s in (-1, 1))
            slope = (frozen(loss, high, p, t) - frozen(loss, low, p, t)) / 2e-6
            assert gradient[row, k].item() == pytest.approx(slope, rel=1e-4, abs=1e-7)


def frozen(loss, moved, start, truth):
    now, then = facts(moved, truth), facts(start, truth)

    def half_frozen_aspect():
        v = [4 / math.pi**2 * (math.atan(f[2] / f[3]) - math.atan(f[0] / f[1])) ** 2 for f in (now, then)]
        return v[0] * v[1] / (1 - then[4] + v[1])

    if isinstance(loss, FocalEIoULoss):
        return then[4] ** 0.5 * efficient(now)
    if isinstance(loss, CIoULoss):
        return 1 - now[4] + distance(now) + (half_frozen_aspect() if then[4] >= loss.aspect_from else 0)
    if isinstance(loss, AlphaIoULoss):
        return 1 - now[4] ** 3 + distance(now) ** 3 + half_frozen_aspect() ** 3
    away = math.exp((now[8] ** 2 + now[9] ** 2) / (then[6] ** 2 + then[7] ** 2))
    return wise(then, loss.version) / wise(then, 1) * away * (1 - now[4])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (GIoULoss(), ops.generalized_box_iou_loss),
        (DIoULoss(), ops.distance_box_iou_loss),
        (CIoULoss(), ops.complete_box_iou_loss),
    ],
    ids=lambda value: getattr(value, "__name__", repr(value)),
)
def test_equals_torchvision(ours, theirs):
    boxes, truth = pairs(200)
    values = ours(boxes, truth), theirs(boxes, truth)
    torch.testing.assert_close(*values, atol=1e-6, rtol=1e-6)
    gradients = (torch.autograd.grad(v.sum(), boxes)[0] for v in values)
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("loss", LOSSES, ids=NAMES)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_unchanged_when_both_boxes_are_moved_or_scaled(loss, scale):
    boxes, truth = pairs()
    shift = torch.tensor([7.0, -11, 7, -11], dtype=torch.float64)
    torch.testing.assert_close(loss(scale * (boxes + shift), scale * (truth + shift)), loss(boxes, truth))


@pytest.mark.parametrize("loss", LOSSES, ids=NAMES)
def test_the_perfect_box_costs_nothing(loss):
    _, truth = pairs()
    torch.testing.assert_close(loss(truth, truth), torch.zeros(60, dtype=torch.float64))


@pytest.mark.parametrize("loss", LOSSES, ids=NAMES)
@pytest.mark.parametrize("direction", [(1, 0), (0, 1), (1, 1), (2, 1)])
def test_gradient_descent_draws_a_shifted_box_back(loss, direction):
    shift = torch.linspace(0.05, 9.5, 60, dtype=torch.float64).requires_grad_()
    way = torch.tensor([*direction, *direction], dtype=torch.float64)
    truth = torch.tensor([[10.0, 10, 30, 20]], dtype=torch.float64).expand(60, 4)
    value = loss(truth + shift[:, None] * way, truth)
    (slope,) = torch.autograd.grad(value.sum(), shift)
    assert (slope >= 0).all()
    assert (slope[:20] > 0).all()
    if not isinstance(loss, FocalEIoULoss) and not (isinstance(loss, WIoULoss) and loss.version == 3):
        assert (value.diff() >= -1e-12).all()  # the value itself rises, save where a weight falls with the IoU


@pytest.mark.parametrize(
    "loss", [GIoULoss(), DIoULoss(), CIoULoss(), EIoULoss(), SIoULoss(), WIoULoss().eval()], ids=repr
)
def test_boxes_that_do_not_overlap_are_drawn_together(loss):
    boxes = torch.tensor([[0.0, 0, 2, 2]], requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(boxes, torch.tensor([[10.0, 0, 12, 2]])).sum(), boxes)
    assert gradient[0, 0] + gradient[0, 2] < 0


BOX_LOSSES = [getattr(losses, name) for name in losses.__all__ if hasattr(getattr(losses, name), "space")]
XYXY = [cls for cls in BOX_LOSSES if cls.space == "xyxy"]
number = st.one_of(
    st.sampled_from([0.0, 1e-7, 1e-3, 1.0, 100.0, 6e4, 1e6]), st.floats(-1e6, 1e6, width=32, allow_subnormal=False)
)
length = st.one_of(st.sampled_from([0.0, 1e-7, 1e-3, 1.0, 1e6]), st.floats(0, 1e6, width=32, allow_subnormal=False))
box = st.tuples(number, number, length, length).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))


@settings(max_examples=60, deadline=None)
@given(pair=st.one_of(st.tuples(box, box), box.map(lambda b: (b, b))))
def test_finite_value_and_gradient_everywhere(pair):
    for cls in XYXY:
        check_finite(cls(), pair, torch.float32)


@pytest.mark.parametrize("cls", XYXY)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_finite_in_every_precision(cls, dtype):
    ends = [
        (0, 0, 0, 0),
        (5, 5, 5, 9),
        (0, 0, 8, 8),
        (6e4, 6e4, 6e4, 6e4),
        (0, 0, 6e4, 6e4),
        (2, 2, 2.01, 2.01),
        (0, 0, 1e-20, 1e-20),
    ]
    for pair in product([*ends, (9, 9, 5, 5)], repeat=2):
        check_finite(cls(), pair, dtype)


def check_finite(loss, pair, dtype):
    predicted, target = (torch.tensor([b], dtype=dtype) for b in pair)
    predicted.requires_grad_()
    value = loss(predicted, target)
    value.sum().backward()
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.isfinite(value).all(), (loss, pair)
    assert torch.isfinite(predicted.grad).all(), (loss, pair)


@pytest.mark.parametrize("cls", BOX_LOSSES)
def test_no_rows(cls):
    predicted = torch.zeros(0, 4, requires_grad=True)
    value = cls()(predicted, torch.zeros(0, 4))
    assert value.shape == (0,)
    value.sum().backward()


@pytest.mark.parametrize("cls", BOX_LOSSES)
def test_rows_are_independent_of_their_order(cls):
    boxes, truth = pairs()
    order = torch.randperm(60)
    torch.testing.assert_close(cls()(boxes[order], truth[order]), cls()(boxes, truth)[order])


@pytest.mark.parametrize(
    ("cls", "setting"),
    [
        (IoULoss, {"mode": "log2"}),
        (CIoULoss, {"aspect_from": 2}),
        (FocalEIoULoss, {"gamma": -1}),
        (SIoULoss, {"theta": 1}),
        (AlphaIoULoss, {"alpha": 0.5}),
        (AlphaIoULoss, {"base": "eiou"}),
        (BoundedIoULoss, {"beta": -1}),
        (BoundedIoULoss, {"factor": 0}),
        (WIoULoss, {"version": 4}),
        (WIoULoss, {"momentum": 0}),
    ],
)
def test_settings_out_of_range_are_refused(cls, setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        cls(**setting)
