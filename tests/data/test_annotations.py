"""Annotations: columns that agree, subsets, splits, paths that stay inside, COCO and back."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from detbalance.data.annotations import Annotations, DataError, MissingDataError, Problem


def example(**changed):
    given = {
        "classes": ["cat", "dog", "emu"],
        "sizes": [(40, 30), (50, 20), (10, 10)],
        "image": [2, 0, 0],
        "label": [3, 1, 2],
        "boxes": [[1, 1, 3, 4], [0, 0, 10, 10], [5, 5, 7, 9]],
        "crowd": [False, True, False],
        "split": ["train", "val", "train"],
    }
    return Annotations.from_arrays(**(given | changed))


def test_boxes_are_sorted_by_image_with_all_their_columns():
    a = example(area=[6, 100, 8], difficult=[True, False, False])
    assert a.image.tolist() == [0, 0, 2]
    assert a.label.tolist() == [1, 2, 3]
    assert a.area.tolist() == [100, 8, 6]
    assert a.crowd.tolist() == [True, False, False]
    assert a.difficult.tolist() == [False, False, True]
    assert a.starts.tolist() == [0, 2, 2, 3]
    assert [a.rows(i) for i in range(3)] == [slice(0, 2), slice(2, 2), slice(2, 3)]


def test_counts_leave_crowds_out():
    assert example().counts.tolist() == [0, 1, 1]


def test_an_empty_dataset():
    a = Annotations.from_arrays(classes=["cat"], sizes=[], image=[], label=[], boxes=[])
    assert (len(a), len(a.boxes), a.counts.tolist(), a.starts.tolist()) == (0, 0, [0], [0])
    assert a.splits() == {}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"label": [1, 2]}, "as many images and labels"),
        ({"image": [0, 1, 3]}, "image rows in 0..2"),
        ({"label": [0, 1, 2]}, "labels in 1..3"),
        ({"boxes": [[1, 1, 1, 4], [0, 0, 10, 10], [5, 5, 7, 9]]}, "x1 < x2"),
        ({"boxes": [[1, 1, np.nan, 4], [0, 0, 10, 10], [5, 5, 7, 9]]}, "finite"),
        ({"area": [1, 2]}, "3 values but got 2"),
    ],
)
def test_columns_that_disagree_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        example(**changed)


def test_subset_by_mask_and_by_rows():
    a = example(negatives=((1,), (2,), (3,)))
    for chosen in (np.array([True, False, True]), [2, 0]):
        part = a.subset(chosen)
        assert part.sizes.tolist() == [[40, 30], [10, 10]]
        assert part.image.tolist() == [0, 0, 1]
        assert part.label.tolist() == [1, 2, 3]
        assert part.negatives == ((1,), (3,))
    assert len(a.subset(np.zeros(3, bool))) == 0


def test_splits_and_batches():
    a = example()
    assert {name: len(part) for name, part in a.splits().items()} == {"train": 2, "val": 1}
    assert [len(part) for part in a.batches(2)] == [2, 1]
    assert sum(len(part.boxes) for part in a.batches(1)) == 3


@pytest.mark.parametrize("name", ["../x.jpg", "/etc/passwd", "a/../../x.jpg", "", "a\0.jpg", "C:\\x.jpg", "..\\x.jpg"])
def test_paths_may_not_leave_the_folder(name, tmp_path):
    a = example(file_names=[name, "b.jpg", "c.jpg"], root=tmp_path)
    with pytest.raises(DataError, match="leaves the dataset's folder"):
        a.path(0)


def test_paths_inside(tmp_path):
    a = example(file_names=["a/../b.jpg", "..b.jpg", "d e.jpg"], root=tmp_path)
    assert [a.path(i) for i in range(3)] == [tmp_path / "a/../b.jpg", tmp_path / "..b.jpg", tmp_path / "d e.jpg"]
    with pytest.raises(DataError, match="no image folder"):
        example().path(0)


def test_fingerprint_changes_with_what_matters():
    base = example().fingerprint()
    assert base == example(split=["test"] * 3, root=Path("elsewhere")).fingerprint()
    for changed in (
        {"classes": ["cat", "dog", "owl"]},
        {"label": [3, 1, 1]},
        {"boxes": [[1, 1, 3, 4], [0, 0, 10, 11], [5, 5, 7, 9]]},
        {"crowd": [False, False, False]},
        {"sizes": [(40, 30), (50, 20), (10, 11)]},
        {"file_names": ["x", "1", "2"]},
    ):
        assert example(**changed).fingerprint() != base, changed


def test_to_coco():
    data = example(difficult=[True, False, False], frequency=("r", "c", "f"), negatives=((), (1,), ())).to_coco()
    assert data["images"][1] == {"id": 2, "file_name": "1", "width": 50, "height": 20, "neg_category_ids": [1]}
    assert data["annotations"][2] == {
        "id": 3, "image_id": 3, "category_id": 3, "bbox": [1, 1, 2, 3], "area": 6, "iscrowd": 0, "difficult": 1,
    }  # fmt: skip
    assert data["categories"][0] == {"id": 1, "name": "cat", "frequency": "r"}
    assert "difficult" not in example().to_coco()["annotations"][0]


def test_errors_are_one_printable_paragraph():
    error = DataError("a\nb\x1b[31m\ud800" + "x" * 5000)
    assert "\n" not in str(error)
    assert "\x1b" not in str(error)
    assert len(str(error)) == 1000
    str(error).encode()
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert isinstance(MissingDataError("gone"), FileNotFoundError)
    assert isinstance(MissingDataError("gone"), ValueError)


def test_annotations_can_be_pickled():
    a = example(problems=(Problem("zero-size box", "excluded", 1),))
    b = pickle.loads(pickle.dumps(a))
    assert b.fingerprint() == a.fingerprint()
    assert b.problems == a.problems
