"""Pascal VOC, YOLO, KITTI, Open Images and tables: what each form's own rules say, told apart by content."""

import gzip
import sys

import numpy as np
import pytest
from PIL import Image

from detbalance.data.annotations import DataError
from detbalance.data.readers import read


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def picture(path, size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size).save(path)
    return path


def kinds(a):
    return {problem.kind: problem.count for problem in a.problems}


def voc(objects=(("cat", (1, 2, 10, 12)),), filename="", size=(40, 30), extra=""):
    corners = ("xmin", "ymin", "xmax", "ymax")
    entries = "".join(
        f"<object><name>{name}</name><bndbox>"
        + "".join(f"<{c}>{v}</{c}>" for c, v in zip(corners, box))
        + f"</bndbox>{extra}</object>"
        for name, box in objects
    )
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
    return f"<annotation><filename>{filename}</filename>{sides}{entries}</annotation>"


class TestVOC:
    def test_a_folder_with_lists_of_splits(self, tmp_path):
        for i, name in enumerate(("a", "b", "c", "d")):
            write(tmp_path / f"Annotations/{name}.xml", voc([("dog" if i % 2 else "cat", (1, 2, 10, 12))]))
            picture(tmp_path / f"JPEGImages/{name}.png")
        lists = {"train": "a", "val": "b", "trainval": "a\nb\nc", "test": "d", "cat_train": "a  1\nb -1"}
        for name, text in lists.items():
            write(tmp_path / f"ImageSets/Main/{name}.txt", text)
        a = read(tmp_path)
        assert (a.form, a.classes, a.root) == ("voc", ("cat", "dog"), tmp_path / "JPEGImages")
        assert a.file_names.tolist() == ["a.png", "b.png", "c.png", "d.png"]
        assert a.split.tolist() == ["train", "val", "train", "test"]
        assert a.label.tolist() == [1, 2, 1, 2]
        assert a.sizes.tolist() == [[40, 30]] * 4
        assert read(tmp_path / "Annotations").file_names.tolist() == a.file_names.tolist()

    def test_pixels_are_counted_from_one_and_inclusive(self, tmp_path):
        write(tmp_path / "Annotations/a.xml", voc([("cat", (1, 1, 40, 30)), ("cat", (5, 5, 5, 5))]))
        a = read(tmp_path)
        assert a.boxes.tolist() == [[0, 0, 40, 30], [4, 4, 5, 5]]

    def test_unless_a_zero_occurs(self, tmp_path):
        write(tmp_path / "Annotations/a.xml", voc([("cat", (0, 1, 40, 30)), ("cat", (5, 5, 5, 5))]))
        a = read(tmp_path)
        assert a.boxes.tolist() == [[0, 1, 40, 30]]
        assert kinds(a) == {"counts from zero": 1, "zero-size box": 1}

    def test_parts_of_an_object_are_not_objects(self, tmp_path):
        part = "<part><name>head</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>3</xmax><ymax>3</ymax></bndbox></part>"
        write(tmp_path / "Annotations/a.xml", voc(extra=part + "<difficult>1</difficult>"))
        a = read(tmp_path)
        assert (a.classes, len(a.boxes), a.difficult.tolist()) == (("cat",), 1, [True])

    def test_several_years_in_one_folder(self, tmp_path):
        for year, name in (("VOC2007", "000001"), ("VOC2012", "2008_000001")):
            write(tmp_path / year / f"Annotations/{name}.xml", voc(filename="wrong.jpg"))
            picture(tmp_path / year / f"JPEGImages/{name}.png")
        a = read(tmp_path)
        assert [str(a.path(i).relative_to(tmp_path)) for i in range(2)] == [
            "VOC2007/JPEGImages/000001.png",
            "VOC2012/JPEGImages/2008_000001.png",
        ]

    def test_images_beside_their_files_in_the_folders_of_the_splits(self, tmp_path):
        for split in ("train", "valid"):
            write(tmp_path / split / "1.xml", voc())
            picture(tmp_path / split / "1.png")
        a = read(tmp_path)
        assert a.file_names.tolist() == ["train/1.png", "valid/1.png"]
        assert a.split.tolist() == ["train", "val"]

    def test_one_file(self, tmp_path):
        assert len(read(write(tmp_path / "a.xml", voc())).boxes) == 1

    def test_an_image_in_no_list(self, tmp_path):
        for name in "ab":
            write(tmp_path / f"Annotations/{name}.xml", voc())
        write(tmp_path / "ImageSets/Main/train.txt", "a")
        assert kinds(read(tmp_path))["image in no split"] == 1

    def test_records_that_cannot_be_used(self, tmp_path):
        text = voc([("cat", (1, 2, 10, 12)), ("", (1, 2, 10, 12)), ("cat", (1, "x", 10, 12))])
        write(tmp_path / "Annotations/a.xml", text)
        a = read(tmp_path)
        assert len(a.boxes) == 1
        (problem,) = a.problems
        assert (problem.kind, problem.count) == ("unusable record", 2)
        assert "object 2: name: is missing" in problem.examples[0]
        assert "object 3: ymin: 'x' is no number" in problem.examples[1]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ('<!DOCTYPE a [<!ENTITY x "ha">]><annotation/>', "DOCTYPE"),
            ("<annotation><object></annotation>", "not valid XML"),
            ("<annotation>&x;</annotation>", "not valid XML"),
            ('<?xml version="1.0" encoding="nonsense"?><annotation/>', "not valid XML"),
            ("<html>" + "<annotation/>" + "</html>", "expected <annotation> but got <html>"),
            ("<annotation>" + "<a>" * 5_000_000, "larger than"),
        ],
    )
    def test_files_that_are_refused(self, tmp_path, content, message):
        path = write(tmp_path / "a.xml", content)
        with pytest.raises(DataError, match=message):
            read(path)
        write(tmp_path / "b.xml", voc())
        a = read(tmp_path)  # one of many: left out and counted
        assert len(a) == 1
        assert kinds(a) == {"unreadable annotation file": 1}
        with pytest.raises(DataError, match=message):
            read(tmp_path, strict=True)

    def test_a_doctype_cannot_hide_in_another_encoding(self, tmp_path):
        path = tmp_path / "a.xml"
        text = '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a [<!ENTITY x "ha">]><annotation>&x;</annotation>'
        path.write_bytes(text.encode("utf-16"))
        with pytest.raises(DataError):
            read(path)


class TestYOLO:
    def layout(self, folder, config="train: images/train\nval: images/val\nnames:\n  0: cat\n  1: dog\n"):
        for split, size in (("train", (100, 50)), ("val", (10, 20))):
            picture(folder / f"images/{split}/{split}.png", size)
            write(folder / f"labels/{split}/{split}.txt", "1 0.5 0.5 0.2 0.4\n\n0 0.1 0.1 0.2 0.2\n")
        picture(folder / "images/val/background.png")
        return write(folder / "data.yaml", config)

    def test_data_yaml(self, tmp_path):
        path = self.layout(tmp_path)
        a = read(tmp_path)
        assert (a.form, a.classes, a.category_ids.tolist()) == ("yolo", ("cat", "dog"), [0, 1])
        assert a.file_names.tolist() == ["images/train/train.png", "images/val/background.png", "images/val/val.png"]
        assert a.split.tolist() == ["train", "val", "val"]
        assert a.sizes.tolist() == [[100, 50], [40, 30], [10, 20]]
        np.testing.assert_allclose(a.boxes[:2], [[40, 15, 60, 35], [0, 0, 20, 10]])
        np.testing.assert_allclose(a.boxes[2], [4, 6, 6, 14])
        assert a.label.tolist() == [2, 1, 2, 1]
        assert all(a.path(i).is_file() for i in range(3))
        assert kinds(a) == {"image without boxes": 1}
        assert read(path).fingerprint() == a.fingerprint()

    @pytest.mark.parametrize(
        "config",
        [
            "train: [images/train, images/val]\nnames: [cat, dog]",
            "path: .\ntrain: ./images\nnames: [cat, dog]",
            "path: /content/datasets/x\ntrain: /content/datasets/x/images\nnames: [cat, dog]",
            "train: ../images\nnames: [cat, dog]",
            "train: list.txt\nnames: [cat, dog]",
        ],
    )
    def test_places(self, tmp_path, config):
        self.layout(tmp_path, config)
        write(tmp_path / "list.txt", "./images/train/train.png\nimages/val/val.png\nimages/val/background.png\n")
        a = read(tmp_path)
        assert sorted(a.file_names.tolist()) == [
            "images/train/train.png",
            "images/val/background.png",
            "images/val/val.png",
        ]
        assert set(a.split.tolist()) == {"train"}
        assert len(a.boxes) == 4

    def test_images_elsewhere(self, tmp_path):
        self.layout(tmp_path / "there")
        path = write(tmp_path / "here/data.yaml", "path: ../there\ntrain: images/train\nnames: [cat, dog]\n")
        a = read(path)
        assert a.path(0) == tmp_path / "there/images/train/train.png"

    def test_one_split_of_a_dataset_takes_the_names_from_above(self, tmp_path):
        for split in ("train", "valid"):
            picture(tmp_path / split / "images/1.png")
            write(tmp_path / split / "labels/1.txt", "1 0.5 0.5 0.2 0.4")
        write(tmp_path / "data.yaml", "train: ../train/images\nval: ../valid/images\nnames: [cat, dog]\n")
        assert read(tmp_path / "valid").classes == read(tmp_path).classes == ("cat", "dog")
        assert read(tmp_path).split.tolist() == ["train", "val"]

    def test_stated_folder_of_images(self, tmp_path):
        write(tmp_path / "set/labels/train/a.txt", "0 0.5 0.5 0.5 0.5")
        picture(tmp_path / "pictures/a.jpg", (80, 40))
        a = read(tmp_path / "set", images=tmp_path / "pictures")
        assert a.path(0) == tmp_path / "pictures/a.jpg"
        assert a.boxes.tolist() == [[20, 10, 60, 30]]

    def test_a_folder_of_everything_is_not_searched(self, tmp_path, monkeypatch):
        monkeypatch.setattr("detbalance.data.files.MAX_FOLDERS", 20)
        self.layout(tmp_path, "train: images\nnames: [cat, dog]")
        assert len(read(tmp_path)) == 3
        for i in range(21):
            (tmp_path / f"images/{i}").mkdir()
        with pytest.raises(DataError, match="over 20 folders"):
            read(tmp_path)

    def test_names_stay_text(self, tmp_path):
        self.layout(tmp_path, "train: images\nnames: [no, 1.0]")
        assert read(tmp_path).classes == ("no", "1.0")

    def test_an_absent_split_is_noted_an_absent_train_is_not(self, tmp_path):
        self.layout(tmp_path, "train: images/train\ntest: images/test\nnames: [cat, dog]")
        assert kinds(read(tmp_path))["file not read"] == 1
        self.layout(tmp_path, "train: images/none\nval: images/val\nnames: [cat, dog]")
        with pytest.raises(DataError, match="train: 'images/none' does not exist"):
            read(tmp_path)

    def test_polygons_and_key_points(self, tmp_path):
        path = self.layout(tmp_path)
        write(tmp_path / "labels/train/train.txt", "0 0.1 0.2 0.5 0.2 0.5 0.6 0.1 0.6")
        a = read(tmp_path, split="train")
        np.testing.assert_allclose(a.boxes, [[10, 10, 50, 30]])
        assert kinds(a)["polygon label"] == 1
        path.write_text("train: images/train\nnames: [cat]\nkpt_shape: [2, 2]")
        write(tmp_path / "labels/train/train.txt", "0 0.5 0.5 0.2 0.2 0.1 0.1 0.3 0.3")
        np.testing.assert_allclose(read(tmp_path).boxes, [[40, 20, 60, 30]])

    def test_labels_without_their_image(self, tmp_path):
        self.layout(tmp_path)
        write(tmp_path / "labels/train/lost.txt", "0 0.5 0.5 0.5 0.5")
        a = read(tmp_path)
        row = a.file_names.tolist().index("images/train/lost.jpg")
        assert a.sizes[row].tolist() == [640, 640]
        assert a.boxes[a.rows(row)].tolist() == [[160, 160, 480, 480]]
        assert kinds(a)["virtual image size"] == kinds(a)["image file absent"] == 1
        with pytest.raises(DataError, match=r"lost\.jpg"):
            read(tmp_path, strict=True)

    def test_labels_alone(self, tmp_path):
        write(tmp_path / "labels/train/a.txt", "0 0.5 0.5 0.5 0.5\n2 0.5 0.5 0.5 0.5")
        a = read(tmp_path)
        assert (a.classes, a.category_ids.tolist(), a.split.tolist()) == (("0", "2"), [0, 2], ["train"])
        write(tmp_path / "classes.txt", "cat\ndog\nemu\n")
        assert read(tmp_path).classes == ("cat", "dog", "emu")
        assert read(tmp_path / "labels").classes == ("cat", "dog", "emu")

    def test_everything_in_one_folder(self, tmp_path):
        picture(tmp_path / "a.png", (100, 100))
        write(tmp_path / "a.txt", "1 0.5 0.5 0.5 0.5")
        write(tmp_path / "classes.txt", "cat\ndog")
        a = read(tmp_path)
        assert (a.file_names.tolist(), a.boxes.tolist(), a.label.tolist()) == (["a.png"], [[25, 25, 75, 75]], [2])

    def test_folders_that_are_links(self, tmp_path):
        self.layout(tmp_path / "there")
        (tmp_path / "here").mkdir()
        for name in ("images", "labels", "data.yaml"):
            (tmp_path / "here" / name).symlink_to(tmp_path / "there" / name)
        (tmp_path / "there/images/circle").symlink_to(tmp_path / "there/images")
        a = read(tmp_path / "here")
        assert len(a.boxes) == 4
        assert all(a.path(i).is_file() for i in range(len(a)))

    @pytest.mark.parametrize(
        ("text", "kind", "message"),
        [
            ("7 .5 .5 .1 .1", "unknown category", "line 1: class: 7 is not one of the 2 classes"),
            ("0.5 .5 .5 .1 .1", "unknown category", "class: 0.5"),
            ("0 .5 .5 .1", "unusable record", "line 1: expected 'class x y w h' but got '0 .5 .5 .1'"),
            ("0 .5 .5 .1 x", "unusable record", "line 1"),
            ("0 .5 .5 nan .1", "unusable number", "line 1"),
            ("0 .5 .5 -.1 .1", "negative size", "line 1"),
        ],
    )
    def test_labels_that_cannot_be_used(self, tmp_path, text, kind, message):
        self.layout(tmp_path)
        write(tmp_path / "labels/train/train.txt", text + "\n0 .5 .5 .1 .1")
        a = read(tmp_path)
        (problem,) = [p for p in a.problems if p.kind == kind]
        assert message in problem.examples[0]
        assert "labels/train/train.txt" in problem.examples[0]
        assert len(a.boxes) == 3
        with pytest.raises(DataError, match=r"labels/train/train\.txt: line 1"):
            read(tmp_path, strict=True)

    @pytest.mark.parametrize(
        ("config", "message"),
        [
            ("names: [a\n", "not valid YAML"),
            ("a: &a [x]\nnames: *a", "line 2: aliases"),
            ("names: " + "[" * 1000, "nesting over 20 deep"),
            ("names: {x: y}\ntrain: images", "class numbers as keys"),
            ("names: {-3: y}\ntrain: images", "a list of names"),
            ("names: [[x]]\ntrain: images", "a list of names"),
            ("names: x\ntrain: images", "a list of names"),
            ("names: [x]\ntrain: {a: b}", "a folder, a list of folders"),
            ("names: [x]\ntrain: data.yaml", r"a folder or a \.txt file"),
            ("names: [x]", "no images and no labels"),
            ("names: [" + "x, " * 300_000 + "]", "longer than"),
        ],
    )
    def test_yaml_that_is_refused(self, tmp_path, config, message):
        path = self.layout(tmp_path, config)
        for place in (path, tmp_path):
            with pytest.raises(DataError, match=message):
                read(place)


class TestKITTI:
    LINE = "{} 0.00 0 -1.57 {} 150.5 629.75 189.25 2.85 2.63 12.34 0.47 1.49 69.44 -1.56\n"

    def test_labels(self, tmp_path):
        text = "".join(self.LINE.format(name, 599.25) for name in ("Van", "DontCare", "Car"))
        write(tmp_path / "training/label_2/000001.txt", text)
        write(tmp_path / "training/label_2/000002.txt", "")
        picture(tmp_path / "training/image_2/000001.png", (700, 200))
        picture(tmp_path / "training/image_2/000002.png", (710, 210))
        a = read(tmp_path)
        assert (a.form, a.classes) == ("kitti", ("Car", "Van"))
        assert a.root == tmp_path / "training/image_2"
        assert a.sizes.tolist() == [[700, 200], [710, 210]]
        assert a.boxes.tolist() == [[599.25, 150.5, 629.75, 189.25]] * 4
        # A region to ignore is a crowd of every class: evaluation ignores by class.
        assert sorted(zip(a.label.tolist(), a.crowd.tolist())) == [(1, False), (1, True), (2, False), (2, True)]
        assert a.counts.tolist() == [1, 1]
        assert kinds(a) == {"crowd region": 2, "image without boxes": 1}

    def test_splits_and_absent_images(self, tmp_path):
        for name in ("1", "2"):
            write(tmp_path / f"training/label_2/{name}.txt", self.LINE.format("Car", 10))
        write(tmp_path / "ImageSets/train.txt", "1")
        write(tmp_path / "ImageSets/val.txt", "2")
        a = read(tmp_path)
        assert a.split.tolist() == ["train", "val"]
        assert a.root is None
        assert kinds(a) == {"unknown image size": 2}

    def test_lines_that_cannot_be_used(self, tmp_path):
        write(tmp_path / "label_2/1.txt", self.LINE.format("Car", 10) + "Car 1 2\n" + self.LINE.format("Car", "nan"))
        a = read(tmp_path)
        assert kinds(a) == {"unusable record": 1, "unusable number": 1, "unknown image size": 1}
        assert len(a.boxes) == 1


class TestOpenImages:
    HEADER = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf\n"

    def layout(self, folder, packed=False):
        text = (
            self.HEADER
            + "id1,x,/m/01,1,0.1,0.5,0.2,0.9,0,0,0\nid1,x,/m/02,1,0,1,0,1,0,0,1\nid2,x,/m/01,1,0,.5,0,.5,0,0,0\n"
        )
        if packed:
            (folder / "train-annotations-bbox.csv.gz").write_bytes(gzip.compress(text.encode()))
        else:
            write(folder / "train-annotations-bbox.csv", text)
        write(folder / "class-descriptions-boxable.csv", '/m/01,Dog\n/m/02,Cat\n/m/03,"Emu, large"\n')

    @pytest.mark.parametrize("packed", [False, True])
    def test_boxes(self, tmp_path, packed):
        self.layout(tmp_path, packed)
        picture(tmp_path / "train/id1.jpg", (100, 50))
        picture(tmp_path / "train/id2.jpg", (40, 20))
        a = read(tmp_path)
        assert (a.form, a.classes) == ("openimages", ("Cat", "Dog", "Emu, large"))
        assert a.root == tmp_path / "train"
        assert a.split.tolist() == ["train", "train"]
        np.testing.assert_allclose(a.boxes, [[10, 10, 50, 45], [0, 0, 100, 50], [0, 0, 20, 10]])
        assert a.label.tolist() == [2, 1, 2]
        assert a.crowd.tolist() == [False, True, False]
        assert a.negatives is None

    def test_verified_absences(self, tmp_path):
        self.layout(tmp_path)
        labels = "ImageID,Source,LabelName,Confidence\nid2,v,/m/02,0\nid2,v,/m/01,1\nid9,v,/m/01,0\nid1,v,/m/77,0\n"
        write(tmp_path / "train-annotations-human-imagelabels.csv", labels)
        a = read(tmp_path)
        assert a.negatives == ((), (1,))
        assert kinds(a)["virtual image size"] == 2

    def test_one_file_finds_its_class_names(self, tmp_path):
        self.layout(tmp_path)
        assert read(tmp_path / "train-annotations-bbox.csv").classes == ("Cat", "Dog", "Emu, large")


class TestTable:
    CORNERS = "image,label,x1,y1,x2,y2\na.png,cat,1,2,11,7\nb.png,dog,0,0,5,5\na.png,dog,3,3,9,9\n"

    @pytest.mark.parametrize(
        "text",
        [
            CORNERS,
            CORNERS.replace(",", ";"),
            CORNERS.replace(",", "\t").replace("\n", "\r\n"),
            "\ufeff" + CORNERS,
            "filename,class,xmin,ymin,xmax,ymax\n" + CORNERS.split("\n", 1)[1],
            "X1, Y1,X2,Y2,Category,File Name\n1,2,11,7,cat,a.png\n0,0,5,5,dog,b.png\n3,3,9,9,dog,a.png\n",
            "path,name,x,y,w,h\na.png,cat,1,2,10,5\nb.png,dog,0,0,5,5\na.png,dog,3,3,6,6\n",
            "path,name,x,y,width,height\na.png,cat,1,2,10,5\nb.png,dog,0,0,5,5\na.png,dog,3,3,6,6\n",
            "image,label,x1,y1,x2,y2,width,height\na.png,cat,1,2,11,7,40,30\nb.png,dog,0,0,5,5,40,30\na.png,dog,3,3,9,9,40,30\n",
        ],
    )
    def test_columns(self, tmp_path, text):
        path = tmp_path / "boxes.csv"
        path.write_bytes(text.encode())
        for name in ("a.png", "b.png"):
            picture(tmp_path / "images" / name)
        for place in (path, tmp_path):
            a = read(place)
            assert (a.form, a.classes, a.file_names.tolist()) == ("table", ("cat", "dog"), ["a.png", "b.png"])
            assert a.boxes.tolist() == [[1, 2, 11, 7], [3, 3, 9, 9], [0, 0, 5, 5]]
            assert a.label.tolist() == [1, 2, 2]
            assert a.sizes.tolist() == [[40, 30]] * 2
            assert a.problems == ()

    def test_optional_columns(self, tmp_path):
        text = (
            "image,label,x1,y1,x2,y2,area,iscrowd,difficult,split\na,10,1,1,9,9,50,1,0,train\nb,9,1,1,9,9,,0,1,valid\n"
        )
        a = read(write(tmp_path / "x.csv", text))
        assert (a.classes, a.category_ids.tolist(), a.label.tolist()) == (("9", "10"), [9, 10], [2, 1])
        assert a.area.tolist() == [50, 64]
        assert a.crowd.tolist() == [True, False]
        assert a.difficult.tolist() == [False, True]
        assert a.split.tolist() == ["train", "val"]

    def test_relative_boxes(self, tmp_path):
        picture(tmp_path / "a.png", (100, 50))
        a = read(write(tmp_path / "x.csv", "image,label,x1,y1,x2,y2\na.png,cat,0.1,0.2,0.5,1\n"))
        assert a.boxes.tolist() == [[10, 10, 50, 50]]

    def test_rows_without_a_box_list_images(self, tmp_path):
        a = read(write(tmp_path / "x.csv", self.CORNERS + "c.png,,,,,\nd.png,cat,,,,\ne.png,,1,1,2,2\n"))
        assert a.file_names.tolist() == ["a.png", "b.png", "c.png", "d.png", "e.png"]
        assert kinds(a) == {
            "unusable number": 1, "unusable record": 1, "image without boxes": 3, "unknown image size": 5,
        }  # fmt: skip

    @pytest.mark.parametrize("packed", [False, True])
    def test_parquet_equals_csv(self, tmp_path, packed):
        csv = pytest.importorskip("pyarrow.csv")
        parquet = pytest.importorskip("pyarrow.parquet")
        path = write(tmp_path / "x.csv", self.CORNERS)
        (tmp_path / "p").mkdir()
        parquet.write_table(csv.read_csv(path), tmp_path / "p/x.parquet", row_group_size=2 if packed else None)
        a, b = read(path), read(tmp_path / "p")
        assert a.fingerprint() == b.fingerprint()
        assert a.boxes.tolist() == b.boxes.tolist()

    def test_parquet_without_pyarrow(self, tmp_path, monkeypatch):
        (tmp_path / "x.parquet").write_bytes(b"PAR1 and so on")
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(DataError, match=r"pip install 'detbalance\[parquet\]'"):
            read(tmp_path / "x.parquet")

    def test_parquet_that_is_damaged(self, tmp_path):
        pytest.importorskip("pyarrow")
        (tmp_path / "x.parquet").write_bytes(b"PAR1 and so on")
        with pytest.raises(DataError, match="cannot be read as Parquet"):
            read(tmp_path / "x.parquet")

    def test_a_table_of_something_else(self, tmp_path):
        path = write(tmp_path / "x.csv", "when,how much\nmonday,3\n")
        with pytest.raises(DataError, match="with the columns image, label, x1"):
            read(path)


def test_a_table_that_is_large_is_fast_enough(tmp_path):
    """A hundred thousand rows are read in chunks; the codes of the chunks agree."""
    rows = "".join(f"{i % 1000}.png,{'cat' if i % 3 else 'dog'},{i % 50},2,{i % 50 + 9},20\n" for i in range(120_000))
    a = read(write(tmp_path / "x.csv", "image,label,x1,y1,x2,y2\n" + rows))
    assert (len(a), len(a.boxes), a.counts.tolist()) == (1000, 120_000, [80_000, 40_000])
    assert a.file_names[7] == "7.png"
    assert set(a.boxes[a.rows(7), 0].tolist()) == {7.0}
