"""Every kind of dirt: what is done about it, that it is counted with examples, and what strict says."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detbalance.data.annotations import DataError
from detbalance.data.image_files import check_images
from detbalance.data.readers import read
from detbalance.data.rules import RULES

NAN, INF = float("nan"), float("inf")
GOOD = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 8, 8]}


def dataset(*changes, images=(), categories=(), size=(40, 30)):
    """One good box, and a copy of it for each change."""
    named = [{"id": i, "file_name": f"{i}.png", "width": size[0], "height": size[1]} for i in (1, 2)]
    return {
        "images": [*named, *images],
        "annotations": [
            GOOD,
            *({k: v for k, v in (GOOD | {"id": i + 10} | c).items() if v is not ...} for i, c in enumerate(changes)),
            GOOD | {"id": 2, "image_id": 2},
        ],
        "categories": [{"id": 1, "name": "cat"}, *categories],
    }


def write(folder, data):
    (folder / "boxes.json").write_text(json.dumps(data))
    return folder / "boxes.json"


def kinds(a):
    return {problem.kind: problem.count for problem in a.problems}


BOX = [
    ("unusable record", {"bbox": ...}, "annotations[1] (id 10): Object missing required field `bbox`"),
    ("unusable record", {"bbox": [1, 2, 3]}, "expected 4 numbers but got"),
    ("unusable record", {"bbox": None}, "`.bbox`"),
    ("unusable record", {"bbox": [1, 2, 3, "x"]}, "`.bbox[3]`"),
    ("unusable record", {"image_id": ...}, "`image_id`"),
    ("unusable record", {"category_id": "cat"}, "`.category_id`"),
    ("unknown image", {"image_id": 77}, "annotation 10: image_id: 77 is not in 'images'"),
    ("unknown category", {"category_id": 9}, "annotation 10: category_id: 9 is not in 'categories'"),
    ("unusable number", {"bbox": [1, NAN, 3, 4]}, "annotation 10 (image '1.png'): bbox: x 1 to 4, y nan to nan"),
    ("unusable number", {"bbox": [1, 1, INF, 4]}, "x 1 to inf"),
    ("unusable number", {"bbox": [1, 1, 2e7, 4]}, "x 1 to 2e+07"),
    ("negative size", {"bbox": [5, 5, -2, 4]}, "x 5 to 3, y 5 to 9"),
    ("negative size", {"bbox": [5, 5, 0, -4]}, "y 5 to 1"),
    ("zero-size box", {"bbox": [5, 5, 0, 4]}, "x 5 to 5"),
    ("box outside the image", {"bbox": [50, 5, 4, 4]}, "in an image of 40 x 30"),
    ("box outside the image", {"bbox": [-9, 5, 9, 4]}, "x -9 to 0"),
]


@pytest.mark.parametrize(("kind", "change", "message"), BOX)
def test_boxes_that_are_excluded(tmp_path, kind, change, message):
    path = write(tmp_path, dataset(change))
    a = read(path)
    (problem,) = [p for p in a.problems if p.action == "excluded"]
    assert (problem.kind, problem.count, problem.rule) == (kind, 1, RULES[kind].text)
    assert str(path) in problem.examples[0]
    if "expected 4" not in message:
        assert message in problem.examples[0]
    assert a.boxes.tolist() == [[1, 1, 9, 9]] * 2
    assert a.image.tolist() == [0, 1]


@pytest.mark.parametrize(("kind", "change", "message"), BOX)
def test_strict_names_file_and_record_of_the_first(tmp_path, kind, change, message):
    path = write(tmp_path, dataset(change))
    if RULES[kind].fatal:
        with pytest.raises(DataError, match=kind) as caught:
            read(path, strict=True)
        assert str(path) in str(caught.value)
        assert "10" in str(caught.value)
        assert "\n" not in str(caught.value)
    else:
        with pytest.raises(
            DataError, match="no folder with the images"
        ):  # the boxes are passed, the images are missing
            read(path, strict=True)


def test_what_strict_must_not_pass():
    """NaN, negative size, unknown category and absent images end a training before it starts."""
    assert {kind for kind, rule in RULES.items() if rule.fatal} == {
        "unusable record", "unknown category", "unusable number", "negative size", "unusable file name",
        "image file absent", "unreadable image file", "unreadable annotation file",
    }  # fmt: skip


def test_boxes_that_reach_beyond_their_image_are_clipped(tmp_path):
    a = read(write(tmp_path, dataset({"bbox": [-3, 5, 60, 4]}, {"bbox": [5, -3, 4, 60]}, {"bbox": [0, 0, 40.005, 30]})))
    assert a.boxes.tolist() == [[1, 1, 9, 9], [0, 5, 40, 9], [5, 0, 9, 30], [0, 0, 40, 30], [1, 1, 9, 9]]
    assert kinds(a) == {"box beyond the image": 2}  # rounding is no dirt
    assert a.problems[0].action == "repaired"


def test_without_a_size_boxes_are_clipped_at_zero_only(tmp_path):
    a = read(write(tmp_path, dataset({"bbox": [-3, 5, 60, 4]}, size=(0, 0))))
    assert a.boxes[1].tolist() == [0, 5, 57, 9]


@pytest.mark.parametrize(("area", "bad"), [(0, 1), (-5, 1), (1e300, 1), (None, 0), (12.5, 0)])
def test_areas(tmp_path, area, bad):
    a = read(write(tmp_path, dataset({"area": area})))
    assert a.area[1] == (area if area == 12.5 else 64)
    assert kinds(a).get("unusable area", 0) == bad


def test_numbers_written_as_text_are_converted(tmp_path):
    a = read(write(tmp_path, dataset({"bbox": ["2", 3, "4", 5], "category_id": "1", "area": "7"})))
    assert a.boxes[1].tolist() == [2, 3, 6, 8]
    assert a.area[1] == 7
    assert kinds(a)["value of another type"] == 1


def test_numbers_that_are_whole_are_no_dirt(tmp_path):
    data = dataset()
    data["images"][0] |= {"width": 40.0, "height": 30.0}
    assert read(write(tmp_path, data)).problems == ()


def test_duplicates(tmp_path):
    extra = {"id": 1, "file_name": "other.png", "width": 5, "height": 5}
    again = {"id": 3, "file_name": "2.png", "width": 40, "height": 30}
    data = dataset({}, {"id": 1, "bbox": [2, 2, 3, 3]}, images=[extra, again])
    a = read(write(tmp_path, data))
    assert kinds(a) == {
        "duplicate box": 1, "duplicate annotation id": 1, "duplicate image id": 1, "image listed twice": 1,
        "image without boxes": 1,
    }  # fmt: skip
    assert a.file_names.tolist() == ["1.png", "2.png", "2.png"]
    assert a.image.tolist() == [0, 0, 0, 1]


def test_equal_boxes_of_other_classes_or_images_are_no_duplicates(tmp_path):
    data = dataset({"category_id": 2}, {"iscrowd": 1}, categories=[{"id": 2, "name": "dog"}])
    assert kinds(read(write(tmp_path, data))) == {"crowd region": 1}


def test_categories(tmp_path):
    categories = [{"id": 1, "name": "lynx"}, {"id": 2, "name": "cat"}, {"id": 3, "name": "emu"}]
    a = read(write(tmp_path, dataset({"category_id": 2, "bbox": [3, 3, 3, 3]}, categories=categories)))
    assert (a.classes, a.category_ids.tolist(), a.label.tolist()) == (("cat", "emu"), [1, 3], [1, 1, 1])
    assert kinds(a) == {"duplicate category": 2, "category without boxes": 1}


def test_stray_labels(tmp_path):
    names = [{"id": 2, "name": "dog"}, {"id": 3, "name": "dgo"}]
    stray = {"category_id": 3, "bbox": [1, 1, 2, 2]}

    def with_dogs(count):
        return [{"category_id": k, "bbox": [i % 9, i // 9, 1 + k, 2]} for i in range(count) for k in (1, 2)]

    a = read(write(tmp_path, dataset(*with_dogs(9), stray, categories=names)))
    assert kinds(a) == {}  # nine dogs are not ten times as many
    a = read(write(tmp_path, dataset(*with_dogs(10), stray, categories=names)))
    assert kinds(a) == {"stray label": 1}


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("red\x1b[31m", "red\ufffd[31m"),
        ("\u202egpj.exe", "\ufffdgpj.exe"),
        ("a\nb\0c", "a\ufffdb\ufffdc"),
        ("\ud800", "\ufffd"),
        ("", "class 2"),
        ("  ", "class 2"),
        ("x" * 5000, "x" * 99 + "…"),
        ("猫", "猫"),
    ],
)
def test_hostile_class_names(tmp_path, name, shown):
    a = read(write(tmp_path, dataset(categories=[{"id": 2, "name": name}])))
    assert a.classes[1] == shown
    assert kinds(a).get("unusable class name", 0) == (name != shown and 1)
    for problem in a.problems:
        "".join(problem.examples).encode()


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a\0.png", "..\\..\\x", "c:/x.png", ""])
def test_hostile_file_names(tmp_path, name):
    data = dataset(images=[{"id": 3, "file_name": name}])
    Image.new("L", (40, 30)).save(tmp_path / "1.png")
    Image.new("L", (40, 30)).save(tmp_path / "2.png")
    path = write(tmp_path, data)
    a = check_images(read(path))
    assert kinds(a)["unusable file name"] == 1
    with pytest.raises(DataError):
        a.path(2)
    with pytest.raises(DataError, match="unusable file name"):
        read(path, strict=True)


@pytest.mark.parametrize("size", [(-1, 30), (0, 30), (1e9, 30), (0.5, 30), (2**70, 30)])
def test_sizes_that_cannot_be_used(tmp_path, size):
    a = read(write(tmp_path, dataset(images=[{"id": 3, "file_name": "3.png", "width": size[0], "height": size[1]}])))
    assert a.sizes[2].tolist() == [0, 0]
    assert kinds(a).keys() & {"unusable image size", "unusable record"}


@pytest.mark.parametrize("bbox", [[1, 1, 0, 5], "none"])
def test_examples_are_at_most_five(tmp_path, bbox):
    a = read(write(tmp_path, dataset(*[{"bbox": bbox}] * 20)))
    (problem,) = a.problems
    assert (problem.count, len(problem.examples)) == (20, 5)
    assert len(set(problem.examples)) == 5


def pictures(folder, sizes):
    for name, size in sizes.items():
        Image.new("L", size).save(folder / name)


def test_image_files(tmp_path):
    pictures(tmp_path, {"1.png": (30, 40), "3.png": (40, 30)})
    (tmp_path / "4.png").write_bytes(b"no image")
    images = [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in (3, 4)]
    a = read(write(tmp_path, dataset(images=images)))
    b = check_images(a)
    assert {p.kind: p.count for p in b.problems if "image" in p.kind and "boxes" not in p.kind} == {
        "image file absent": 1, "unreadable image file": 1, "image of another size": 1,
    }  # fmt: skip
    (other,) = [p for p in b.problems if p.kind == "image of another size"]
    assert "'1.png': stated 40 x 30, has 30 x 40, turned by a quarter" in other.examples[0]
    assert check_images(b).problems == b.problems  # a second look counts nothing twice
    assert [list(RULES).index(p.kind) for p in b.problems] == sorted(list(RULES).index(p.kind) for p in b.problems)


def test_image_files_of_a_dataset_without_images(tmp_path):
    assert kinds(check_images(read(write(tmp_path, dataset())))) == {"image file absent": 2}


def test_image_files_within_a_time(tmp_path):
    pictures(tmp_path, {"1.png": (40, 30)})
    a = read(write(tmp_path, dataset()))
    assert check_images(a, seconds=0).problems == a.problems
    assert kinds(check_images(a, seconds=60)) == {"image file absent": 1}


def test_image_files_seen_in_part_are_told(tmp_path, monkeypatch):
    a = read(write(tmp_path, dataset()))
    clock = iter([0.0, 0.0, 9.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    (problem,) = check_images(a, seconds=5).problems
    assert problem.count == 1
    assert problem.rule.endswith("(of 2 images 1 were looked at)")


def test_strict_wants_every_image(tmp_path):
    pictures(tmp_path, {"1.png": (40, 30)})
    path = write(tmp_path, dataset())
    with pytest.raises(DataError, match=r"image '2\.png': no such file"):
        read(path, strict=True)
    pictures(tmp_path, {"2.png": (40, 30)})
    assert len(read(path, strict=True)) == 2


def test_no_rule_is_undocumented():
    """docs/data.md holds the table of rules as they stand in the code."""
    text = (Path(__file__).resolve().parents[2] / "docs/data.md").read_text()
    for kind, rule in RULES.items():
        row = f"| {kind} | {rule.action} | {rule.text} | {'yes' if rule.fatal else ''} |"
        assert row in text, row


def test_strict_and_not_strict_agree_on_clean_data(tmp_path):
    pictures(tmp_path, {"1.png": (40, 30), "2.png": (40, 30)})
    path = write(tmp_path, dataset({"bbox": [3, 3, 3, 3]}))
    a, b = read(path), read(path, strict=True)
    assert a.fingerprint() == b.fingerprint()
    assert a.problems == b.problems == ()
    assert np.array_equal(a.boxes, b.boxes)
