"""The findings of what drove a training, from columns whose answer is known."""

import numpy as np
import pytest

from detbalance.data.annotations import DataError
from detbalance.diagnosis import diagnose, probed, regression
from detbalance.diagnosis.log import read_log

STEPS = 5


def log(**tables):
    """Probes of five equal steps: the gradient of each bin is given, everything else is 1."""
    columns = {
        "probe.schema": np.array("detbalance.probes/1"),
        "probe.classes": np.array(["cat", "dog"]),
        "probe.step": np.arange(STEPS),
    }
    tables = {"side": [10, 1], "class": [10, 1, 1], "size": [0, 1, 1, 1], "iou": [1] * 10, "level": [1] * 8, **tables}
    for kind, gradient in tables.items():
        table = np.ones((STEPS, 6, len(gradient)), np.float32)
        table[:, 4], table[:, 5] = np.array(gradient) / 2, np.array(gradient) / 2
        columns[f"probe.head.{kind}"] = table
    return columns


def findings(**tables):
    return {finding.key: finding for finding in probed.driven(log(**tables))}


def test_background_with_ten_times_the_gradient():
    found = findings()["driven_foreground"]
    assert found.value == pytest.approx(0.5)
    assert found.tables[0].rows[0][1:] == pytest.approx((0.5, 0.5, 0.5, 10 / 11))
    assert [row[1] for row in found.tables[1].rows] == pytest.approx([1 / 11] * STEPS)


def test_equal_shares_are_balanced_and_one_with_all_is_the_worst():
    even, one = findings(), findings(**{"class": [10, 1, 0], "size": [5, 1, 0, 0], "iou": [9] * 5 + [1, 0, 0, 0, 0]})
    for key in ("driven_classes", "driven_sizes", "driven_ious"):
        assert even[key].value == pytest.approx(0)
        assert one[key].value == pytest.approx(1)
    assert [row[0] for row in one["driven_classes"].tables[0].rows] == ["cat", "dog"]
    assert one["driven_classes"].affected == ("dog",)
    said = "Among the IoUs from 0.5 on, 100 % of the head's gradient came from IoU 0.5 to 0.6, 0 % from IoU 0.6 to 0.7."
    assert one["driven_ious"].summary == said
    assert even["driven_levels"].value == pytest.approx(0)
    assert probed.driven({}) == []


def test_a_head_that_shows_no_gradients_has_no_shares():
    columns = log()
    for key in columns:
        if key.startswith("probe.head."):
            columns[key][:, 4:] = 0
    assert probed.driven(columns) == []


def test_places():
    columns = log()
    columns["probe.head.places"] = np.zeros((STEPS, 2, 2, 8, 8))
    assert {f.key for f in probed.driven(columns)} == {f.key for f in probed.driven(log())}
    columns["probe.head.places"][:, 1, :, 3, 5] = 2
    found = probed.driven(columns)[-1]
    assert (found.key, found.value) == ("driven_places", pytest.approx(1))
    assert max(found.tables[0].rows, key=lambda row: row[2]) == (5.5 / 8, 3.5 / 8, 1)
    columns["probe.head.places"][:] = 1
    assert probed.driven(columns)[-1].value == pytest.approx(0)


def test_conflict():
    columns = log()
    assert probed.conflict(columns) is None
    cosine = np.tile(np.eye(3), (4, 1, 1))
    cosine[:3, 0, 1] = cosine[:3, 1, 0] = -0.5
    columns |= {"probe.cosine": cosine, "probe.tasks": np.array([["a", "b", "c"]] * 4), "probe.step": np.arange(4)}
    found = probed.conflict(columns)
    assert found.value == pytest.approx(0.75 / 3)
    assert "a and b pull against each other" in found.summary
    assert "75 %" in found.summary


def test_outliers_by_their_own_gradient():
    errors, gradient = np.zeros((10, 4)), np.ones(10)
    errors[0, 2], gradient[0] = -3, 9
    found = regression._owned(np.abs(errors), gradient)
    assert found.value == pytest.approx(9 / 18 - 1 / 10)
    assert sum(row[1] for row in found.tables[0].rows) == pytest.approx(1)
    assert sum(row[2] for row in found.tables[0].rows) == pytest.approx(1)
    assert regression._owned(np.full((3, 4), 9.0), np.zeros(3)).value == 0


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"probe.schema": np.array("detbalance.probes/9")}, "probe.schema"),
        ({"probe.head.size": np.ones((STEPS, 6, 5))}, "probe.head.size"),
        ({"probe.head.iou": np.full((STEPS, 6, 10), np.nan)}, "probe.head.iou"),
        ({"box_error": np.ones((2, 4)), "box_gradient": np.ones(3)}, "box_gradient"),
    ],
)
def test_what_no_probe_writes_is_refused(change, word):
    with pytest.raises(DataError, match=word):
        read_log({**log(), **change})


def test_a_probe_that_met_no_positives(scene):
    empty = {"iou_before": np.zeros(0), "iou_after": np.zeros(0), "box_error": np.zeros((0, 4)), "box_gradient": []}
    found = diagnose(scene(1)[0], log={**log(), **empty}, bootstrap=0)
    assert found["driven_foreground"].severity is not None
    assert found["outliers"].value is None
