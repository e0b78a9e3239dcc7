"""What detections and training logs tell."""

import json

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from detbalance.boxes import encode
from detbalance.data.annotations import Annotations, DataError
from detbalance.diagnosis import detected, diagnose, objective, regression
from detbalance.diagnosis.log import read_log
from detbalance.taxonomy import Imbalance


@pytest.fixture
def found(scene, measured):
    data, records = scene(3)
    columns, sampler = measured(data)
    detections = detected.in_order(records, data)
    return columns, sampler, detections


@pytest.mark.parametrize("pairs", [1, 50, 10**6])
def test_nearest_objects_by_comparing_all(found, pairs, monkeypatch):
    monkeypatch.setattr(detected, "_PAIRS", pairs)
    columns, _, detections = found
    iou, row = detected.nearest_objects(columns, detections)
    for d, box in enumerate(detections.boxes):
        own = np.flatnonzero((columns.image == detections.image[d]) & (columns.kind == detections.label[d] - 1))
        overlap = box_iou(torch.tensor(box[None]), torch.tensor(columns.boxes[own])).numpy().reshape(-1)
        best = overlap.max(initial=0)
        assert iou[d] == pytest.approx(best)
        assert row[d] == -1 if best == 0 else overlap[own.tolist().index(row[d])] == pytest.approx(best)


def test_detections_without_objects(found):
    columns, sampler, detections = found
    bare = type(columns)(columns.data.subset(np.arange(len(columns.data)) < 0))
    iou, row = detected.nearest_objects(bare, type(detections)(*(c[:0] for c in vars(detections).values())))
    assert len(iou) == len(row) == 0
    iou, row = detected.nearest_objects(columns, detections)
    assert regression.outlier_share(columns, sampler, detections, np.zeros_like(iou), row).value == 0
    assert detected.detection_ious(columns, sampler, detections, np.zeros_like(iou)).value == 0


def test_errors_are_fast_rcnns_code(found):
    columns, _, detections = found
    iou, row = detected.nearest_objects(columns, detections)
    near = iou > 0.5
    own, truth = detections.boxes[near], columns.boxes[row[near]]
    expected = encode(torch.tensor(truth), torch.tensor(own), (10, 10, 5, 5)).numpy()
    assert np.allclose(regression.box_errors(own, truth), expected)


def test_outliers_by_a_loop(found):
    columns, sampler, detections = found
    iou, row = detected.nearest_objects(columns, detections)
    finding = regression.outlier_share(columns, sampler, detections, iou, row)
    own, total, many, number = 0.0, 0.0, 0, 0
    for d in np.flatnonzero(iou >= 0.5):
        for error in regression.box_errors(detections.boxes[[d]], columns.boxes[[row[d]]])[0]:
            gradient = min(abs(error), 1)
            total, number = total + gradient, number + 1
            if abs(error) >= 1:
                own, many = own + gradient, many + 1
    assert finding.value == pytest.approx(own / total - many / number)
    assert finding.interval[0] <= finding.value <= finding.interval[1]
    assert sum(r[1] for r in finding.tables[0].rows) == pytest.approx(1)
    assert sum(r[2] for r in finding.tables[0].rows) == pytest.approx(1)


def test_errors_of_equal_size_are_balanced_and_one_large_one_is_not(measured, make):
    _, sampler = measured(make())
    assert regression._outliers(np.full((9, 4), 0.3), None, sampler, "").value == 0
    assert regression._outliers(np.full((9, 4), 3.0), None, sampler, "").value == 0
    errors = np.full((500, 4), 1e-6)
    errors[0] = 5
    assert regression._outliers(errors, None, sampler, "").value > 0.99
    assert regression._outliers(np.zeros((0, 4)), None, sampler, "").value == 0


def test_lost_detections(found):
    columns, sampler, detections = found
    iou, _ = detected.nearest_objects(columns, detections)
    near = iou[iou >= 0.1]
    finding = detected.detection_ious(columns, sampler, detections, iou)
    assert finding.value == pytest.approx((near < 0.5).mean())
    assert sum(row[1] for row in finding.tables[0].rows) == len(detections)


def test_ious_before_and_after():
    before, after = np.array([0.55, 0.58, 0.95, 1.0]), np.array([0.7, 0.4, 0.9, 1.0])
    finding = detected.ious_before_after(before, after)
    assert finding.value == 0.5
    first, *_, last = finding.tables[0].rows
    assert first == ("0.5 to 0.6", 0.5, 0.5, pytest.approx(0.565), pytest.approx(0.55))
    assert last == ("0.9 to 1.0", 0.5, 0.0, pytest.approx(0.975), pytest.approx(0.95))
    assert sum(row[2] for row in finding.tables[1].rows) == 4


def test_task_shares_and_pace():
    fast, slow = np.exp(-np.arange(200) / 10), np.exp(-np.arange(200) / 80)
    log = read_log({"loss_box": fast, "loss_class": slow})
    balance, pace = objective.task_balance(log), objective.task_pace(log)
    share = fast.mean() / (fast.mean() + slow.mean())
    entropy = -(share * np.log(share) + (1 - share) * np.log(1 - share))
    assert balance.value == pytest.approx(1 - entropy / np.log(2))
    assert balance.affected == ("box",)
    assert 0.7 < pace.value < 1  # half-times of 7 and of 47 steps, smoothed
    assert objective.task_balance(log, target=np.array([fast.mean(), slow.mean()])).value == pytest.approx(0, abs=1e-9)
    even = read_log({"loss_box": slow, "loss_class": slow})
    assert objective.task_balance(even).value == pytest.approx(0)
    assert objective.task_pace(even).value == 0
    assert objective.task_pace(even).summary.startswith("All tasks made half")


def test_losses_below_zero_have_a_share_too():
    log = read_log({"loss_a": [3.0, 1, 1, 1], "loss_b": [-1.0, -1, -1, -3]})
    assert objective.task_balance(log).value == pytest.approx(0)
    assert 0 <= objective.task_pace(log).value <= 1


def test_gradients_come_before_losses():
    log = {"loss_a": [1.0], "loss_b": [1.0], "gradient_a": [9.0], "gradient_b": [1.0]}
    assert "gradient" in objective.task_balance(read_log(log)).measure
    assert objective.task_pace(read_log(log)) is None  # too short to have a pace
    assert objective.task_balance({}) is None


def test_one_task_with_all_of_it_is_the_worst():
    log = read_log({"loss_a": np.ones(9), "loss_b": np.zeros(9)})
    assert objective.task_balance(log).value == pytest.approx(1)
    assert objective.task_pace(log).value >= 0


def test_history_of_a_training_is_a_log(tmp_path):
    steps = [{"step": s, "lr": 0.1, "loss": {"total": 3.0, "classification": 2.0, "loss_box_reg": 1.0}} for s in (1, 2)]
    path = tmp_path / "history.json"
    path.write_text(json.dumps({"seconds": 1.0, "history": steps}))
    log = read_log(path)
    assert {key: column.tolist() for key, column in log.items()} == {
        "loss_classification": [2.0, 2.0],
        "loss_box_reg": [1.0, 1.0],
    }
    np.savez(tmp_path / "log.npz", **log)
    assert read_log(tmp_path / "log.npz").keys() == log.keys()


@pytest.mark.parametrize(
    "log",
    [
        {"losses": [1]},
        {"loss_a": ["x"]},
        {"loss_a": []},
        {"loss_a": [np.nan]},
        {"loss_a": [np.inf]},
        {"gradient_a": [-1.0]},
        {"iou_before": [1.5], "iou_after": [0.5]},
        {"box_error": [1.0]},
        {"iou_before": [0.5]},
        {"iou_before": [0.5], "iou_after": [0.5, 0.6]},
    ],
)
def test_a_log_that_makes_no_sense_is_refused(log):
    with pytest.raises(DataError, match="expected"):
        read_log(log)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"history": [{"loss": 3}]}', b"PK\x03\x04"])
@pytest.mark.parametrize("name", ["a.json", "a.npz"])
def test_a_file_that_is_no_log_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        read_log(tmp_path / name)
    with pytest.raises(DataError, match="cannot be read"):
        read_log(tmp_path / "absent.npz")


def test_diagnose_takes_both(scene):
    data, records = scene(1)
    log = {"loss_box": [1.0, 0.5], "loss_class": [2.0, 1.5], "iou_before": [0.6, 0.7], "iou_after": [0.5, 0.8]}
    found = diagnose(data, predictions=records, log=log, bootstrap=10)
    for problem in (Imbalance.REGRESSION_LOSS, Imbalance.OBJECTIVE):
        assert found[problem].value is not None
        assert not found[problem].needs
    assert found["degraded"].value == 0.5
    assert found["lost_detections"].interval is not None
    shifted = [{**r, "image_id": r["image_id"] + 100, "category_id": r["category_id"] + 7} for r in records]
    renamed = Annotations.from_arrays(
        classes=data.classes,
        sizes=data.sizes,
        image=data.image,
        label=data.label,
        boxes=data.boxes,
        crowd=data.crowd,
        image_ids=np.arange(len(data)) + 101,
        category_ids=np.arange(3) + 8,
    )
    assert (
        diagnose(renamed, predictions=shifted, ids="source", bootstrap=0)["outliers"].value == found["outliers"].value
    )
    with pytest.raises(DataError):
        diagnose(data, predictions=shifted, bootstrap=0)
