"""The pictures show what they say, and never leave the dataset's folder."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from detbalance.data.annotations import Annotations
from detbalance.report.choices import TRIES, closest_pair
from detbalance.report.pictures import EACH, SIDE, galleries
from detbalance.taxonomy import Imbalance

RED = (220, 30, 30)


@pytest.fixture
def data(tmp_path):
    """Grey images with a red object each; image 3 is crowded, 4 holds the smallest, 5 an overlapping pair."""
    boxes = [[40, 30, 90, 70], [60, 60, 100, 110], [20, 20, 120, 100], [10, 10, 40, 40], [150, 90, 158, 96]]
    image = [0, 1, 2, 3, 4]
    boxes += [[50 + 12 * i, 100, 60 + 12 * i, 112] for i in range(8)] + [[30, 30, 90, 90], [40, 30, 100, 90]]
    image += [3] * 8 + [5, 5]
    label = [1, 2, 1, 1, 1, *[1] * 8, 1, 3]
    for i in range(6):
        pixels = np.full((120, 200, 3), 128, np.uint8)
        for x1, y1, x2, y2 in (b for b, j in zip(boxes, image) if j == i):
            pixels[y1:y2, x1:x2] = RED
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    return Annotations.from_arrays(
        classes=["common", "rare", "pair"],
        sizes=[(200, 120)] * 6,
        image=image,
        label=label,
        boxes=boxes,
        file_names=[f"{i}.png" for i in range(6)],
        root=tmp_path,
    )


def by_problem(data) -> dict:
    return {g.imbalance: g for g in galleries(data)}


def pixels_of(picture) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.source.split(",")[1]))))


def test_each_kind_shows_what_it_says(data):
    found = by_problem(data)
    assert found[Imbalance.FOREGROUND_BACKGROUND].pictures[0].caption == "9 objects"
    rarest = [p.caption for p in found[Imbalance.FOREGROUND_FOREGROUND].pictures]
    assert rarest == ["rare: 1 in all", "pair: 1 in all", "common: 13 in all"]
    assert found[Imbalance.OBJECT_SCALE].pictures[0].caption == "common: 8 × 6 pixels"
    (ambiguous,) = found[Imbalance.IOU_DISTRIBUTION].pictures
    assert ambiguous.caption == "common and pair: IoU 0.71"
    assert all(len(g.pictures) <= EACH for g in found.values())


def test_boxes_lie_on_their_objects_in_the_crop(data):
    for gallery in galleries(data):
        for picture in gallery.pictures:
            pixels = pixels_of(picture)
            assert pixels.shape[:2] == (picture.height, picture.width)
            assert max(pixels.shape) == SIDE
            for box in picture.boxes:
                x = (box["left"] + box["width"] / 2) / 100 * picture.width
                y = (box["top"] + box["height"] / 2) / 100 * picture.height
                assert np.abs(pixels[int(y), int(x)].astype(int) - RED).max() < 60, (gallery.title, box)


def test_the_object_meant_is_marked(data):
    picture = by_problem(data)[Imbalance.OBJECT_SCALE].pictures[0]
    assert [b["name"] for b in picture.boxes if b["chosen"]] == ["common"]


def test_annotated_at_another_size_the_boxes_still_fit(data, tmp_path):
    halved = Annotations.from_arrays(
        classes=data.classes,
        sizes=[(100, 60)] * 6,
        image=data.image,
        label=data.label,
        boxes=data.boxes / 2,
        file_names=data.file_names,
        root=tmp_path,
    )
    here, there = (by_problem(d)[Imbalance.FOREGROUND_FOREGROUND].pictures for d in (data, halved))
    assert [p.boxes for p in here] == [p.boxes for p in there]


def test_missing_and_broken_files_are_passed_over(data, tmp_path):
    (tmp_path / "1.png").unlink()
    (tmp_path / "3.png").write_bytes((tmp_path / "3.png").read_bytes()[:60])
    (tmp_path / "4.png").write_text("no picture")
    found = by_problem(data)
    assert found[Imbalance.FOREGROUND_BACKGROUND].pictures[0].caption == "2 objects"
    assert found[Imbalance.FOREGROUND_FOREGROUND].pictures[0].caption == "pair: 1 in all"
    for i in range(6):
        (tmp_path / f"{i}.png").unlink(missing_ok=True)
    assert galleries(data) == []


def test_names_that_leave_the_folder_are_not_opened(data, tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    escaped = Annotations.from_arrays(
        classes=data.classes,
        sizes=data.sizes,
        image=data.image,
        label=data.label,
        boxes=data.boxes,
        file_names=[f"../{name}" for name in data.file_names],
        root=inside,
    )
    assert galleries(escaped) == []


def test_a_dataset_without_files_costs_few_attempts(data, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(Image, "open", lambda path: opened.append(path) or (_ for _ in ()).throw(OSError("gone")))
    assert galleries(data) == []
    assert len(opened) <= 4 * TRIES


def test_no_folder_no_boxes_no_pictures(data):
    none = Annotations.from_arrays(classes=["a"], sizes=[(9, 9)], image=[], label=[], boxes=[], root=data.root)
    assert galleries(none) == []


def test_crowd_regions_are_no_objects(data):
    crowd = np.zeros(len(data.boxes), bool)
    crowd[data.rows(5)] = True
    crowd[data.rows(3)] = True
    columns = {
        name: getattr(data, name) for name in ("classes", "sizes", "image", "label", "boxes", "file_names", "root")
    }
    found = by_problem(Annotations.from_arrays(**columns, crowd=crowd))
    assert found[Imbalance.FOREGROUND_BACKGROUND].pictures[0].caption == "1 object"
    assert Imbalance.IOU_DISTRIBUTION not in found


def test_closest_pair_against_the_loop():
    boxes = np.random.default_rng(0).uniform(0, 60, (40, 2))
    boxes = np.hstack((boxes, boxes + np.random.default_rng(1).uniform(5, 40, (40, 2))))

    def iou(a, b):
        w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
        shared = max(w, 0) * max(h, 0)
        return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)

    best = max((iou(boxes[i], boxes[j]), i, j) for i in range(40) for j in range(i + 1, 40))
    assert closest_pair(boxes) == pytest.approx(best)
