"""COCO and LVIS: files, folders, images found, round trips."""

import gzip
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from detbalance.data.annotations import Annotations, DataError
from detbalance.data.forms.coco import write_coco
from detbalance.data.readers import read


def coco(names=("a.png", "b.png"), categories=((1, "cat"), (3, "dog")), boxes=((1, 3, [1, 2, 10, 5]),)):
    """A COCO dictionary; boxes are (image id, category id, xywh)."""
    return {
        "images": [{"id": i, "file_name": n, "width": 40, "height": 30} for i, n in enumerate(names, 1)],
        "annotations": [
            {"id": i, "image_id": image, "category_id": k, "bbox": box} for i, (image, k, box) in enumerate(boxes, 1)
        ],
        "categories": [{"id": k, "name": name} for k, name in categories],
    }


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
    return path


def picture(path, size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size).save(path)
    return path


def test_columns(tmp_path):
    data = coco(boxes=[(2, 3, [1, 2, 10, 5]), (1, 1, [0, 0, 4.5, 4]), (2, 1, [5, 5, 5, 5])])
    data["annotations"][0] |= {"iscrowd": 1, "area": 12.5, "difficult": 1, "segmentation": [[1, 2, 3]]}
    a = read(write(tmp_path / "boxes.json", data))
    assert (a.form, a.classes, a.category_ids.tolist()) == ("coco", ("cat", "dog"), [1, 3])
    assert a.file_names.tolist() == ["a.png", "b.png"]
    assert a.image_ids.tolist() == [1, 2]
    assert a.sizes.tolist() == [[40, 30], [40, 30]]
    assert a.image.tolist() == [0, 1, 1]
    assert a.label.tolist() == [1, 2, 1]
    assert a.boxes.tolist() == [[0, 0, 4.5, 4], [1, 2, 11, 7], [5, 5, 10, 10]]
    assert a.area.tolist() == [18, 12.5, 25]
    assert a.crowd.tolist() == [False, True, False]
    assert a.difficult.tolist() == [False, True, False]
    assert a.root is None
    assert a.split.tolist() == ["", ""]


def test_gzip_and_byte_order_mark_are_told_by_content(tmp_path):
    text = json.dumps(coco()).encode()
    for name, content in (("a.json.gz", gzip.compress(text)), ("b.data", text), ("c.json", b"\xef\xbb\xbf" + text)):
        (tmp_path / name).write_bytes(content)
        assert len(read(tmp_path / name).boxes) == 1
    (tmp_path / "d.json").write_bytes(json.dumps(coco()).encode("utf-16"))
    assert len(read(tmp_path / "d.json").boxes) == 1


def test_classes_are_in_the_order_of_their_ids(tmp_path):
    a = read(write(tmp_path / "x.json", coco(categories=[(7, "emu"), (3, "dog"), (1, "cat")])))
    assert (a.classes, a.category_ids.tolist(), a.label.tolist()) == (("cat", "dog", "emu"), [1, 3, 7], [2])


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("train.json", "valid.json"), ["train", "train", "val", "val"]),
        (("trainval.json", "test.json"), ["test", "test", "train", "train"]),
        (("annotations/instances_train2017.json", "annotations/instances_val2017.json"), ["train"] * 2 + ["val"] * 2),
        (("train/_annotations.coco.json", "valid/_annotations.coco.json"), ["train"] * 2 + ["val"] * 2),
        (("one.json", "two.json"), [""] * 4),
    ],
)
def test_folders_of_several_files(tmp_path, names, splits):
    for i, name in enumerate(names):
        write(tmp_path / name, coco(names=[f"{i}a.png", f"{i}b.png"]))
    a = read(tmp_path)
    assert a.split.tolist() == splits
    assert len(a.boxes) == 2
    assert len(set(a.file_names.tolist())) == 4


def test_train_and_val_beside_trainval(tmp_path):
    for name in ("train", "val", "trainval"):
        write(tmp_path / f"{name}.json", coco(names=[f"{name}.png"], boxes=[]))
    a = read(tmp_path)
    assert a.split.tolist() == ["train", "val"]
    assert [p.kind for p in a.problems if "trainval" in p.examples[0]] == ["file not read"]


def test_classes_of_several_files_are_joined_by_name(tmp_path):
    write(tmp_path / "train.json", coco(categories=[(1, "cat"), (2, "dog")], boxes=[(1, 2, [0, 0, 5, 5])]))
    write(
        tmp_path / "val.json", coco(names=["c.png"], categories=[(1, "dog"), (2, "emu")], boxes=[(1, 1, [0, 0, 5, 5])])
    )
    a = read(tmp_path)
    assert a.classes == ("cat", "dog", "emu")
    assert a.label.tolist() == [2, 2]
    assert a.category_ids.tolist() == [1, 2, 3]  # the files disagree about the ids
    assert a.image_ids.tolist() == [1, 2, 1]  # the source's own, unique within a split


def test_other_json_files_are_left_aside_but_broken_ones_are_not(tmp_path):
    write(tmp_path / "train.json", coco())
    write(tmp_path / "results.json", [{"image_id": 1, "bbox": [0, 0, 1, 1], "score": 0.5}])
    write(tmp_path / "captions.json", {"images": [{"id": 1}], "annotations": [{"image_id": 1, "caption": "hm"}]})
    a = read(tmp_path, split="train")
    assert {p.kind: p.count for p in a.problems}["file not read"] == 2
    (tmp_path / "val.json").write_text('{"images": [')
    with pytest.raises(DataError, match=r"val\.json: not valid JSON at line 1"):
        read(tmp_path)


def test_a_list_of_detections_is_named_as_such(tmp_path):
    path = write(tmp_path / "results.json", [{"image_id": 1, "bbox": [0, 0, 1, 1], "score": 0.5}])
    for place in (path, tmp_path):
        with pytest.raises(DataError, match="detections, perhaps"):
            read(place)


def test_images_in_one_folder(tmp_path):
    for name in ("a.png", "b.png"):
        picture(tmp_path / "images" / name)
    write(tmp_path / "train.json", coco())
    write(tmp_path / "val.json", coco(names=["b.png"], boxes=[]))
    a = read(tmp_path)
    assert a.root == tmp_path / "images"
    assert a.file_names.tolist() == ["a.png", "b.png", "b.png"]
    assert "image in two splits" in {p.kind for p in a.problems}


def test_images_of_equal_names_in_the_folders_of_the_splits(tmp_path):
    """Numbered names occur in every split's folder; each split must get its own."""
    for year in ("train2017", "val2017"):
        picture(tmp_path / year / "1.png")
        write(tmp_path / f"annotations/instances_{year}.json", coco(names=["1.png"], boxes=[]))
    a = read(tmp_path)
    assert a.root == tmp_path
    assert a.file_names.tolist() == ["train2017/1.png", "val2017/1.png"]
    b = read(tmp_path / "annotations/instances_val2017.json")
    assert b.path(0) == tmp_path / "val2017/1.png"


def test_images_beside_the_file_of_each_split(tmp_path):
    for split in ("train", "valid"):
        picture(tmp_path / split / "x.png")
        write(tmp_path / split / "_annotations.coco.json", coco(names=["x.png"], boxes=[]))
    assert read(tmp_path).file_names.tolist() == ["train/x.png", "valid/x.png"]
    assert read(tmp_path / "valid").split.tolist() == ["val"]


def test_names_with_folders_of_another_machine(tmp_path):
    picture(tmp_path / "images/a.png")
    write(tmp_path / "x.json", coco(names=["data/upload/a.png"], boxes=[]))
    a = read(tmp_path)
    assert a.path(0) == tmp_path / "images/a.png"
    assert a.problems[0].kind == "image without boxes"
    assert "file name without folders" in {p.kind for p in a.problems}


def test_stated_folder_of_images(tmp_path):
    picture(tmp_path / "elsewhere/deep/a.png")
    picture(tmp_path / "elsewhere/deep/b.png")
    write(tmp_path / "set/x.json", coco())
    assert read(tmp_path / "set").root is None
    assert read(tmp_path / "set", images=tmp_path / "elsewhere").root == tmp_path / "elsewhere/deep"
    with pytest.raises(FileNotFoundError, match="no such folder of images"):
        read(tmp_path / "set", images=tmp_path / "nowhere")


def test_sizes_that_the_file_does_not_state_come_from_the_images(tmp_path):
    data = coco()
    for image in data["images"]:
        del image["width"], image["height"]
    write(tmp_path / "x.json", data)
    picture(tmp_path / "a.png", (64, 48))
    picture(tmp_path / "b.png", (20, 10))
    assert read(tmp_path).sizes.tolist() == [[64, 48], [20, 10]]
    (tmp_path / "b.png").unlink()
    a = read(tmp_path)
    assert a.sizes.tolist() == [[64, 48], [0, 0]]
    assert {p.kind: p.count for p in a.problems}["unknown image size"] == 1


def test_lvis(tmp_path):
    data = coco(names=["x", "y"])
    for image, address in zip(data["images"], ("http://c.org/train2017/1.png", "http://c.org/val2017/2.png")):
        del image["file_name"]
        image |= {"coco_url": address, "neg_category_ids": [3, 99], "not_exhaustive_category_ids": [1]}
    for category, frequency in zip(data["categories"], "rf"):
        category["frequency"] = frequency
    a = read(write(tmp_path / "lvis_v1_train.json", data))
    assert a.form == "lvis"
    assert a.file_names.tolist() == ["train2017/1.png", "val2017/2.png"]
    assert a.frequency == ("r", "f")
    assert a.negatives == ((2,), (2,))
    assert a.not_exhaustive == ((1,), (1,))


def test_split_option(tmp_path):
    write(tmp_path / "train.json", coco())
    assert len(read(tmp_path, split="train")) == 2
    with pytest.raises(DataError, match="no split 'test'; it has train"):
        read(tmp_path, split="test")


def test_what_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        read(tmp_path / "nothing")
    with pytest.raises(DataError, match="no dataset of a known form"):
        read(tmp_path)
    (tmp_path / "empty.json").touch()
    with pytest.raises(DataError, match="the file is empty"):
        read(tmp_path / "empty.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": [}', r"line 1, column 13 \(byte 12\)"),
        ('{"images": []', "not valid JSON at line 1"),
        ('{\n"a": tru}', "line 2, column 6"),
        ('{"a": 1}', "expected a list 'images' but got none"),
        ('{"images": {}, "categories": []}', "expected a list 'images' but got dict"),
        ('{"images": [], "categories": [{"id": 1, "name": "x"}]}', "no images"),
        ('{"images": [{"id": 1}], "categories": []}', "names no classes"),
        ('{"images": [{"id": 1}, 3], "categories": [{"name": 1}]}', r"none of the 1 categories can be used"),
        ("[" * 100_000, "nested too deeply"),
        ('{"x": ' * 100_000, "nested too deeply"),
        ('{"images": ' + "9" * 10_000 + "}", "not valid JSON"),
    ],
)
def test_files_that_are_no_dataset(tmp_path, content, message):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path / "x.json")
    assert "x.json" in str(caught.value)


names = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=12)
side = st.integers(1, 2000)


@st.composite
def annotations(draw):
    classes = draw(st.lists(names, min_size=1, max_size=5, unique=True))
    sizes = draw(st.lists(st.tuples(side, side), min_size=1, max_size=5))
    count = draw(st.integers(0, 8))
    image = draw(st.lists(st.integers(0, len(sizes) - 1), min_size=count, max_size=count))
    boxes = []
    for i in image:
        width, height = sizes[i]
        x1, y1 = draw(st.floats(0, width * 0.9)), draw(st.floats(0, height * 0.9))
        boxes.append(
            [x1, y1, x1 + (width - x1) * draw(st.floats(0.01, 1)), y1 + (height - y1) * draw(st.floats(0.01, 1))]
        )
    flags = st.lists(st.booleans(), min_size=count, max_size=count)
    return Annotations.from_arrays(
        classes=classes,
        sizes=sizes,
        image=image,
        label=draw(st.lists(st.integers(1, len(classes)), min_size=count, max_size=count)),
        boxes=boxes,
        area=draw(st.lists(st.floats(0.5, 1e6), min_size=count, max_size=count)),
        crowd=draw(flags),
        difficult=draw(flags),
        file_names=[f"{i}.png" for i in range(len(sizes))],
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(annotations())
def test_what_is_written_is_read_again(tmp_path, a):
    b = read(write_coco(a, tmp_path / "x.json"))
    assert b.classes == a.classes
    for column in ("sizes", "image", "label", "area", "crowd", "difficult", "file_names"):
        assert getattr(b, column).tolist() == getattr(a, column).tolist(), column
    np.testing.assert_allclose(b.boxes, a.boxes, rtol=1e-12, atol=1e-9)
    assert all(problem.action == "noted" for problem in b.problems)


def test_writing_leaves_no_partial_file(tmp_path, monkeypatch):
    a = Annotations.from_arrays(classes=["cat"], sizes=[(9, 9)], image=[], label=[], boxes=[])
    path = write_coco(a, tmp_path / "x.json")
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_coco(a, path)
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]
    assert path.read_bytes() == before
