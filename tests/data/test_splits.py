"""Which images are trained and tested on."""

import numpy as np
import pytest

from detbalance.data.annotations import Annotations, DataError
from detbalance.data.splits import split


def dataset(splits, boxed=None):
    boxed = range(len(splits)) if boxed is None else boxed
    return Annotations.from_arrays(
        classes=["cat"],
        sizes=[(9, 9)] * len(splits),
        split=splits,
        image=list(boxed),
        label=[1] * len(boxed),
        boxes=[[0, 0, 5, 5]] * len(boxed),
    )


def names(part):
    return part.file_names.tolist()


@pytest.mark.parametrize(
    ("splits", "train", "test"),
    [
        (["train", "val", "test"], ["0", "1"], ["2"]),
        (["train", "val", "train"], ["0", "2"], ["1"]),
        (["test", "train", ""], ["1"], ["0"]),
        (["val", "test", "val"], ["0", "2"], ["1"]),
    ],
)
def test_official_splits(splits, train, test):
    assert tuple(map(names, split(dataset(splits)))) == (train, test)


def test_a_test_split_without_boxes_is_no_test():
    train, test = split(dataset(["train", "val", "test"], boxed=[0, 1]))
    assert (names(train), names(test)) == (["0"], ["1"])


@pytest.mark.parametrize("one", ["", "train", "test"])
def test_random_split(one):
    data = dataset([one] * 50)
    train, test = split(data, seed=3)
    assert (len(train), len(test)) == (40, 10)
    assert sorted(names(train) + names(test)) == sorted(names(data))
    again = split(data, seed=3)
    assert names(again[1]) == names(test)
    assert names(split(data, seed=4)[1]) != names(test)
    assert np.all(np.diff(test.image) >= 0)


def test_both_parts_have_an_image_however_small_the_share():
    assert [len(part) for part in split(dataset([""] * 3), test_share=0.01)] == [2, 1]
    assert [len(part) for part in split(dataset([""] * 3), test_share=0.99)] == [1, 2]


def test_what_cannot_be_split():
    with pytest.raises(DataError, match="at least two images"):
        split(dataset([""]))
    with pytest.raises(ValueError, match="test_share between 0 and 1"):
        split(dataset([""] * 4), test_share=1.0)
