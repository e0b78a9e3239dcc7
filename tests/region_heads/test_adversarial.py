"""A-Fast-RCNN: the window that hurts most, what is hidden, what is turned, and who learns from what."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from detbalance import Recipe, attach, recipes
from detbalance.detectors import build
from detbalance.region_heads import AdversarialExamples
from detbalance.region_heads.adversarial import hardest_window, sampled_mask, turned

SIZE = (64, 96)
TARGETS = [
    {"boxes": torch.tensor([[10.0, 10, 40, 44], [42, 20, 60, 32]]), "labels": torch.tensor([1, 2])},
    {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)},
]


def detector(**settings):
    torch.manual_seed(0)
    model = build("faster_rcnn", classes=3, image_size=SIZE)
    return attach(model.train(), Recipe(name="mine", region=AdversarialExamples(**settings)))


def run(model, targets=TARGETS, seed=1):
    images = [torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    torch.manual_seed(seed)
    return model(images, copy.deepcopy(targets))


def opponent_of(model):
    return model.roi_heads.box_roi_pool.opponent


def gradients(model, name, loss):
    model.zero_grad()
    loss.backward(retain_graph=True)
    own = {n: p.grad for n, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    inside = {n for n in own if ".opponent." in n}
    return inside, set(own) - inside


@pytest.mark.parametrize("side", [1, 2, 5])
def test_window_is_the_one_of_a_double_loop_through_the_head(side):
    torch.manual_seed(0)
    model = build("faster_rcnn", classes=3, image_size=SIZE).double()
    head, predictor = model.roi_heads.box_head, model.roi_heads.box_predictor
    predictor.cls_score.weight.data.mul_(30)
    x, labels = torch.randn(4, 64, 5, 5, dtype=torch.float64), torch.tensor([1, 2, 3, 1])
    with torch.no_grad():
        found = hardest_window(
            x, side, lambda changed: F.cross_entropy(predictor(head(changed))[0], labels, reduction="none")
        )
        for region, label, window in zip(x, labels, found):
            worst, at = -math.inf, None
            for top in range(6 - side):
                for left in range(6 - side):
                    changed = region.clone()
                    changed[:, top : top + side, left : left + side] = 0
                    loss = F.cross_entropy(predictor(head(changed[None]))[0], label[None]).item()
                    if loss > worst + 1e-12:
                        worst, at = loss, (top, left)
            expected = torch.zeros(5, 5, dtype=torch.bool)
            expected[at[0] : at[0] + side, at[1] : at[1] + side] = True
            assert window.equal(expected)


def test_a_third_of_the_upper_half_is_hidden_each_of_it_alike():
    torch.manual_seed(0)
    heat = torch.arange(36.0).reshape(1, 6, 6).expand(3000, 6, 6)
    kept = sampled_mask(heat, 0.5, 1 / 3)
    assert ((kept == 0).flatten(1).sum(1) == 6).all()
    hidden = (kept == 0).float().mean(0).flatten()
    assert (hidden[:18] == 0).all()
    assert (hidden[18:] - 1 / 3).abs().max() < 0.04  # 4.6 standard deviations of 3000 draws


@pytest.mark.parametrize("shape", [(5, 5), (4, 8)])
def test_turns_each_block_by_its_own_angle(shape):
    x = torch.rand(2, 8, *shape, dtype=torch.float64)
    none = torch.zeros(2, 4, dtype=torch.float64)
    torch.testing.assert_close(turned(x, none), x)
    angles = none.clone()
    angles[1, 2] = math.pi
    found = turned(x, angles)
    expected = x.clone()
    expected[1, 4:6] = x[1, 4:6].flip(1, 2)
    torch.testing.assert_close(found, expected)


def test_turning_samples_where_a_rotation_of_the_pixels_says():
    x, angle = torch.rand(1, 4, 6, 10, dtype=torch.float64), 0.3
    found = turned(x, torch.full((1, 4), angle, dtype=torch.float64))[0]
    for i in range(6):
        for j in range(10):
            y, z = i - 2.5, j - 4.5
            across = math.cos(angle) * z - math.sin(angle) * y + 4.5
            down = math.sin(angle) * z + math.cos(angle) * y + 2.5
            value = torch.zeros(4, dtype=torch.float64)
            for row in (math.floor(down), math.floor(down) + 1):
                for column in (math.floor(across), math.floor(across) + 1):
                    if 0 <= row < 6 and 0 <= column < 10:
                        value += x[0, :, row, column] * (1 - abs(down - row)) * (1 - abs(across - column))
            torch.testing.assert_close(found[:, i, j], value)


def test_who_learns_from_what():
    model = detector(start=0)
    losses = run(model)
    inside, outside = gradients(model, "hiding", losses["loss_hiding"])
    assert inside
    assert all("hiding" in name for name in inside)
    assert not outside
    inside, outside = gradients(model, "class", losses["loss_hard_classifier"])
    assert all("turning" in name for name in inside)
    assert inside
    assert any("backbone" in name for name in outside)
    assert any("box_predictor" in name for name in outside)
    inside, outside = gradients(model, "boxes", losses["loss_hard_box_reg"])
    assert not inside
    assert outside


def test_the_opponent_alone_learns_at_first():
    model = detector(start=2)
    for step in range(3):
        losses = run(model)
        loss = losses["loss_hard_classifier"] + losses["loss_hard_box_reg"] + losses["loss_hiding"]
        inside, outside = gradients(model, "all", loss)
        assert inside
        assert bool(outside) == (step == 2)
    assert int(opponent_of(model).steps) == 3


def test_the_opponent_raises_what_the_detector_lowers():
    """A step along the gradient of the opponent's parameters alone raises the loss, one of the detector's lowers it."""
    for part, sign in (("opponent", 1), ("box_predictor", -1)):
        model = detector(start=0, hide=False, degrees=60.0)
        before = run(model)["loss_hard_classifier"]
        before.backward()
        with torch.no_grad():
            for name, p in model.named_parameters():
                if part in name and p.grad is not None:
                    p -= (3e-2 if part == "opponent" else 1e-3) * p.grad / p.grad.norm().clamp(min=1e-12)
        after = run(model)["loss_hard_classifier"]
        assert sign * (after - before) > 0


def test_without_either_the_losses_are_those_of_the_objects_regions():
    model, seen = detector(hide=False, turn=False, start=0), []
    model.roi_heads.treatment.observers.append(lambda head, samples, losses, rows: seen.append((samples, rows)))
    losses = run(model)
    samples, rows = seen[-1]
    values, norm = rows["loss_classifier"]
    torch.testing.assert_close(losses["loss_hard_classifier"], (values * norm)[samples.positive].sum())
    torch.testing.assert_close(losses["loss_hard_box_reg"], losses["loss_box_reg"])


def test_nothing_is_left_in_detection():
    plain, model = build("faster_rcnn", classes=3, image_size=SIZE), detector()
    plain.load_state_dict(model.state_dict(), strict=False)
    image = [torch.rand(3, *SIZE)]
    with torch.no_grad():
        for found, expected in zip(model.eval()(image), plain.eval()(image)):
            assert all(found[key].equal(expected[key]) for key in expected)


def test_a_pool_of_more_than_maps_is_refused():
    first = recipes.get("scale_dependent_pooling+adversarial", "rcnn")
    model = attach(build("faster_rcnn", classes=3, image_size=SIZE).train(), first)
    with pytest.raises(ValueError, match="more than a map"):
        run(model)


@pytest.mark.parametrize("name", ["adversarial", "adversarial_dropout", "adversarial_transformer"])
def test_one_stage_detectors_have_no_regions(name):
    for kind in ("dense", "ssd", "yolo"):
        with pytest.raises(ValueError, match="two-stage"):
            recipes.get(name, kind)


def test_settings_out_of_range():
    for settings in ({"window": 0}, {"upper": 1.5}, {"hidden": 0}, {"degrees": -1}, {"weight": -1}, {"start": -1}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            AdversarialExamples(**settings)
