"""CombinedBoxLoss: each part against a naive reading, and with parts off the losses that it is made of."""

import math

import pytest
import torch
from torchvision.models.detection._utils import BoxCoder

from detbalance import attach, recipes
from detbalance.adapters.variance import CornerCoder
from detbalance.detectors import build
from detbalance.losses import BalancedL1Loss, CombinedBoxLoss, GIoULoss, IoULoss, KLLoss, SmoothL1Loss

RCNN = (10.0, 10.0, 5.0, 5.0)


def codes(count=40, weights=(1.0,) * 4):
    generator = torch.Generator().manual_seed(0)
    scale = 0.4 * torch.tensor(weights, dtype=torch.float64)
    predicted, target = scale * torch.randn(2, count, 4, generator=generator, dtype=torch.float64)
    predicted[0], predicted[1] = target[0], target[1] + torch.tensor([3.0, 0, 0, 0])  # right; far beside
    return predicted.requires_grad_(), target


def anchors(count=40):
    generator = torch.Generator().manual_seed(1)
    corner = 100 * torch.rand(count, 2, generator=generator, dtype=torch.float64)
    return torch.cat((corner, corner + 5 + 40 * torch.rand(count, 2, generator=generator, dtype=torch.float64)), 1)


def naive(predicted, target, spread, *, inliers, giou, weights, beta, alpha=0.5, gamma=1.5):
    """One pair, in plain Python: 6.5.1 with equations of Libra, KL loss and GIoU."""
    total, b = 0.0, math.e ** (gamma / alpha) - 1
    for p, t, s in zip(predicted, target, spread):
        d = abs(p - t)
        if not inliers:
            rho = 0.5 * d * d / beta if d < beta else d - 0.5 * beta
        elif d < beta:
            rho = alpha / b * (b * d + 1) * math.log(b * d / beta + 1) - alpha * d
        else:
            rho = gamma * d + gamma / b - alpha * beta
        total += math.exp(-s) * rho + s / 2
    if not giou:
        return total
    (l1, t1, r1, b1), (l2, t2, r2, b2) = (box([c / w for c, w in zip(code, weights)]) for code in (predicted, target))
    inner = max(0, min(r1, r2) - max(l1, l2)) * max(0, min(b1, b2) - max(t1, t2))
    union = (r1 - l1) * (b1 - t1) + (r2 - l2) * (b2 - t2) - inner
    hull = (max(r1, r2) - min(l1, l2)) * (max(b1, b2) - min(t1, t2))
    return total + 1 - inner / union + (hull - union) / hull


def box(code):
    """Of an anchor of 8 x 20 at (3, 5): any anchor gives the same GIoU."""
    x, y, w, h = 3 + 8 * code[0], 5 + 20 * code[1], 8 * math.exp(code[2]), 20 * math.exp(code[3])
    return x - w / 2, y - h / 2, x + w / 2, y + h / 2


@pytest.mark.parametrize("weights", [(1.0,) * 4, RCNN])
@pytest.mark.parametrize("giou", [False, True])
@pytest.mark.parametrize("inliers", [False, True])
def test_equals_the_naive_reading(inliers, giou, weights):
    predicted, target = codes(weights=weights)
    spread = torch.linspace(-1, 1, 160, dtype=torch.float64).reshape(40, 4).requires_grad_()
    loss = CombinedBoxLoss(inliers=inliers, overlap=float(giou), beta=0.8, weights=weights)
    value = loss(predicted, target, spread)
    rows = zip(predicted.tolist(), target.tolist(), spread.tolist())
    expected = [naive(*row, inliers=inliers, giou=giou, weights=weights, beta=0.8) for row in rows]
    torch.testing.assert_close(value.detach(), torch.tensor(expected, dtype=torch.float64))
    away = predicted.detach()[2:].requires_grad_()  # the first two lie where the slope jumps
    assert torch.autograd.gradcheck(lambda p, s: loss(p, target[2:], s), (away, spread.detach()[2:].requires_grad_()))


@pytest.mark.parametrize(
    ("settings", "known"),
    [
        ({"inliers": False, "ambiguity": False, "overlap": 0.0}, SmoothL1Loss(beta=0.3)),
        ({"ambiguity": False, "overlap": 0.0}, BalancedL1Loss(beta=0.3)),
        ({"overlap": 0.0}, BalancedL1Loss(beta=0.3)),  # a variance of 1
    ],
)
def test_with_parts_off_it_is_a_known_loss(settings, known):
    predicted, target = codes()
    values = CombinedBoxLoss(beta=0.3, **settings)(predicted, target), known(predicted, target)
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*(torch.autograd.grad(v.sum(), predicted)[0] for v in values))


@pytest.mark.parametrize(("metric", "known"), [("giou", GIoULoss()), ("iou", IoULoss(mode="linear"))])
@pytest.mark.parametrize("weights", [(1.0,) * 4, RCNN])
def test_overlap_alone_is_that_of_the_decoded_boxes(metric, known, weights):
    predicted, target = codes(weights=weights)
    boxes = [BoxCoder(weights).decode_single(code, anchors()) for code in (predicted, target)]
    loss = CombinedBoxLoss(coordinates=0.0, metric=metric, weights=weights)
    values = loss(predicted, target), known(*boxes)
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*(torch.autograd.grad(v.sum(), predicted)[0] for v in values))


def test_the_region_head_s_variance_and_code_of_corners():
    predicted, target = codes(weights=(10.0,) * 4)
    spread = torch.linspace(-1, 1, 160, dtype=torch.float64).reshape(40, 4)
    alone = CombinedBoxLoss(inliers=False, overlap=0.0, variance="box", weights=(10.0,) * 4)
    torch.testing.assert_close(alone(predicted, target, spread), KLLoss()(predicted, target, spread))
    torch.testing.assert_close(alone(predicted, target), KLLoss()(predicted, target))
    coder = CornerCoder((10.0,) * 4)
    boxes = [coder.decode_single(code, anchors()) for code in (predicted, target)]
    overlap = CombinedBoxLoss(coordinates=0.0, variance="box", weights=(10.0,) * 4)
    values = overlap(predicted, target, spread), GIoULoss()(*boxes)
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*(torch.autograd.grad(v.sum(), predicted)[0] for v in values))
    assert not alone.state_dict()


def test_the_parts_add_up():
    predicted, target = codes()
    whole = CombinedBoxLoss(overlap=2.0, coordinates=0.5)(predicted, target)
    parts = CombinedBoxLoss(overlap=0.0)(predicted, target), CombinedBoxLoss(coordinates=0.0)(predicted, target)
    torch.testing.assert_close(whole, 0.5 * parts[0] + 2 * parts[1])


def test_learns_the_variance_of_each_coordinate():
    generator = torch.Generator().manual_seed(0)
    noise = torch.tensor([0.05, 0.5, 0.05, 0.5]) * torch.randn(4000, 4, generator=generator)
    loss = CombinedBoxLoss(inliers=False, overlap=0.0, beta=100.0)  # a parabola: the least is at the variance
    optimizer = torch.optim.SGD(loss.parameters(), lr=1.0)
    for _ in range(200):
        optimizer.zero_grad()
        (100 * loss(noise, torch.zeros_like(noise))).mean().mul(0.01).backward()
        optimizer.step()
    torch.testing.assert_close(loss.log_variance.exp().detach(), noise.square().mean(0) / 100, rtol=0.02, atol=1.5e-3)


def test_an_extreme_variance_stays_finite():
    predicted, target = codes(3)
    spread = torch.tensor([[1e4] * 4, [-1e4] * 4, [0.0] * 4]).requires_grad_()
    value = CombinedBoxLoss()(predicted, target, spread)
    value.sum().backward()
    assert value.isfinite().all()
    assert predicted.grad.isfinite().all()
    assert spread.grad.isfinite().all()


def test_only_ambiguity_has_parameters():
    assert [name for name, _ in CombinedBoxLoss().named_parameters()] == ["log_variance"]
    assert not CombinedBoxLoss(ambiguity=False).state_dict()


@pytest.mark.parametrize(
    "setting",
    [
        {"overlap": -1},
        {"overlap": 0, "coordinates": 0},
        {"metric": "diou"},
        {"variance": "each"},
        {"weights": (1.0,)},
        {"beta": 0},
    ],
)
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        CombinedBoxLoss(**setting)


@pytest.mark.parametrize(("detector", "kind"), [("retinanet", "dense"), ("ssd", "ssd"), ("faster_rcnn", "rcnn")])
def test_recipe_trains_its_variance(detector, kind):
    torch.manual_seed(0)
    model = attach(build(detector, classes=3, image_size=(64, 96)).train(), recipes.get("combined_box_loss", kind))
    boxes = torch.tensor([[10.0, 10, 34, 34], [40, 20, 72, 52], [60, 5, 90, 25]])
    losses = model([torch.rand(3, 64, 96)], [{"boxes": boxes, "labels": torch.tensor([1, 2, 3])}])
    sum(losses.values()).backward()
    learnt = [p for name, p in model.named_parameters() if "log_variance" in name]
    assert len(learnt) == (2 if kind == "rcnn" else 1)
    assert all(p.grad.abs().sum() > 0 for p in learnt)
    with pytest.raises(ValueError, match="combined_box_loss"):
        recipes.get("combined_box_loss", "yolo")
