"""Which images are trained on and which are tested on: the dataset's own division, else a seeded one. Numpy only."""

from __future__ import annotations

import numpy as np

from .annotations import Annotations
from .errors import DataError

__all__ = ["split"]


def split(annotations: Annotations, *, seed: int = 0, test_share: float = 0.2) -> tuple[Annotations, Annotations]:
    """(train, test). Official splits are honoured, else images are drawn at random, the same for the same seed.

    With a `test` split that has boxes, `train` and `val` together are trained on; with `train` and `val` only, `val` is
    the test. One split alone, or none, is divided at random.

    >>> a = Annotations.from_arrays(classes=["cat"], sizes=[(9, 9)] * 10, image=range(10), label=[1] * 10,
    ...                             boxes=[[0, 0, 5, 5]] * 10)
    >>> split(a)
    (Annotations(8 images, 8 boxes, 1 classes), Annotations(2 images, 2 boxes, 1 classes))
    """
    if not 0 < test_share < 1:
        raise ValueError(f"expected test_share between 0 and 1 but got {test_share}")
    boxed = {name: part for name, part in annotations.splits().items() if len(part.boxes)}
    if "test" in boxed and len(boxed) > 1:
        return annotations.subset(np.isin(annotations.split, ("train", "val"))), boxed["test"]
    if "train" in boxed and "val" in boxed:
        return boxed["train"], boxed["val"]
    return _random(annotations, seed, test_share)


def _random(annotations: Annotations, seed: int, test_share: float) -> tuple[Annotations, Annotations]:
    images = len(annotations)
    if images < 2:
        raise DataError(
            f"{annotations.source}: at least two images are needed to train and to test, but there is {images}"
        )
    count = min(max(1, round(images * test_share)), images - 1)
    order = np.random.default_rng(seed).permutation(images)
    return annotations.subset(np.sort(order[count:])), annotations.subset(np.sort(order[:count]))
