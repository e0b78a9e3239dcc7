"""One candidate slides over a scene: what it does to every index and loss, against the formulas one by one."""

import math

import numpy as np
import pytest
import torch
from torchvision.ops import sigmoid_focal_loss
from typer.testing import CliRunner

from detbalance import Recipe, Stage, recipes, report
from detbalance.box_generators import IoUUniformJitter
from detbalance.cli import app
from detbalance.interplay import MEASURES, Scene, play


def at(found, measure, shift, scale=0, label=0, score=0):
    """One value."""
    return float(found.values[measure][found.shifts.index(shift), scale, label, score])


@pytest.fixture(scope="module")
def baseline():
    return play(
        recipes.get("baseline", "dense"), shifts=(-1.0, -0.4, 0.0, 0.25, 0.5), scales=(1.0, 0.5), scores=(0.5, 0.9)
    )


def test_iou_and_state(baseline):
    """A box of its object's size, shifted by s widths, has IoU (1 - s) / (1 + s)."""
    for shift, state in zip(baseline.shifts, (0, -1, 1, 1, 0)):
        expected = max(0.0, (1 - abs(shift)) / (1 + abs(shift)))
        assert at(baseline, "iou", shift) == pytest.approx(expected, abs=1e-6)
        assert at(baseline, "state", shift) == state
    assert at(baseline, "iou", 0.0, scale=1) == pytest.approx(0.25)
    assert at(baseline, "state", 0.0, scale=1) == 0


def test_numbers_follow_the_state(baseline):
    """What stops being a positive becomes a negative; in between it does not train."""
    assert at(baseline, "positives", 0.25) == at(baseline, "positives", 0.5) + 1
    assert at(baseline, "negatives", 0.5) == at(baseline, "negatives", 0.25) + 1
    assert at(baseline, "drawn", -0.4) == 0
    assert at(baseline, "class share", -0.4) == at(baseline, "box share", -0.4) == 0


def test_a_higher_score_costs_a_negative_more_and_a_positive_less(baseline):
    assert at(baseline, "class loss", 0.0, score=1) < at(baseline, "class loss", 0.0, score=0)
    assert at(baseline, "class loss", 0.5, score=1) > at(baseline, "class loss", 0.5, score=0)


def test_a_negative_leaves_the_box_loss(baseline):
    assert at(baseline, "box share", 0.25) > 0
    assert at(baseline, "box share", 0.5) == 0


def test_class_loss_is_that_of_retinanet(baseline):
    """Focal loss of every candidate, summed, over the number of positives."""
    scene = Scene()
    total, positives = 0.0, 0
    own = [88.0 + 16, 44.0, 152.0 + 16, 108.0]  # shifted by a quarter of 64
    boxes = [own, *scene.others, *scene.background().tolist()]
    for box, score in zip(boxes, (0.5, *scene.scores, *[0.03] * scene.easy)):
        ious = [overlap(box, object_) for object_ in scene.objects]
        nearest = int(np.argmax(ious))
        label = scene.labels[nearest]
        positive, ignored = ious[nearest] >= 0.5, 0.4 <= ious[nearest] < 0.5
        if ignored:
            continue
        positives += positive
        logits = torch.full((3,), -6.0)
        logits[label] = math.log(score / (1 - score))
        target = torch.zeros(3)
        target[label] = float(positive)
        total += float(sigmoid_focal_loss(logits, target).sum())
    assert at(baseline, "positives", 0.25) == positives
    assert at(baseline, "class loss", 0.25) == pytest.approx(total / positives, rel=1e-5)


def overlap(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height)


def test_the_class_of_the_object_moves_the_class_index():
    """With the large object rare there are four rare positives and two frequent ones; else one and five."""
    found = play(recipes.get("baseline", "dense"), shifts=(0.0,), scales=(1.0,), scores=(0.5,))
    assert at(found, "index foreground-foreground", 0.0, label=0) != at(
        found, "index foreground-foreground", 0.0, label=1
    )
    assert at(found, "index foreground-background", 0.0, label=0) == at(
        found, "index foreground-background", 0.0, label=1
    )


def test_prime_samples_lose_weight_as_they_slide():
    """PISA: the share of a positive falls with its IoU."""
    found = play(recipes.get("pisa", "dense"), shifts=(0.0, 0.3), scales=(1.0,), scores=(0.5,))
    assert at(found, "class share", 0.0) > at(found, "class share", 0.3) > 0


REFUSED = {"proi", "iou_uniform", "free_anchor"}


@pytest.mark.parametrize("kind", ["dense", "rcnn"])
def test_every_recipe_plays(kind):
    for name in recipes.names():
        if kind not in recipes.kinds(name) or name in REFUSED:
            continue
        found = play(recipes.get(name, kind), kind, shifts=(0.1, 0.7), scales=(1.0,), scores=(0.5,))
        assert all(np.isfinite(values).all() for values in found.values.values()), name
        assert set(found.values) == set(MEASURES)


def test_refuses():
    with pytest.raises(ValueError, match="expected kind 'dense' or 'rcnn' but got 'ssd'"):
        play(Recipe(name="a"), "ssd")
    with pytest.raises(ValueError, match="candidates of its own"):
        play(Recipe(name="a", stages=Stage(box_generator=IoUUniformJitter())), "rcnn")
    with pytest.raises(ValueError, match="does not part its loss"):
        play(recipes.get("free_anchor", "dense"))


def test_page_and_command(tmp_path):
    page = tmp_path / "interplay.html"
    answer = CliRunner().invoke(app, ["interplay", "--recipes", "baseline,pisa", "--shifts", "3", "--html", str(page)])
    assert answer.exit_code == 0, answer.output
    html = page.read_text()
    assert '"name":"pisa"' in html
    answer = CliRunner().invoke(app, ["interplay", "--recipes", "proi", "--detector", "faster_rcnn"])
    assert answer.exit_code != 0


def test_page_escapes_names():
    found = play(Recipe(name="</script><b>"), shifts=(0.0, 0.5), scales=(1.0,), scores=(0.5,))
    html = report.interplay_page([found], Scene(), MEASURES)
    assert "</script><b>" not in html
