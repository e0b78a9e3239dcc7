"""Detection at several scales: every object once, boxes in pixels of the image, the detector left as it was."""

import json
import math

import pytest
import torch
import typer
from PIL import Image
from torch import nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from detbalance import cli
from detbalance.data.readers import read
from detbalance.detectors import build
from detbalance.prediction import predict, predict_pyramid

H, W = 48, 64
BOX = [20, 16, 32, 28]
SHARE = 12 / math.sqrt(H * W)
LOOK = {"image_size": (H, W), "scales": (0.5, 1.0, 2.0)}


class Sees(nn.Module):
    """A detector that finds the white box where it is large enough in its own pixels."""

    detections_per_img = 1

    def __init__(self, least=0):
        super().__init__()
        self.least, self.shapes = least, []
        self.transform = GeneralizedRCNNTransform(H, W, [0.0] * 3, [1.0] * 3, size_divisible=1)

    def forward(self, images):
        found = []
        for image, original in zip(self.transform(images)[0].tensors, images):
            self.shapes.append(tuple(image.shape[-2:]))
            y, x = (image.amin(0) > 0.5).nonzero(as_tuple=True)
            boxes = torch.tensor([[x.min(), y.min(), x.max() + 1, y.max() + 1]]).float()
            boxes = boxes[(boxes[:, 2] - boxes[:, 0]) >= self.least] * original.shape[-1] / image.shape[-1]
            found.append({"boxes": boxes, "labels": torch.ones(len(boxes)).long(), "scores": torch.ones(len(boxes))})
        return found


@pytest.fixture
def data(tmp_path):
    """A dataset of one white box."""
    image = Image.new("RGB", (W, H))
    image.paste((255, 255, 255), tuple(BOX))
    image.save(tmp_path / "a.png")
    annotations = {
        "images": [{"id": 1, "file_name": "a.png", "width": W, "height": H}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [20, 16, 12, 12]}],
    }
    (tmp_path / "a.json").write_text(json.dumps(annotations))
    return read(tmp_path / "a.json")


def test_what_is_seen_at_every_scale_is_one_detection(data):
    model, steps = Sees(), []
    (found,) = predict_pyramid(model, data, **LOOK, progress=lambda done, total: steps.append((done, total)))
    assert found["boxes"].shape == (1, 4)
    assert abs(found["boxes"] - BOX).max() <= 1
    assert model.shapes == [(24, 32), (48, 64), (96, 128)]
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert (model.transform.min_size, model.transform.max_size) == ((H,), W)


def test_what_is_too_small_is_found_in_the_enlarged_image(data):
    assert len(predict(Sees(least=20), data, image_size=(H, W))[0]["boxes"]) == 0
    (found,) = predict_pyramid(Sees(least=20), data, **LOOK)
    assert abs(found["boxes"] - BOX).max() <= 1


def test_a_detection_beyond_the_range_of_its_scale_is_dropped(data):
    ranges = ((SHARE + 0.1, 1.0), (0.0, SHARE + 0.2), (0.0, SHARE / 2))
    assert len(predict_pyramid(Sees(), data, **LOOK, ranges=ranges)[0]["boxes"]) == 1
    assert len(predict_pyramid(Sees(least=20), data, **LOOK, ranges=ranges)[0]["boxes"]) == 0


def test_one_scale_of_one_is_the_plain_detection(data):
    torch.manual_seed(0)
    model = build("retinanet", classes=1, image_size=(H, W))
    model.score_thresh = 0.0
    (plain,) = predict(model, data, image_size=(H, W))
    (same,) = predict_pyramid(model, data, image_size=(H, W), scales=(1.0,))
    assert len(plain["boxes"])
    assert all((plain[name] == same[name]).all() for name in plain)


def test_refuses(data):
    with pytest.raises(ValueError, match="scales"):
        predict_pyramid(Sees(), data, image_size=(H, W), scales=())
    with pytest.raises(ValueError, match="ranges"):
        predict_pyramid(Sees(), data, **LOOK, ranges=((0.0, 1.0),))
    with pytest.raises(ValueError, match="default boxes"):
        predict_pyramid(build("ssd", classes=1), data, **LOOK)


def test_the_command_detects_at_the_given_scales(data, tmp_path, monkeypatch):
    described = {"settings": {"image_size": [H, W]}}
    monkeypatch.setattr("detbalance.runs.load_model", lambda folder: (model, described))
    model = Sees(least=20)
    assert cli._factors("1,2") == (1.0, 2.0)
    cli._predict(tmp_path, data, tmp_path / "found.json", "", 0.25, cli._factors("1,2"))
    (found,) = json.loads((tmp_path / "found.json").read_text())
    assert found["bbox"] == pytest.approx([20, 16, 12, 12], abs=1)
    for wrong in ("0", "1,x", "-1"):
        with pytest.raises(typer.BadParameter, match="factors above 0"):
            cli._factors(wrong)
