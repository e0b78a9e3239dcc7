"""What all augmentations have in common: valid targets in step, decided by the seed alone, inputs left as they are."""

import inspect
import pickle

import pytest
import torch
from torch.utils.data import DataLoader
from torchvision.tv_tensors import BoundingBoxes, Mask

from detbalance import augment
from detbalance.augment._piece import bounds
from detbalance.data.annotations import Annotations
from detbalance.data.images import DetectionImages, collate, flips
from detbalance.data.synthetic import Dials, make_dataset

METHODS = [m for name in augment.__all__ if hasattr(m := getattr(augment, name), "paper")]
every = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.__name__)


def busy(method, **options):
    """One that does something to every image."""
    has = inspect.signature(method).parameters
    return method(**{name: value for name, value in {"share": 1.0, **options}.items() if name in has})


def fitted(method, data, **options):
    return busy(method, **options).fit(data.annotations, data.others)


def check(image, target, classes):
    boxes, labels = target["boxes"], target["labels"]
    height, width = image.shape[-2:]
    assert boxes.shape == (len(labels), 4)
    assert boxes.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert ((labels >= 1) & (labels <= classes)).all()
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2] <= width).all()
    assert (boxes[:, 3] <= height).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    if "masks" in target:
        assert target["masks"].shape == (len(labels), height, width)
        assert boxes.as_subclass(torch.Tensor).equal(bounds(target["masks"] > 0).float())  # tight around what is seen


@every
@pytest.mark.parametrize("masks", [True, False], ids=["masks", "boxes"])
def test_valid_and_in_step(method, masks, world):
    data = world(masks=masks)
    transform, changed = fitted(method, data), 0
    for i in range(12):
        torch.manual_seed(i)
        image, target = data.others(i % len(data.annotations))
        made, objects = transform(image, target, data.others)
        assert made.dtype == torch.uint8
        assert made.shape[0] == 3
        assert set(target) <= set(objects)
        assert isinstance(objects["boxes"], BoundingBoxes)
        assert objects["boxes"].canvas_size == tuple(made.shape[-2:])
        if masks:
            assert isinstance(objects["masks"], Mask)
        check(made, objects, 3)
        changed += made.shape != image.shape or not made.equal(image)
    assert changed > 5


@every
def test_inputs_stay_and_the_seed_decides(method, world):
    data = world(1)
    transform = pickle.loads(pickle.dumps(fitted(method, data)))
    kept = [data.others(i) for i in range(len(data.annotations))]
    before = [(image.clone(), {k: v.clone() for k, v in target.items()}) for image, target in kept]

    def run(seed):
        torch.manual_seed(seed)
        return transform(*kept[0], lambda i: kept[i])

    first, again = run(1), run(1)
    assert first[0].equal(again[0])
    assert all(first[1][name].equal(again[1][name]) for name in first[1])
    others = [run(seed) for seed in range(2, 10)]
    assert any(o[0].shape != first[0].shape or not o[0].equal(first[0]) for o in others)
    for (image, target), (image_before, target_before) in zip(kept, before):
        assert image.equal(image_before)
        assert all(target[name].equal(target_before[name]) for name in target)


@every
def test_float_images_and_plain_tensors(method, world):
    data = world(2, masks=False)

    def plain(i):
        image, target = data.others(i)
        return image.float() / 255, {k: v.as_subclass(torch.Tensor) for k, v in target.items()}

    transform = busy(method).fit(data.annotations, plain)
    for i in range(6):
        torch.manual_seed(i)
        image, target = transform(*plain(i), plain)
        assert image.dtype == torch.float32
        assert 0 <= image.min()
        assert image.max() <= 1
        assert type(target["boxes"]) is torch.Tensor
        check(image, target, 3)


@every
def test_images_without_objects(method, world):
    data = world(masks=True)
    image, target = data.others(0)
    empty = {"boxes": target["boxes"][:0], "labels": target["labels"][:0], "masks": target["masks"][:0]}
    empty["boxes"] = BoundingBoxes(empty["boxes"], format="XYXY", canvas_size=(48, 64))
    empty["masks"] = Mask(empty["masks"])
    torch.manual_seed(0)
    check(*fitted(method, data)(image, empty, data.others), 3)
    none = Annotations.from_arrays(classes=["a"], sizes=[(64, 48)] * 2, image=[], label=[], boxes=[])
    transform = busy(method).fit(none, lambda i: (image, empty))
    for i in range(4):
        torch.manual_seed(i)
        _, objects = transform(image, empty, lambda i: (image, empty))
        assert len(objects["labels"]) == 0


@every
def test_it_has_to_know_the_data_first(method, world):
    data = world()
    with pytest.raises(ValueError, match=f"{method.__name__}.*fit"):
        busy(method)(*data.others(0), data.others)


@every
def test_fitting_gives_a_copy_that_prints_as_the_original(method, world):
    data, one = world(), method()
    other = one.fit(data.annotations, data.others)
    assert one.data is None
    assert other.data is not None
    assert repr(other) == repr(one)
    assert other == one


@every
def test_share_zero_changes_nothing(method, world):
    data = world()
    image, target = data.others(0)
    made, objects = method(share=0).fit(data.annotations, data.others)(image, target, data.others)
    assert made is image
    assert objects is target


@every
def test_settings_out_of_range_are_refused(method):
    wrong = {"share": 1.5, "hidden": -0.1, "classes": "most", "scale": (0, 1), "blends": ("x",), "cut": "x"}
    for name in set(wrong) & set(inspect.signature(method).parameters):
        with pytest.raises(ValueError, match=name):
            method(**{name: wrong[name]})


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "shapes"
    return make_dataset(folder, images=10, dials=Dials(width=96, height=64, classes=3), splits={"train": 1.0})


@every
def test_workers_make_no_difference(method, shapes):
    images = DetectionImages(shapes, image_size=(64, 96), transforms=flips(), augment=busy(method), seed=3)
    images.epoch = 2
    loaded = DataLoader(images, batch_size=3, collate_fn=collate, num_workers=2)
    made = [pair for pictures, targets in loaded for pair in zip(pictures, targets)]
    for i in (7, 3, 0, 9):  # in any order
        image, target = images[i]
        assert image.equal(made[i][0])
        assert all(target[name].equal(made[i][1][name]) for name in target)
        check(image, target, 3)
