"""Looks: what a recipe says of detection is what `predict` does, and nothing else."""

import numpy as np
import pytest
import torch

from detbalance import Recipe, attach
from detbalance.data.images import DetectionImages
from detbalance.data.synthetic import Dials, make_dataset
from detbalance.detectors import build
from detbalance.looks import AtScales, InSlices
from detbalance.prediction import predict, predict_pyramid, predict_sliced
from detbalance.slicing import Slices

SIZE = (64, 96)
RANGES = ((0.0, 0.3), (0.2, 1.0))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "shapes"
    return make_dataset(folder, images=3, dials=Dials(width=192, height=128, classes=2), splits={"train": 1.0})


def detector(look=None):
    torch.manual_seed(0)
    model = build("retinanet", classes=2, image_size=SIZE)
    model.score_thresh, model.detections_per_img = 0.0, 20
    return attach(model, Recipe(name="looks", look=look))


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert len(one["boxes"])
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def test_predict_looks_as_the_recipe_says(data):
    plain = detector()
    scales = {"scales": (2.0, 1.0), "ranges": RANGES}
    expected = predict_pyramid(plain, data, image_size=SIZE, **scales)
    assert_same(predict(detector(AtScales(**scales)), data, image_size=SIZE), expected)
    expected = predict_sliced(plain, data, image_size=SIZE, slices=Slices(size=(64, 96)))
    assert_same(predict(detector(InSlices()), data, image_size=SIZE), expected)
    assert not all(
        len(a["boxes"]) == len(b["boxes"]) and np.array_equal(a["boxes"], b["boxes"])
        for a, b in zip(expected, predict(plain, data, image_size=SIZE))
    )


def test_what_is_decoded_is_shared_and_progress_told(data):
    images, steps = DetectionImages(data, image_size=SIZE), []
    look = AtScales(scales=(1.0, 0.5))
    found = look(detector(), data, image_size=SIZE, images=images, progress=lambda *step: steps.append(step))
    assert_same(found, look(detector(), data, image_size=SIZE))
    assert all(image is not None for image in images._cache)
    assert steps[-1] == (6, 6)


def test_fewer_images_a_batch_at_a_large_scale(data, monkeypatch):
    sizes = []
    model = detector()
    model.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    predict_pyramid(model, data, image_size=SIZE, scales=(2.0, 0.5), batch_size=4)
    assert sizes == [1, 1, 1, 3]


def test_a_detector_that_cannot_look_so_is_refused_before_it_is_trained():
    model = build("ssd", classes=2)
    with pytest.raises(ValueError, match="default boxes of shares"):
        attach(model, Recipe(name="looks", look=AtScales()))
    attach(model, Recipe(name="looks", look=InSlices()))


def test_refuses():
    for wrong in ({"scales": ()}, {"scales": (0.0,)}, {"iou": 2.0}, {"ranges": RANGES}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            AtScales(**wrong)
    with pytest.raises(ValueError, match="overlap"):
        InSlices(overlap=1.0)
