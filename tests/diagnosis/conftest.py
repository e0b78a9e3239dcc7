"""Datasets for the tests of the measures."""

import numpy as np
import pytest

from detbalance.data.annotations import Annotations
from detbalance.diagnosis.bootstrap import Resampler
from detbalance.diagnosis.columns import Columns


@pytest.fixture(scope="session")
def make():
    """The function that makes a random dataset."""
    return _make


@pytest.fixture(scope="session")
def measured():
    """The function that turns annotations into what a measure takes."""
    return _measured


def _make(seed: int = 0, *, images: int = 20, boxes: int = 120, classes: int = 4) -> Annotations:
    """Boxes of all sizes and classes in images of several sizes; some images are empty, some boxes are crowds."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(100, 700, (images, 2))
    image = np.sort(rng.integers(0, max(images - 2, 1), boxes))
    corner, far = np.sort(rng.random((2, boxes, 2)), 0)
    corner, far = corner * 0.98, np.maximum(far, corner * 0.98 + 0.01)
    return Annotations.from_arrays(
        classes=[f"c{k}" for k in range(classes)],
        sizes=sizes,
        image=image,
        label=np.minimum(rng.geometric(0.5, boxes), classes),
        boxes=np.concatenate((corner, far), 1) * np.tile(sizes[image], 2),
        crowd=rng.random(boxes) < 0.05,
    )


def _measured(data: Annotations, repeats: int = 20, seed: int = 0) -> tuple[Columns, Resampler]:
    return Columns(data), Resampler(len(data), repeats, seed)
