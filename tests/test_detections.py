"""Predictions on disk: what is written comes back, and a bad record is named."""

import json

import numpy as np
import pytest

from detbalance.data.annotations import Annotations, DataError
from detbalance.detections import load_predictions, save_predictions

GOOD = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 4, 5.5], "score": 0.5}
DATA = Annotations.from_arrays(
    classes=["a", "b"],
    sizes=[(10, 10)] * 3,
    image=[],
    label=[],
    boxes=[],
    image_ids=["x", "y", "z"],
    category_ids=[7, 3],
)


def test_round_trip(tmp_path):
    boxes = [np.array([[0, 1, 4, 9.5]], np.float32), np.zeros((0, 4)), np.array([[1, 1, 2, 2], [0, 0, 0, 0.0]])]
    path = save_predictions(
        tmp_path / "new" / "p.json", boxes, [np.array([2]), np.array([]), [1, 2]], [[0.25], [], [1, 0]]
    )
    found = load_predictions(path, DATA)
    np.testing.assert_array_equal(found.boxes, np.concatenate(boxes))
    np.testing.assert_array_equal(found.image, [0, 2, 2])
    np.testing.assert_array_equal(found.label, [2, 1, 2])
    np.testing.assert_array_equal(found.score, [0.25, 1, 0])
    assert [p.name for p in path.parent.iterdir()] == ["p.json"]
    assert load_predictions(found, DATA) is found
    assert len(found.above(0.25)) == 2


def test_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "p.json"
    path.write_text("[]")
    with pytest.raises(ValueError, match="image 1"):
        save_predictions(path, [np.zeros((1, 4))] * 2, [[1], [1, 2]], [[0.5], [0.5]])
    with pytest.raises(ValueError, match="NaN"):
        save_predictions(path, [np.full((1, 4), np.nan)], [[1]], [[0.5]])
    assert path.read_text() == "[]"


def test_source_ids():
    records = [{**GOOD, "image_id": "z", "category_id": 3}, {**GOOD, "image_id": "x", "category_id": 7}]
    found = load_predictions(records, DATA, ids="source")
    assert found.image.tolist() == [2, 0]
    assert found.label.tolist() == [2, 1]
    with pytest.raises(DataError, match="image_id"):
        load_predictions(records, DATA)


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ({"bbox": [0, 0, 1]}, "bbox"),
        ({"bbox": [0, 0, -1, 1]}, "bbox"),
        ({"bbox": [0, 0, "wide", 1]}, "bbox"),
        ({"score": None}, "score"),
        ({"category_id": 3}, "category_id"),
        ({"category_id": 0}, "category_id"),
        ({"image_id": 4}, "image_id"),
        ({"image_id": True}, "image_id"),
    ],
)
def test_bad_record_is_named(tmp_path, bad, field):
    path = tmp_path / "bad.json"
    path.write_text(json.dumps([GOOD, {**GOOD, **bad}]))
    with pytest.raises(DataError, match=f"bad.json: record 2, field {field}"):
        load_predictions(path, DATA)


def test_not_finite_in_a_list():
    with pytest.raises(DataError, match="record 1, field score"):
        load_predictions([{**GOOD, "score": float("nan")}], DATA)


@pytest.mark.parametrize("text", ["", "[{", "{}", '[{"image_id": 1}]', "[1]"])
def test_bad_files(tmp_path, text):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"bad\.json"):
        load_predictions(path, DATA)


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        load_predictions(tmp_path / "none.json", DATA)
