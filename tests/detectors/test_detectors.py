"""The detectors: sizes, parameters, shapes; they are torchvision's own classes."""

import pytest
import torch
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_iou

from detbalance import detectors

KINDS = {"retinanet": RetinaNet, "fcos": FCOS, "ssd": SSD, "faster_rcnn": FasterRCNN, "cascade_rcnn": FasterRCNN}


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_nano(name, kind):
    torch.manual_seed(0)
    model = detectors.build(name, classes=3, size="nano", image_size=(96, 128))
    assert type(model) is kind
    assert 0.8e6 < sum(p.numel() for p in model.parameters()) < 1.6e6
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
@pytest.mark.parametrize("name", KINDS)
def test_larger_sizes_are_torchvisions_networks(name, size):
    with torch.device("meta"):
        model = detectors.build(name, classes=3, size=size)
    layers = {"small": 18, "base": 50, "large": 101}[size]
    convolutions = [n for n, m in model.backbone.body.named_modules() if isinstance(m, torch.nn.Conv2d)]
    shortcuts = [n for n in convolutions if "downsample" in n]
    assert len(convolutions) - len(shortcuts) == layers - 1  # the last layer of a ResNet is its classifier
    if name == "ssd":
        assert model.backbone.out_channels == [c // (4 if size == "small" else 1) for c in (512, 1024, 2048)] + [
            512,
            256,
            256,
        ]
    else:
        assert model.backbone.out_channels == 256


@pytest.mark.parametrize("name", ["fcos", "ssd", "yolov2"])
def test_four_images_are_learnt(name):
    """Sixty steps: the loss falls to a fifth, and the objects are found where they are."""
    torch.manual_seed(0)
    model = detectors.build(name, classes=3, image_size=(64, 96)).train()
    generator = torch.Generator().manual_seed(0)
    images, targets = torch.rand(4, 3, 64, 96, generator=generator) * 0.3, []
    for image, places in zip(images, ([(4, 8), (50, 30)], [], [(20, 20)], [(10, 34), (66, 4)])):
        boxes = torch.tensor([(x, y, x + 24, y + 24) for x, y in places], dtype=torch.float32).reshape(-1, 4)
        labels = torch.arange(len(places)) + 1
        for (x, y), label in zip(places, labels):
            image[label, y : y + 24, x : x + 24] = 1.0
        targets.append({"boxes": boxes, "labels": labels})
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(60):
        loss = sum(model(list(images), targets).values())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    floor = 0.55 if name == "fcos" else 0.0  # the entropy of centre-ness
    assert sum(losses[-5:]) / 5 - floor < (losses[0] - floor) / 5
    with torch.no_grad():
        for found, target in zip(model.eval()(list(images)), targets):
            if len(target["boxes"]):
                best = box_iou(target["boxes"], found["boxes"][: len(target["boxes"])])
                assert (best.amax(1) > 0.5).all()
                assert found["labels"][best.argmax(1)].tolist() == target["labels"].tolist()


def test_what_does_not_exist_is_refused():
    with pytest.raises(
        ValueError, match="expected detector retinanet, fcos, ssd, yolov2, faster_rcnn, cascade_rcnn but got"
    ):
        detectors.build("yolo", classes=3)
    with pytest.raises(ValueError, match="expected size nano, small, base, large but got 'huge'"):
        detectors.build("retinanet", classes=3, size="huge")
    with pytest.raises(ValueError, match="no pretrained weights"):
        detectors.build("retinanet", classes=3, weights="DEFAULT")


@pytest.mark.parametrize("size", [(64, 64), (192, 256)])
def test_ssd_trains_on_a_single_small_image(size):
    """Its last map is then a single pixel."""
    model = detectors.build("ssd", classes=2, image_size=size).train()
    losses = model([torch.rand(3, *size)], [{"boxes": torch.tensor([[5.0, 5, 40, 50]]), "labels": torch.tensor([1])}])
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_ssd_stretches_images_to_its_size():
    """Height and width in the right order, and boxes back in the pixels of the image."""
    model = detectors.build("ssd", classes=2, image_size=(64, 96)).eval()
    seen = []
    model.backbone.register_forward_hook(lambda m, x, output: seen.append(x[0].shape[-2:]))
    with torch.no_grad():
        found = model([torch.rand(3, 200, 100)])
    assert seen == [(64, 96)]
    assert found[0]["boxes"][:, 3].max() > 100
    assert (found[0]["boxes"][:, 2] <= 100).all()
