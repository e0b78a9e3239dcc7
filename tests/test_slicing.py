"""Slices: every window covers what it must, and no object is lost at a seam or counted twice."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from detbalance.data.readers import read
from detbalance.prediction import predict_sliced
from detbalance.slicing import Slices, merge

SEEN = 4
"""pixels of an object that have to be in a window for the perfect detector to see it"""


def apart(box, others, gap=4):
    return all(
        box[2] + gap <= o[0] or o[2] + gap <= box[0] or box[3] + gap <= o[1] or o[3] + gap <= box[1] for o in others
    )


@st.composite
def scenes(draw):
    """An image's height and width, objects that do not touch, and a way to cut it."""
    height, width = draw(st.integers(40, 300)), draw(st.integers(40, 300))
    objects = []
    for _ in range(draw(st.integers(0, 15))):
        w, h = draw(st.integers(SEEN, min(width, 140))), draw(st.integers(SEEN, min(height, 140)))
        x, y = draw(st.integers(0, width - w)), draw(st.integers(0, height - h))
        box = (x, y, x + w, y + h)
        if apart(box, objects):
            objects.append(box)
    size = draw(st.integers(40, 120)), draw(st.integers(40, 120))
    return height, width, objects, Slices(size=size, overlap=draw(st.sampled_from([0.1, 0.25, 0.5])))


def seen(objects, windows):
    """What a perfect detector finds: every object in every window, cut off at its borders."""
    boxes, where, which = [], [], []
    for window in windows:
        for number, box in enumerate(objects):
            part = [max(box[0], window[0]), max(box[1], window[1]), min(box[2], window[2]), min(box[3], window[3])]
            if part[2] - part[0] >= SEEN and part[3] - part[1] >= SEEN:
                boxes.append(part)
                where.append(window)
                which.append(number)
    return boxes, where, which


@given(scenes(), st.booleans(), st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None)
def test_no_object_is_lost_or_counted_twice(scene, whole, random):
    height, width, objects, slices = scene
    windows = slices.windows(height, width).tolist() + [[0, 0, width, height]] * whole
    boxes, where, which = seen(objects, windows)
    labels = torch.tensor([1 + number % 2 for number in which], dtype=torch.long)
    scores = torch.tensor([random.random() for _ in boxes])
    given = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), scores, labels
    found, best, classes = merge(*given, torch.tensor(where, dtype=torch.float32).reshape(-1, 4), (height, width))
    got = sorted((*map(round, box), label) for box, label in zip(found.tolist(), classes.tolist()))
    assert got == sorted((*box, 1 + number % 2) for number, box in enumerate(objects))
    assert best.tolist() == sorted(best.tolist(), reverse=True)


@given(scenes())
@settings(max_examples=200, deadline=None)
def test_windows_cover_the_image_and_hold_what_is_smaller_than_the_overlap(scene):
    height, width, objects, slices = scene
    windows = slices.windows(height, width).tolist()
    covered = torch.zeros(height, width, dtype=torch.bool)
    for x1, y1, x2, y2 in windows:
        assert 0 <= x1 < x2 <= width
        assert 0 <= y1 < y2 <= height
        assert (y2 - y1, x2 - x1) == (min(height, slices.size[0]), min(width, slices.size[1]))
        covered[y1:y2, x1:x2] = True
    assert covered.all()
    shared = [int(slices.overlap * side) for side in slices.size]
    for box in objects:
        if box[3] - box[1] <= shared[0] and box[2] - box[0] <= shared[1]:
            assert any(w[0] <= box[0] and w[1] <= box[1] and box[2] <= w[2] and box[3] <= w[3] for w in windows)


def test_neighbours_of_a_class_stay_two():
    """Two objects, each cut off by a window of its own, whose extents along the seam do not agree."""
    boxes = torch.tensor([[60.0, 0, 100, 20], [80.0, 30, 120, 50]])
    window = torch.tensor([[0.0, 0, 100, 100], [80, 0, 180, 100]])
    assert len(merge(boxes, torch.tensor([0.9, 0.8]), torch.ones(2).long(), window, (100, 180))[0]) == 2


class _Perfect(nn.Module):
    """Finds bright pixels: one box around them in each picture that it is given, and remembers how large those are."""

    def __init__(self):
        super().__init__()
        self.largest = self.most = 0

    def forward(self, images):
        self.most = max(self.most, len(images))
        found = []
        for image in images:
            self.largest = max(self.largest, image.shape[-2] * image.shape[-1])
            y, x = (image[0] > 0.5).nonzero(as_tuple=True)
            box = [[x.min(), y.min(), x.max() + 1, y.max() + 1]] if len(x) else []
            boxes = torch.tensor(box, dtype=torch.float32).reshape(-1, 4)
            found.append({"boxes": boxes, "labels": torch.ones(len(box)).long(), "scores": torch.ones(len(box))})
        return found


def dataset(folder, size, box):
    image = Image.new("RGB", size)
    image.paste((255, 255, 255), box)
    image.save(folder / "a.png")
    x1, y1, x2, y2 = box
    annotations = {
        "images": [{"id": 1, "file_name": "a.png", "width": size[0], "height": size[1]}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1]}],
    }
    (folder / "a.json").write_text(json.dumps(annotations))
    return read(folder / "a.json")


@pytest.mark.parametrize("whole", [True, False])
def test_predicts_across_a_seam_in_bounded_memory(tmp_path, whole):
    """A bar over the whole of a large image: the detector never sees more than a few windows at a time."""
    data, model = dataset(tmp_path, (4000, 4000), (500, 1900, 3500, 1960)), _Perfect()
    slices = Slices(size=(1000, 1000), overlap=0.2, whole=whole)
    (found,) = predict_sliced(model, data, image_size=(1000, 1000), slices=slices, batch_size=3)
    assert found["boxes"].round().tolist() == [[500, 1900, 3500, 1960]]
    assert (model.largest, model.most) == (1000 * 1000, 3)


def test_boxes_are_those_of_the_image_when_windows_are_scaled(tmp_path):
    data = dataset(tmp_path, (300, 200), (130, 40, 160, 70))
    slices = Slices(size=(100, 100), overlap=0.5, whole=False)
    (found,) = predict_sliced(_Perfect(), data, image_size=(200, 200), slices=slices)
    assert abs(found["boxes"] - [130, 40, 160, 70]).max() <= 1


def test_refuses():
    with pytest.raises(ValueError, match="overlap must be in"):
        Slices(overlap=1)
    with pytest.raises(ValueError, match="size must be"):
        Slices(size=(4, 100))
