"""Recipes with windows: what is shown are the image's own pixels and boxes, training learns and resumes bit for bit,
and detection looks as the recipe says."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from detbalance import Recipe, recipes
from detbalance.bootstrapping import bootstrap
from detbalance.comparison import run_one
from detbalance.data.annotations import Annotations
from detbalance.data.images import DetectionImages, collate, flips, scaled_window
from detbalance.data.synthetic import Dials, make_dataset
from detbalance.image_sampling import ClassAwareSampling
from detbalance.prediction import predict
from detbalance.proposals import weak_proposals
from detbalance.runs import Settings, load_model
from detbalance.training import train
from detbalance.views import SNIP, SNIPER, Sliced, View

SIZE = (64, 96)
SETTINGS = Settings(epochs=2, batch_size=2, image_size=SIZE)
NAMES = ("snip", "sniper", "sliced")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "shapes"
    return make_dataset(folder, images=4, dials=Dials(width=192, height=128, classes=3), splits={"train": 1.0})


class Corner:
    """Shows one window, in which the first object alone is valid."""

    def __init__(self, window, range=None):
        self.window, self.range = window, range

    def __call__(self, i, nth, rng):
        return View(self.window, np.arange(4) == 0, self.range)


@pytest.fixture
def checkered(tmp_path):
    """An image whose pixels tell where they are, and four objects in it, the last a crowd."""
    y, x = np.mgrid[:100, :150]
    Image.fromarray(np.stack((x, y, 0 * x), 2).astype(np.uint8)).save(tmp_path / "a.png")
    boxes = [[30, 20, 50, 40], [90, 40, 120, 60], [0, 0, 10, 10], [40, 40, 60, 60]]
    return Annotations.from_arrays(
        classes=["a"], sizes=[(150, 100)], image=[0] * 4, label=[1] * 4, boxes=boxes, crowd=[0, 0, 0, 1],
        file_names=["a.png"], root=tmp_path,
    )  # fmt: skip


def test_a_window_shows_the_very_pixels_and_the_parts_of_the_boxes(checkered):
    images = DetectionImages(checkered, image_size=(100, 150))
    images.views = Corner((20.0, 10.0, 95.0, 60.0), range=(10.0, 30.0))
    image, target = images[0]
    assert image.shape == (3, 100, 150)
    x = image[0, 50].double().numpy()  # enlarged twice: a pixel's place is half as far from the window's corner
    assert np.abs(x - (20 + (np.arange(150) + 0.5) / 2 - 0.5)).max() <= 1
    assert target["boxes"].tolist() == [[20, 20, 60, 60], [140, 60, 150, 100]]
    assert target["valid"].tolist() == [True, False]
    assert target["valid_range"].tolist() == [20, 60]
    assert target["image_id"] == 0
    images.views = Corner((20.0, 10.0, 95.0, 60.0))
    assert "valid_range" not in images[0][1]


def test_beyond_the_image_is_grey(checkered):
    images = DetectionImages(checkered, image_size=(100, 150))
    images.views = Corner((-75.0, 0.0, 225.0, 200.0))
    image, target = images[0]
    assert image.shape == (3, 100, 150)
    assert (image[:, 50:] == 114).all()
    assert (image[:, :, :37] == 114).all()
    assert abs(int(image[0, 20, 100]) - 2 * (100.5 - 37.5)) <= 2
    assert target["boxes"][0].tolist() == [52.5, 10, 62.5, 20]


def test_a_window_of_the_whole_image_is_the_image(checkered):
    images = DetectionImages(checkered, image_size=SIZE)
    plain, target = images[0]
    images.views = Corner((0.0, 0.0, 150.0, 100.0))
    image, same = images[0]
    assert image.equal(plain)
    assert same["boxes"].equal(target["boxes"])
    assert scaled_window(Image.new("RGB", (150, 100)), (0, 0, 150, 100), SIZE).shape == plain.shape


def test_marks_stay_in_step_when_an_object_is_dropped(checkered):
    class Squeeze:
        def __call__(self, image, target):
            target["boxes"][0, 2:] = target["boxes"][0, :2]
            return image, target

    images = DetectionImages(checkered, image_size=SIZE, transforms=Squeeze())
    images.views = Corner((0.0, 0.0, 150.0, 100.0))
    _, target = images[0]
    assert target["valid"].tolist() == [False, False]
    assert len(target["boxes"]) == 2


@pytest.mark.parametrize("views", [SNIP(), SNIPER(negatives=0, stride=0.5), Sliced()], ids=lambda v: type(v).__name__)
def test_workers_make_no_difference_and_turns_do(views, data):
    images = DetectionImages(data, image_size=SIZE, transforms=flips(), seed=3)
    images.views = views.fit(data, SIZE)
    images.epoch = 2
    images = pickle.loads(pickle.dumps(images))  # as it is sent to other processes
    items = [(i, nth) for i in range(3) for nth in range(3)]
    loaded = DataLoader(images, batch_sampler=[items[:4], items[4:]], collate_fn=collate, num_workers=2)
    made = [pair for pictures, targets in loaded for pair in zip(pictures, targets)]
    for k in (7, 0, 4):
        image, target = images[items[k]]
        assert image.equal(made[k][0])
        assert all(value.equal(made[k][1][name]) for name, value in target.items())
        assert target["valid"].shape == target["labels"].shape
    assert all(len({tuple(image[:, :8, :8].flatten().tolist()) for image, _ in made[k : k + 3]}) > 1 for k in (0, 3, 6))
    assert images[0][0].equal(images[(0, 0)][0])


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("snip", {"dense", "yolo", "rcnn"}),
        ("sniper", {"dense", "yolo", "rcnn"}),
        ("sliced", {"dense", "ssd", "yolo", "rcnn"}),
    ],
)
def test_kinds(name, kinds):
    assert set(recipes.kinds(name)) == kinds
    for kind in kinds:
        recipe = recipes.get(name, kind)
        assert recipe.views is not None
        assert recipe.look is not None
    if name != "sliced":
        assert (recipe.look.scales, recipe.look.ranges) == (recipe.views.scales, recipe.views.ranges)


def weights(folder):
    return torch.load(folder / "model.pt", weights_only=True)["model"]


class Stop(Exception):
    pass


@pytest.mark.parametrize("name", NAMES)
def test_resumed_training_ends_where_the_uninterrupted_one_does(data, tmp_path, name):
    """Killed again and again, the weak network's training too."""
    whole = train(data, tmp_path / "whole", recipe=name, settings=SETTINGS)
    calls = 0

    def stop(step, steps, losses):
        nonlocal calls
        calls += 1
        if calls % 3 == 0:
            raise Stop

    for _ in range(9):
        try:
            train(data, tmp_path / "a", recipe=name, settings=SETTINGS, checkpoint_seconds=0, progress=stop)
            break
        except Stop:
            continue
    assert calls > 3
    ours, parts = weights(tmp_path / "whole"), weights(tmp_path / "a")
    assert all(torch.equal(ours[key], parts[key]) for key in ours)
    assert (tmp_path / "whole" / "proposals").exists() == (name == "sniper")
    loaded, _ = load_model(tmp_path / "a")
    one, other = (predict(model, data.subset([0]), image_size=SIZE)[0] for model in (loaded, whole))
    np.testing.assert_array_equal(one["boxes"], other["boxes"])


@pytest.mark.parametrize("detector", ["faster_rcnn", "yolov2"])
def test_trains_tests_and_looks_as_the_recipe_says(data, tmp_path, detector, monkeypatch):
    looks = []
    original = type(recipes.get("snip", "dense").look).__call__
    monkeypatch.setattr(
        "detbalance.looks.AtScales.__call__", lambda self, *a, **k: looks.append(self) or original(self, *a, **k)
    )
    settings = replace(SETTINGS, detector=detector, epochs=1)
    kind = {"faster_rcnn": "rcnn", "yolov2": "yolo"}[detector]
    recipe = recipes.get("sniper", kind)
    result = run_one(data, data.subset([0]), tmp_path, recipe=recipe, settings=settings)
    assert result["status"] == "done"
    assert looks[-1] == recipe.look
    assert json.loads((tmp_path / "settings.json").read_text())["repr"] == repr(recipe)


def test_the_loss_falls(data, tmp_path):
    recipe = replace(recipes.get("sniper", "dense"), views=SNIPER(negatives=0))
    train(data, tmp_path, recipe=recipe, settings=replace(SETTINGS, epochs=40))
    losses = [point["loss"]["total"] for point in json.loads((tmp_path / "history.json").read_text())["history"]]
    assert sum(losses[-2:]) < 0.85 * sum(losses[:2])


def test_weak_proposals_are_kept(data, tmp_path):
    views = recipes.get("sniper", "dense").views
    found = weak_proposals(data, tmp_path, views, SETTINGS)
    again = weak_proposals(data, tmp_path, views, SETTINGS)
    assert len(found) == len(data)
    assert all(one.shape == (len(one), 4) and 0 < len(one) <= 300 for one in found)
    assert all(np.array_equal(one, other) for one, other in zip(found, again))
    described = json.loads((tmp_path / "settings.json").read_text())
    assert described["settings"]["epochs"] == 1
    assert described["data"]["classes"] == ["object"]


def test_a_choice_of_images_of_the_recipe_goes_before_that_of_the_windows(data, tmp_path, monkeypatch):
    chosen = []
    epoch = Sliced.epoch
    monkeypatch.setattr(Sliced, "epoch", lambda self, *a: chosen.append(self) or epoch(self, *a))
    settings = replace(SETTINGS, epochs=1)
    train(data, tmp_path / "a", recipe=Recipe(name="a", views=Sliced()), settings=settings)
    assert chosen
    chosen.clear()
    both = Recipe(name="b", views=Sliced(), images=ClassAwareSampling())
    train(data, tmp_path / "b", recipe=both, settings=settings)
    assert not chosen


def test_the_next_recipe_sees_whole_images_again(data, tmp_path):
    images = DetectionImages(data, image_size=SIZE, transforms=flips())
    settings = replace(SETTINGS, epochs=1)
    train(data, tmp_path / "a", recipe="sliced", settings=settings, images=images)
    train(data, tmp_path / "b", settings=settings, images=images)
    train(data, tmp_path / "c", settings=settings)
    ours, theirs = weights(tmp_path / "b"), weights(tmp_path / "c")
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_refuses_what_does_not_go_together(tmp_path, data):
    with pytest.raises(ValueError, match="views and augment"):
        recipes.get("snip+mosaic", "dense")
    with pytest.raises(ValueError, match="both set views"):
        recipes.get("snip+sliced", "dense")
    with pytest.raises(ValueError, match="regions are remembered of whole images"):
        bootstrap(data, tmp_path, recipe="bootstrapping+sliced", settings=SETTINGS)
