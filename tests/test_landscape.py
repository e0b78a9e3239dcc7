"""Loss landscapes: curves against closed forms, the simulation against a naive descent, the page and the picture."""

import math

import pytest
import torch
from PIL import Image

from detbalance import report
from detbalance.landscape import COUNTS, QUALITY, find, names, views
from detbalance.losses import ALRPLoss, APLoss, DIoULoss, GIoULoss, IoULoss, L2Loss
from detbalance.report.landscape_png import draw, save_png
from detbalance.simulation import CELLS, RADIUS, simulate

KEYS = {
    "class": ["object", "background"],
    "box": ["error", "shift", "scale", "aspect", "iou"],
    "joint": ["object", "background", "error", "shift", "scale", "aspect", "iou"],
}


def curve(name, key, points=11):
    (view,) = (v for v in views(find([name]), points=points) if v.key == key)
    return view.curves[0]


@pytest.mark.parametrize("name", names())
def test_every_loss_can_be_drawn(name):
    (loss,) = find([name]).values()
    kind = "class" if hasattr(loss, "target_kind") else "box" if hasattr(loss, "space") else "joint"
    drawn = views({name: loss}, points=4)
    learns_iou = getattr(loss, "target_kind", "") == "iou"
    assert [v.key for v in drawn] == KEYS[kind] + ["quality"] * learns_iou
    for c in (c for v in drawn for c in v.curves):
        assert c.name == name
        for column in (c.x, c.value, c.gradient):
            assert column.shape == (4,)
            assert column.isfinite().all()


@pytest.mark.parametrize("softmax", [False, True])
def test_cross_entropy_and_focal_loss_over_the_score(softmax):
    for key, sign in (("object", -1), ("background", 1)):
        c = curve(f"CrossEntropyLoss(softmax={softmax})", key)
        right = c.x if key == "object" else 1 - c.x
        torch.testing.assert_close(c.value, -right.log(), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(c.gradient, sign * (1 - right), atol=1e-4, rtol=1e-4)
    c = curve("FocalLoss(gamma=2.0, alpha=None)", "object")
    torch.testing.assert_close(c.value, -((1 - c.x) ** 2) * c.x.log())


def test_a_loss_that_learns_the_iou_has_its_least_there():
    c = curve("QualityFocalLoss", "object", 201)
    assert c.x[c.value.argmin()] == pytest.approx(QUALITY, abs=0.01)
    c = curve("QualityFocalLoss", "quality", 201)
    assert c.x[c.value.argmin()] == pytest.approx(0.5, abs=0.01)
    assert c.gradient[0] > 0 > c.gradient[-1]


def test_code_and_box_losses_over_one_quantity():
    c = curve("L2Loss", "error")
    torch.testing.assert_close(c.value, c.x**2)
    torch.testing.assert_close(c.gradient, 2 * c.x)
    for key in ("shift", "scale", "aspect"):
        c = curve("L2Loss", key)
        torch.testing.assert_close(c.value, 2 * c.x**2)
    c = curve("IoULoss(mode='linear')", "iou")
    torch.testing.assert_close(c.value, 1 - c.x)
    c = curve("IoULoss(mode='linear')", "scale")
    torch.testing.assert_close(c.value, 1 - torch.exp(-2 * c.x.abs()))
    c = curve("IoULoss(mode='linear')", "aspect")
    inner = torch.exp(-c.x.abs())
    torch.testing.assert_close(c.value, 1 - inner / (2 - inner))


def test_gradients_are_those_of_the_values():
    c = curve("GIoULoss", "scale", 20)  # one box in the other: GIoU is the IoU
    torch.testing.assert_close(c.gradient, 2 * c.x.sign() * torch.exp(-2 * c.x.abs()))
    c = curve("IoULoss(mode='linear')", "iou", 9)  # shifted by s along both: IoU (1 - s)^2 / (2 - (1 - s)^2)
    shared = 2 * c.x / (1 + c.x)
    torch.testing.assert_close(c.gradient, 4 * shared.sqrt() / (2 - shared) ** 2)


def test_a_ranking_loss_moves_one_score_among_others():
    """AP loss by its definition: precision errors of the four positives, the probe among them."""
    c = curve("APLoss", "object", 5)
    (loss,) = find(["APLoss"]).values()
    assert isinstance(loss, APLoss)
    normal = torch.distributions.Normal(0.0, 1.0)
    place = [normal.icdf((torch.arange(n) + 0.5).double() / n) for n in (4, 60)]
    positive, negative = 0.5 + 1.5 * place[0], -3 + 1.5 * place[1]
    for x, value in zip(c.x.logit().tolist(), c.value.tolist()):
        mine = [x, *positive[1:].tolist()]
        total = 0.0
        for s in mine:
            ramp = [[min(max((y - s) / 2 + 0.5, 0), 1) for y in ys] for ys in (mine, negative.tolist())]
            above = sum(ramp[0]) - 0.5 + 1  # itself counts as one, not as a half
            total += sum(ramp[1]) / (above + sum(ramp[1]))
        assert value == pytest.approx(total / 4, abs=2e-3)


def test_a_joint_loss_hears_score_and_box():
    assert isinstance(find(["ALRPLoss"])["ALRPLoss"], ALRPLoss)
    assert (curve("ALRPLoss", "object", 9).gradient <= 0).all()
    assert (curve("ALRPLoss", "background", 9).gradient >= 0).all()
    assert curve("ALRPLoss", "scale", 9).value.argmin() == 4


def test_losses_of_ones_own_are_drawn():
    class Mine:
        space = "code"

        def __call__(self, predicted, target):
            return (predicted - target).abs().sum(1) * 3

    drawn = views({"mine": Mine()}, points=3)
    assert drawn[0].curves[0].value.tolist() == [9.0, 0.0, 9.0]


def test_counts_are_filled_in():
    assert find(["LogitAdjustment"])["LogitAdjustment"].given == COUNTS


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("FocaLoss", r"did you mean FocalLoss\?\); there are ALRPLoss, APLoss"),
        ("FocalLoss(gama=1)", "FocalLoss has no setting 'gama'; it has gamma, alpha, softmax"),
        ("FocalLoss(1)", "expected settings as in"),
        ("FocalLoss(gamma=print)", "expected settings as in"),
        ("FocalLoss(gamma=-1)", "gamma must be"),
        ("__import__('os')", "no loss '__import__'"),
    ],
)
def test_what_does_not_exist_is_refused(given, said):
    with pytest.raises(ValueError, match=said):
        find([given])
    with pytest.raises(ValueError, match="points"):
        views(find(["L1Loss"]), points=1)


def naive(loss, anchor, target, iterations):
    """Algorithm 1 for one box, centre and sides, gradients by central differences."""

    def corners(b):
        return [b[0] - b[2] / 2, b[1] - b[3] / 2, b[0] + b[2] / 2, b[1] + b[3] / 2]

    def iou(b):
        p, t = corners(b), corners(target)
        inner = max(0, min(p[2], t[2]) - max(p[0], t[0])) * max(0, min(p[3], t[3]) - max(p[1], t[1]))
        return inner / (b[2] * b[3] + target[2] * target[3] - inner)

    def value(b):
        rows = (torch.tensor([corners(x)], dtype=torch.float64) for x in (b, target))
        return loss(*rows).item()

    box, errors = list(anchor), []
    for step in range(iterations + 1):
        errors.append(sum(abs(a - b) for a, b in zip(box, target)))
        rate = 0.1 if step < 0.8 * iterations else 0.01 if step < 0.9 * iterations else 0.001
        slopes = []
        for k in range(4):
            high, low = ([x + s * 1e-6 * (i == k) for i, x in enumerate(box)] for s in (1, -1))
            slopes.append((value(high) - value(low)) / 2e-6)
        box = [x - rate * (2 - iou(box)) * s for x, s in zip(box, slopes)]
        box = [*box[:2], *(max(x, 1e-3) for x in box[2:])]
    return errors


@pytest.mark.parametrize("loss", [GIoULoss(), DIoULoss()])
def test_the_simulation_is_algorithm_1(loss, monkeypatch):
    monkeypatch.setattr("detbalance.simulation.RATIOS", (0.5, 3.0))
    monkeypatch.setattr("detbalance.simulation.SCALES", (1.5,))
    monkeypatch.setattr("detbalance.simulation._CHUNK", 2)
    generator = torch.Generator().manual_seed(0)
    radius, angle = torch.rand(2, 3, generator=generator)
    radius = RADIUS * radius.sqrt()
    expected = torch.zeros(11)
    for r, a in zip(radius.tolist(), angle.tolist()):
        for target in (0.5, 3.0):
            for ratio in (0.5, 3.0):
                x, y = r * math.cos(2 * math.pi * a), r * math.sin(2 * math.pi * a)
                anchor = (x, y, math.sqrt(1.5 * ratio), math.sqrt(1.5 / ratio))
                goal = (0.0, 0.0, math.sqrt(target), math.sqrt(1 / target))
                expected += torch.tensor(naive(loss, anchor, goal, 10)) / 12
    found = simulate({"it": loss}, points=3, iterations=10)["it"]
    torch.testing.assert_close(found.error.float(), expected, rtol=1e-3, atol=1e-3)
    assert found.place.shape == (CELLS, CELLS)
    assert 1 <= found.place.isfinite().sum() <= 3


def test_the_simulation_is_decided_by_its_seed_and_leaves_class_losses_out():
    losses = find(["FocalLoss", "L2Loss", "IoULoss", "WIoULoss"])
    done = []
    a = simulate(losses, points=2, iterations=5, progress=lambda now, total: done.append((now, total)))
    assert list(a) == ["L2Loss", "IoULoss", "WIoULoss"]
    assert done[-1] == (15, 15)
    b, c = (simulate({"L2Loss": L2Loss()}, points=2, iterations=5, seed=s)["L2Loss"] for s in (0, 1))
    assert a["L2Loss"].error.equal(b.error)
    assert not b.error.equal(c.error)
    assert b.error[0] > b.error[-1]
    with pytest.raises(ValueError, match="iterations"):
        simulate(losses, iterations=0)


def test_boxes_that_collapse_stay_finite():
    found = simulate({"log": IoULoss(), "L2": L2Loss()}, points=3, iterations=60)
    assert all(d.error.isfinite().all() for d in found.values())


def test_page_and_picture(tmp_path):
    chosen = find(["FocalLoss", "L2Loss", "GIoULoss"])
    drawn, descents = views(chosen, points=5), simulate(chosen, points=2, iterations=4)
    html = report.landscape_page(drawn, descents)
    assert "<title>FocalLoss, L2Loss and GIoULoss</title>" in html
    for text in ('id="object"', 'id="iou"', 'id="simulation"', "GIoULoss: error at the end"):
        assert text in html
    assert 'id="simulation"' not in report.landscape_page(drawn)
    with Image.open(save_png(drawn, descents, tmp_path / "new" / "losses.png")) as picture:
        assert picture.size[1] > 8 * 300
        assert len(picture.getcolors(100_000)) > 20
    assert draw(drawn[:1]).size[1] < 400
