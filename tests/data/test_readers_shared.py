"""Real datasets, where they lie beside the repository: known counts, splits, dirt, and time."""

import time
from pathlib import Path

import pytest

from detbalance.data.image_files import check_images
from detbalance.data.readers import read
from detbalance.data.splits import split

SHARED = Path(__file__).resolve().parents[2] / "../shared/data"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason=f"the real datasets are not at {SHARED}")


def kinds(a):
    return {problem.kind: problem.count for problem in a.problems}


@pytest.mark.parametrize(
    ("name", "form", "images", "boxes", "classes"),
    [
        ("bccd", "voc", 364, 4888, 3),
        ("facemask", "coco", 677, 3106, 3),
        ("chess", "coco", 260, 2494, 14),
        ("chess/valid.json", "coco", 58, 386, 14),
        ("deeppcb", "coco", 300, 2046, 6),
        ("coco_val2017_boxes", "coco", 5000, 36780, 80),
        ("coco_val2014_100", "coco", 100, 839, 80),
        ("voc_annotations", "coco", 16551, 47223, 20),
        ("voc_annotations/voc2007_trainval.json", "coco", 5011, 15662, 20),
        ("taco/taco.json", "coco", 1500, 4784, 60),
        ("taco/taco_unofficial.json", "coco", 3831, 8334 - 15 - 8, 60),
    ],
)
def test_counts(name, form, images, boxes, classes):
    if not (SHARED / name).exists():
        pytest.skip(f"{name} is not there")
    a = read(SHARED / name)
    assert (a.form, len(a), len(a.boxes), len(a.classes)) == (form, images, boxes, classes)


@pytest.mark.parametrize(
    ("name", "train", "test"),
    [("bccd", 292, 72), ("chess", 202, 58), ("deeppcb", 200, 100), ("facemask", 542, 135)],
)
def test_splits_and_images(name, train, test):
    if not (SHARED / name).exists():
        pytest.skip(f"{name} is not there")
    a = read(SHARED / name, strict=True)
    assert [len(part) for part in split(a)] == [train, test]
    assert not kinds(check_images(a)).keys() & {"image file absent", "unreadable image file", "image of another size"}


def test_known_dirt():
    if not (SHARED / "taco").exists():
        pytest.skip("taco is not there")
    chess = kinds(read(SHARED / "chess"))
    assert chess == {"duplicate box": 1, "category without boxes": 1, "stray label": 1}
    assert kinds(read(SHARED / "coco_val2017_boxes"))["zero-size box"] == 1
    assert kinds(read(SHARED / "coco_val2014_100"))["crowd region"] == 9
    assert kinds(read(SHARED / "taco/taco_unofficial.json"))["unusable number"] == 15
    assert dict(zip(*(lambda a: (a.classes, a.counts.tolist()))(read(SHARED / "bccd")))) == {
        "Platelets": 361, "RBC": 4155, "WBC": 372,
    }  # fmt: skip


def test_speed():
    """36,781 boxes take about a tenth of a second of processor time; five times that would be a defect."""
    path = SHARED / "coco_val2017_boxes"
    if not path.exists():
        pytest.skip("coco_val2017_boxes is not there")
    times = []
    for _ in range(3):
        start = time.process_time()
        read(path)
        times.append(time.process_time() - start)
    assert min(times) < 0.5
