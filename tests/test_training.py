"""The training loop: the same seed gives the same weights, also after a kill; nothing is written for bad input."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.models.detection import RetinaNet

from detbalance import DataError, recipes
from detbalance.data.images import DetectionImages, flips
from detbalance.data.readers import read
from detbalance.data.synthetic import Dials, make_dataset
from detbalance.detectors.anchor_shapes import yolo_anchors
from detbalance.necks import DynamicHead
from detbalance.prediction import predict
from detbalance.recipe import Recipe, Stage
from detbalance.runs import Settings, build_model, load_model, precision_of
from detbalance.training import learning_rate, train

SETTINGS = Settings(epochs=2, batch_size=4, image_size=(64, 96))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "shapes"
    return make_dataset(folder, images=16, dials=Dials(width=96, height=64, classes=3), splits={"train": 1.0})


def weights(folder):
    return torch.load(folder / "model.pt", weights_only=True)["model"]


def assert_same_weights(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("detector", ["retinanet", "faster_rcnn"])
def test_same_seed_same_weights(data, tmp_path, detector):
    settings = replace(SETTINGS, detector=detector, epochs=1)
    for name in "ab":
        train(data, tmp_path / name, recipe="pisa", settings=settings)
    assert_same_weights(weights(tmp_path / "a"), weights(tmp_path / "b"))
    train(data, tmp_path / "c", recipe="pisa", settings=replace(settings, seed=1))
    first, other = weights(tmp_path / "a"), weights(tmp_path / "c")
    assert any(not torch.equal(first[name], other[name]) for name in first)


SCRIPT = """
import sys, torch
from detbalance.data.readers import read
from detbalance.runs import Settings
from detbalance.training import train
torch.set_num_threads(1)
def progress(step, steps, losses):
    print(step, flush=True)
train(read(sys.argv[1]), sys.argv[2], recipe="pisa", settings=Settings(**eval(sys.argv[3])), checkpoint_seconds=0,
      progress=progress)
"""


def test_killed_and_resumed_ends_where_the_uninterrupted_run_does(data, tmp_path):
    """SIGKILL in the middle of the second epoch, then the same call again: the same weights bit for bit."""
    options = repr({"detector": "faster_rcnn", "epochs": 2, "batch_size": 4, "image_size": (64, 96)})

    def start(folder):
        command = [sys.executable, "-c", SCRIPT, data.source, str(folder), options]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    whole = start(tmp_path / "whole")
    assert whole.communicate()[0].split() == [str(i) for i in range(1, 9)]
    broken = start(tmp_path / "broken")
    for line in broken.stdout:
        if line.strip() == "6":
            os.kill(broken.pid, signal.SIGKILL)
            break
    broken.stdout.close()
    assert broken.wait() == -signal.SIGKILL
    assert not (tmp_path / "broken" / "model.pt").exists()
    resumed = start(tmp_path / "broken")
    steps = resumed.communicate()[0].split()
    assert steps[-1] == "8"
    assert int(steps[0]) in (6, 7)
    assert_same_weights(weights(tmp_path / "whole"), weights(tmp_path / "broken"))


def test_run_folder_is_complete_and_loads(data, tmp_path):
    model = train(data, tmp_path, recipe="libra", settings=SETTINGS)
    described = json.loads((tmp_path / "settings.json").read_text())
    assert described["recipe"] == "libra"
    assert described["repr"] == repr(recipes.libra("dense"))
    assert described["data"]["fingerprint"] == data.fingerprint()
    assert set(described["versions"]) == {"detbalance", "torch", "torchvision", "python"}
    assert list((tmp_path / "tensorboard").iterdir())
    assert not list(tmp_path.glob("*.part"))
    loaded, _ = load_model(tmp_path)
    for ours, theirs in zip(
        predict(loaded, data, image_size=(64, 96)), predict(model, data, image_size=(64, 96)), strict=True
    ):
        for name in ("boxes", "labels", "scores"):
            np.testing.assert_array_equal(ours[name], theirs[name])


@pytest.mark.parametrize("detector", ["retinanet", "fcos", "ssd", "yolov2"])
def test_stopped_resumed_and_loaded(data, tmp_path, detector):
    """Each one-stage detector: stopped in the middle of an epoch and resumed it ends where it would have, and loads."""

    class Stop(Exception):
        pass

    def stop(step, steps, losses):
        if step == 6:
            raise Stop

    settings = replace(SETTINGS, detector=detector)
    model = train(data, tmp_path / "whole", recipe="ohem", settings=settings)
    with pytest.raises(Stop):
        train(data, tmp_path / "a", recipe="ohem", settings=settings, checkpoint_seconds=0, progress=stop)
    train(data, tmp_path / "a", recipe="ohem", settings=settings)
    assert_same_weights(weights(tmp_path / "whole"), weights(tmp_path / "a"))
    loaded, _ = load_model(tmp_path / "a")
    assert_same_weights(loaded.state_dict(), model.state_dict())
    for ours, theirs in zip(
        predict(loaded, data, image_size=(64, 96)), predict(model, data, image_size=(64, 96)), strict=True
    ):
        np.testing.assert_array_equal(ours["boxes"], theirs["boxes"])


def test_yolov2_trains_with_anchors_of_the_data(data, tmp_path):
    train(data, tmp_path, settings=replace(SETTINGS, detector="yolov2", epochs=1))
    np.testing.assert_allclose(weights(tmp_path)["anchors"], yolo_anchors(data, image_size=(64, 96)), rtol=1e-6)
    assert weights(tmp_path)["seen"] == 16


def test_a_run_goes_on_in_the_precision_it_began_in(data, tmp_path, monkeypatch):
    """Begun on one machine and taken up on another, it must not change half-way; asked to, it says so."""
    settings = replace(SETTINGS, epochs=1)

    def stop(step, steps, losses):
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(data, tmp_path, settings=settings, precision="bf16-mixed", checkpoint_seconds=0, progress=stop)
    with pytest.raises(ValueError, match="differs in precision"):
        train(data, tmp_path, settings=settings, precision="32-true")
    monkeypatch.setattr("detbalance.training._best_precision", lambda device: "32-true")
    train(data, tmp_path, settings=settings)
    assert precision_of(tmp_path) == "bf16-mixed"
    train(data, tmp_path, settings=settings, resume=False)
    assert precision_of(tmp_path) == "32-true"


def test_a_folder_of_other_settings_is_not_overwritten(data, tmp_path):
    train(data, tmp_path, settings=replace(SETTINGS, epochs=1))
    before = (tmp_path / "settings.json").read_bytes()
    with pytest.raises(ValueError, match="differs in settings"):
        train(data, tmp_path, settings=SETTINGS)
    assert (tmp_path / "settings.json").read_bytes() == before


@pytest.mark.parametrize("damage", ["missing", "truncated", "another size", "no image"])
def test_bad_images_are_named_before_anything_is_written(data, tmp_path, damage):
    folder = tmp_path / "data"
    make_dataset(folder, images=6, dials=Dials(width=96, height=64, classes=3), splits={"train": 1.0})
    broken = read(folder)
    path = broken.path(3)
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:700])
    elif damage == "another size":
        Image.new("RGB", (50, 40)).save(path)
    else:
        path.write_text("no image")
    with pytest.raises(DataError, match=path.name):
        train(broken, tmp_path / "run", settings=SETTINGS)
    assert not (tmp_path / "run").exists()


def test_boxes_follow_the_image(data):
    """A flip moves the boxes with the pixels; the same (seed, epoch, item) gives the same picture."""
    images = DetectionImages(data, image_size=(64, 96), transforms=None)
    plain, target = images[0]
    flipped = DetectionImages(data, image_size=(64, 96), transforms=flips(), seed=0)
    seen = set()
    for epoch in range(12):
        flipped.epoch = epoch
        image, moved = flipped[0]
        again, _ = flipped[0]
        assert torch.equal(image, again)
        mirrored = not torch.equal(image, plain)
        seen.add(mirrored)
        if mirrored:
            assert torch.equal(image, plain.flip(-1))
            expected = target["boxes"][:, [2, 1, 0, 3]].clone()
            expected[:, [0, 2]] = 96 - expected[:, [0, 2]]
            torch.testing.assert_close(moved["boxes"], expected)
    assert seen == {True, False}


def test_images_do_not_touch_the_global_generator(data):
    images = DetectionImages(data, image_size=(64, 96), transforms=flips())
    torch.manual_seed(5)
    first = torch.rand(1)
    torch.manual_seed(5)
    images[1]
    assert torch.equal(first, torch.rand(1))


def test_learning_rate_rises_and_falls():
    settings = Settings(learning_rate=1.0, warmup=0.1)
    rates = [learning_rate(step, 100, settings) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * i for i in range(1, 11)])
    assert all(a >= b for a, b in itertools.pairwise(rates[9:]))
    assert rates[-1] < 0.02


def test_settings_are_checked():
    with pytest.raises(ValueError, match="optimizer"):
        Settings(optimizer="adam")
    with pytest.raises(ValueError, match="epochs"):
        Settings(epochs=0)


def test_training_goes_on_with_images_without_objects(data, tmp_path):
    """Half of the images empty: finite losses and weights."""
    empty = replace(data, **_without(data, data.image % 2 == 0))
    model = train(empty, tmp_path, recipe="pisa", settings=replace(SETTINGS, detector="faster_rcnn", epochs=1))
    assert all(torch.isfinite(p).all() for p in model.parameters())


def _without(data, keep):
    return {name: getattr(data, name)[keep] for name in ("image", "label", "boxes", "area", "crowd", "difficult")}


def test_a_gradient_that_is_no_number_ends_the_training(data, tmp_path):
    """Of a loss that is finite: clipped, it would leave the weights as they are, or as numbers no more."""
    endless = Stage(box_loss=lambda predicted, target: (predicted - predicted.detach()).sqrt().sum(1))
    once = replace(SETTINGS, epochs=1, batch_size=16)
    with pytest.raises(FloatingPointError, match="gradient's norm is nan at step 1 of 1"):
        train(data, tmp_path / "run", recipe=Recipe(name="endless", stages=endless), settings=once)


def test_what_a_deformable_convolution_looks_at_moves_slowly(data, tmp_path):
    """One step of Adam moves a weight by the rate, and offsets by a tenth of it."""
    once = replace(SETTINGS, epochs=1, batch_size=16, weight_decay=0.0)
    head = Recipe(name="dynamic", neck=partial(DynamicHead, blocks=1))
    train(data, tmp_path / "run", recipe=head, settings=once)
    before, after = build_model(once, data.classes, head).state_dict(), weights(tmp_path / "run")
    moved = {name: (after[name] - before[name]).abs().max().item() for name in before if name.endswith("weight")}
    rate = learning_rate(0, 1, once)
    assert moved["backbone.fpn.blocks.0.where.weight"] == pytest.approx(0.1 * rate, rel=0.01)
    assert moved["backbone.fpn.blocks.0.own.weight"] == pytest.approx(rate, rel=0.01)


def test_the_gradient_is_on_record(data, tmp_path):
    train(data, tmp_path / "run", recipe="baseline", settings=replace(SETTINGS, epochs=1))
    (point,) = json.loads((tmp_path / "run" / "history.json").read_text())["history"]
    assert 0 < point["gradient_norm"] < 1e3


def test_time_is_kept_over_a_resumed_run(data, tmp_path):
    started = time.monotonic()
    train(data, tmp_path, settings=SETTINGS)
    seconds = json.loads((tmp_path / "history.json").read_text())["seconds"]
    assert 0 < seconds <= time.monotonic() - started


def test_mixed_precision_leaves_the_ground_truth_alone(data, tmp_path, monkeypatch):
    """Half precision knows every other pixel only: boxes and images reach the detector as they are."""
    seen = []
    forward = RetinaNet.forward

    def watched(self, images, targets=None):
        seen.extend([images[0].dtype, targets[0]["boxes"].dtype] if targets else [])
        return forward(self, images, targets)

    monkeypatch.setattr(RetinaNet, "forward", watched)
    settings = Settings(epochs=1, image_size=(64, 96), batch_size=4)
    train(data, tmp_path / "run", settings=settings, device="cpu", precision="bf16-mixed")
    assert set(seen) == {torch.float32}
    assert json.loads((tmp_path / "run" / "settings.json").read_text())["precision"] == "bf16-mixed"


def test_column_0_of_a_sigmoid_head_is_no_class(data):
    """RetinaNet and FCOS may report it; no object ever trains it."""

    class Reports(nn.Module):
        def forward(self, images):
            boxes, scores = torch.tensor([[0.0, 0, 9, 9], [0, 0, 8, 8]]), torch.tensor([0.9, 0.8])
            return [{"boxes": boxes, "scores": scores, "labels": torch.tensor([0, 2])} for _ in images]

    found = predict(Reports(), data, image_size=(64, 96))
    assert all(f["labels"].tolist() == [2] and len(f["boxes"]) == len(f["scores"]) == 1 for f in found)
