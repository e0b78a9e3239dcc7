"""Recipes that make new images: training learns from them, and resumes bit for bit."""

import pytest
import torch

from detbalance import recipes
from detbalance.data.synthetic import Dials, make_dataset
from detbalance.runs import Settings
from detbalance.training import train

NAMES = ("cut_paste", "copy_paste", "context_paste", "instance_switching", "mosaic", "mixup")
SETTINGS = Settings(epochs=2, batch_size=3, image_size=(64, 96))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "shapes"
    return make_dataset(folder, images=6, dials=Dials(width=96, height=64, classes=3), splits={"train": 1.0})


class Stop(Exception):
    pass


def stop(step, steps, losses):
    if step == 3:
        raise Stop


def weights(folder):
    return torch.load(folder / "model.pt", weights_only=True)["model"]


@pytest.mark.parametrize("name", NAMES)
def test_every_detector_takes_it(name):
    assert set(recipes.kinds(name)) == {"dense", "ssd", "yolo", "rcnn"}
    assert recipes.get(name, "dense").name == name


@pytest.mark.parametrize("name", ["context_paste", "instance_switching"])  # learns from pixels; listens to the AP
def test_resumed_training_ends_where_the_uninterrupted_one_does(data, tmp_path, name):
    train(data, tmp_path / "whole", recipe=name, settings=SETTINGS)
    with pytest.raises(Stop):
        train(data, tmp_path / "a", recipe=name, settings=SETTINGS, checkpoint_seconds=0, progress=stop)
    train(data, tmp_path / "a", recipe=name, settings=SETTINGS)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "a")
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
