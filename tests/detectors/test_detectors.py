"""The detectors: sizes, parameters, shapes; they are torchvision's own classes."""

import pytest
import torch
from torchvision.models.detection import FasterRCNN, RetinaNet

from detbalance import detectors


@pytest.mark.parametrize(("name", "kind"), [("retinanet", RetinaNet), ("faster_rcnn", FasterRCNN)])
def test_nano(name, kind):
    torch.manual_seed(0)
    model = detectors.build(name, classes=3, size="nano", image_size=(96, 128))
    assert type(model) is kind
    assert 0.8e6 < sum(p.numel() for p in model.parameters()) < 1.4e6
    images = [torch.rand(3, 96, 128), torch.rand(3, 90, 61)]
    targets = [
        {"boxes": torch.tensor([[10.0, 10, 50, 60]]), "labels": torch.tensor([3])},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
    ]
    losses = model.train()(images, targets)
    assert all(torch.isfinite(loss) for loss in losses.values())
    with torch.no_grad():
        found = model.eval()(images)
    assert all((f["labels"] <= 3).all() and (f["labels"] >= 1).all() for f in found)


@pytest.mark.parametrize("size", ["small", "base", "large"])
@pytest.mark.parametrize("name", ["retinanet", "faster_rcnn"])
def test_larger_sizes_are_torchvisions_networks(name, size):
    with torch.device("meta"):
        model = detectors.build(name, classes=3, size=size)
    layers = {"small": 18, "base": 50, "large": 101}[size]
    convolutions = [n for n, m in model.backbone.body.named_modules() if isinstance(m, torch.nn.Conv2d)]
    shortcuts = [n for n in convolutions if "downsample" in n]
    assert len(convolutions) - len(shortcuts) == layers - 1  # the last layer of a ResNet is its classifier
    assert model.backbone.out_channels == 256


def test_what_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="expected detector retinanet, faster_rcnn but got 'yolo'"):
        detectors.build("yolo", classes=3)
    with pytest.raises(ValueError, match="expected size nano, small, base, large but got 'huge'"):
        detectors.build("retinanet", classes=3, size="huge")
    with pytest.raises(ValueError, match="no pretrained weights"):
        detectors.build("retinanet", classes=3, weights="DEFAULT")
