"""The recipes for rare classes: which detectors take them, that they learn, and that equal classes change nothing."""

import pytest
import torch

from detbalance import attach, recipes
from detbalance.data.annotations import Annotations
from detbalance.detectors import build
from detbalance.priors import set_from_data

ANY = {"dense", "ssd", "yolo", "rcnn"}
KINDS = {
    **dict.fromkeys(
        (
            "repeat_factor",
            "class_aware",
            "over_sampling",
            "under_sampling",
            "effective_number_sampling",
            "size_groups",
            "failing_classes",
            "easy_images_first",
            "hard_images_first",
            "balanced_batches",
            "class_balanced",
            "effective_number",
            "size_balanced",
        ),
        ANY,
    ),
    "foreground_balanced": {"dense", "ssd", "rcnn"},
    "federated": {"dense", "ssd", "rcnn"},
    "logit_adjustment": {"dense", "ssd", "rcnn"},
    "seesaw": {"ssd", "rcnn"},
    "loce": {"ssd", "rcnn"},
    "eqlv2": {"dense", "rcnn"},
    "equalised_focal": {"dense", "rcnn"},
    "group_softmax": {"rcnn"},
    "proi": {"rcnn"},
    "iou_uniform": {"rcnn"},
}
DETECTORS = {"dense": ("retinanet", "fcos"), "ssd": ("ssd",), "yolo": ("yolov2",), "rcnn": ("faster_rcnn",)}
IN_THE_DETECTOR = [
    (name, kind, detector)
    for name, kinds in KINDS.items()
    for kind in sorted(kinds)
    for detector in DETECTORS[kind]
    if recipes.get(name, kind).images is None
]
CHANGES_NOTHING_HERE = ("federated",)  # of three classes all take part
BOXES = torch.tensor([[10.0, 10, 34, 34], [40, 20, 72, 52], [60, 5, 90, 25]])


def data(labels):
    boxes = BOXES.repeat(4, 1).numpy()
    return Annotations.from_arrays(
        classes=["a", "b", "c"],
        sizes=[(96, 64)] * 4,
        image=[0] * 3 + [1] * 3 + [2] * 3 + [3] * 3,
        label=labels,
        boxes=boxes,
    )


def losses(detector, recipe, labels):
    torch.manual_seed(0)
    model = attach(build(detector, classes=3, image_size=(64, 96)).train(), recipe)
    set_from_data(model, data(labels))
    some = {"boxes": BOXES, "labels": torch.tensor([1, 1, 3])}
    none = {"boxes": BOXES[:0], "labels": torch.zeros(0, dtype=torch.long)}
    torch.manual_seed(1)
    images = [torch.rand(3, 64, 96) for _ in range(2)]
    return model, [model(images, [dict(some), dict(none)]) for _ in range(2)][-1]  # the second step knows statistics


@pytest.mark.parametrize(("name", "kinds"), KINDS.items())
def test_kinds(name, kinds):
    assert set(recipes.kinds(name)) == kinds
    assert all(recipes.get(name, kind).name == name for kind in kinds)
    for kind in set(recipes.KINDS) - kinds:
        with pytest.raises(ValueError, match=name):
            recipes.get(name, kind)


@pytest.mark.parametrize(("name", "kind", "detector"), IN_THE_DETECTOR)
def test_every_detector_takes_it_and_it_does_something(name, kind, detector):
    model, found = losses(detector, recipes.get(name, kind), [1] * 10 + [2, 3])
    assert all(loss.isfinite() for loss in found.values())
    sum(found.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    _, plain = losses(detector, recipes.baseline(kind), [1] * 10 + [2, 3])
    total, before = sum(found.values()).item(), sum(plain.values()).item()
    if name in CHANGES_NOTHING_HERE:
        assert total == pytest.approx(before, rel=1e-5)
    else:
        assert total != pytest.approx(before, rel=1e-6)


@pytest.mark.parametrize("name", ["class_balanced", "effective_number", "logit_adjustment"])
@pytest.mark.parametrize(("kind", "detector"), [("dense", "retinanet"), ("ssd", "ssd"), ("rcnn", "faster_rcnn")])
def test_equal_classes_change_nothing(name, kind, detector):
    _, found = losses(detector, recipes.get(name, kind), [1, 2, 3] * 4)
    _, plain = losses(detector, recipes.baseline(kind), [1, 2, 3] * 4)
    for key, value in plain.items():
        torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-6)
