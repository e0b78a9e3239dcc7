"""The boxes of a dataset as numpy columns: one row a box, one row an image, one row a class. Numpy only."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from .errors import DataError, MissingDataError
from .files import stays_inside

__all__ = ["Annotations", "DataError", "MissingDataError", "Problem"]


@dataclass(frozen=True)
class Problem:
    """One kind of dirt found while reading, what was done about it, how often, and where (a few examples)."""

    kind: str
    """short name, such as "zero-size box" """
    action: str
    """"repaired", "excluded" (from the boxes) or "noted" """
    count: int
    rule: str = ""
    """what was done, in a sentence"""
    examples: tuple[str, ...] = ()
    """up to five, each naming file, record and field"""


@dataclass(frozen=True, eq=False)
class Annotations:
    """A detection dataset without its pixels. I images, B boxes, K classes.

    >>> a = Annotations.from_arrays(classes=["cat", "dog"], sizes=[(64, 48)], image=[0, 0], label=[1, 2],
    ...                             boxes=[[0, 0, 8, 8], [4, 4, 20, 24]])
    >>> a
    Annotations(1 images, 2 boxes, 2 classes)
    >>> a.area
    array([ 64., 320.])
    """

    classes: tuple[str, ...]
    """names; the class of label k is classes[k - 1]"""
    file_names: np.ndarray
    """(I,) str, relative to `root`"""
    sizes: np.ndarray
    """(I, 2) int64, width and height in pixels; 0 where the source does not say"""
    image: np.ndarray
    """(B,) int64, row of the image; ascending"""
    label: np.ndarray
    """(B,) int64, 1..K"""
    boxes: np.ndarray
    """(B, 4) float64, xyxy pixels, x1 < x2 and y1 < y2"""
    area: np.ndarray
    """(B,) float64, of the object where the source says (masks), else of the box"""
    crowd: np.ndarray
    """(B,) bool, a region of many objects (COCO iscrowd, Open Images IsGroupOf, KITTI DontCare)"""
    difficult: np.ndarray
    """(B,) bool (Pascal VOC)"""
    image_ids: np.ndarray
    """(I,) int64 or str, the source's own"""
    category_ids: np.ndarray
    """(K,) int64, the source's own"""
    split: np.ndarray
    """(I,) str: "train", "val", "test" or "" where the source has none"""
    root: Path | None = None
    """folder of the images"""
    source: str = ""
    """file or folder read, for messages and reports"""
    form: str = ""
    """"coco", "lvis", "voc", "yolo", "openimages", "kitti", "table", "synthetic" """
    frequency: tuple[str, ...] | None = None
    """(K,) "r", "c" or "f" where the source says (LVIS)"""
    negatives: tuple[tuple[int, ...], ...] | None = None
    """per image, labels verified absent (LVIS neg_category_ids); None: every class was looked for everywhere"""
    not_exhaustive: tuple[tuple[int, ...], ...] | None = None
    """per image, labels of which not every object is marked (LVIS)"""
    problems: tuple[Problem, ...] = field(default=())
    """what was repaired, excluded or noted while reading"""

    @classmethod
    def from_arrays(
        cls,
        *,
        classes: list[str] | tuple[str, ...],
        sizes: np.ndarray | list,
        image: np.ndarray | list,
        label: np.ndarray | list,
        boxes: np.ndarray | list,
        file_names: np.ndarray | list | None = None,
        area: np.ndarray | list | None = None,
        crowd: np.ndarray | list | None = None,
        difficult: np.ndarray | list | None = None,
        image_ids: np.ndarray | list | None = None,
        category_ids: np.ndarray | list | None = None,
        split: np.ndarray | list | None = None,
        root: Path | None = None,
        source: str = "",
        form: str = "",
        frequency: tuple[str, ...] | None = None,
        negatives: tuple[tuple[int, ...], ...] | None = None,
        not_exhaustive: tuple[tuple[int, ...], ...] | None = None,
        problems: tuple[Problem, ...] = (),
    ) -> Annotations:
        """Build from plain arrays; everything that can be derived may be left out. Boxes are sorted by image.

        Raises ValueError for columns of unequal length, labels or images out of range, or boxes without area.
        """
        sizes = np.asarray(sizes, np.int64).reshape(-1, 2)
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        image, label = np.asarray(image, np.int64).reshape(-1), np.asarray(label, np.int64).reshape(-1)
        images, count = len(sizes), len(boxes)
        wide = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]

        def column(value, length, dtype, default):
            value = default if value is None else np.asarray(value, dtype)
            if len(value) != length:
                raise ValueError(f"expected a column of {length} values but got {len(value)}")
            return value

        if not len(image) == len(label) == count:
            raise ValueError(
                f"expected as many images and labels as boxes ({count}) but got {len(image)}, {len(label)}"
            )
        if count and not (0 <= image.min() and image.max() < images):
            raise ValueError(f"expected image rows in 0..{images - 1} but got {image.min()}..{image.max()}")
        if count and not (1 <= label.min() and label.max() <= len(classes)):
            raise ValueError(f"expected labels in 1..{len(classes)} but got {label.min()}..{label.max()}")
        if not (np.isfinite(boxes).all() and (wide[0] > 0).all() and (wide[1] > 0).all()):
            raise ValueError("expected finite boxes with x1 < x2 and y1 < y2")
        order = np.argsort(image, kind="stable")
        ids = column(image_ids, images, None, np.arange(images, dtype=np.int64))
        names = column(file_names, images, str, np.array([str(i) for i in ids] or [], dtype=str))
        return cls(
            classes=tuple(str(c) for c in classes),
            file_names=names,
            sizes=sizes,
            image=image[order],
            label=label[order],
            boxes=boxes[order],
            area=column(area, count, np.float64, wide[0] * wide[1])[order],
            crowd=column(crowd, count, bool, np.zeros(count, bool))[order],
            difficult=column(difficult, count, bool, np.zeros(count, bool))[order],
            image_ids=ids,
            category_ids=column(category_ids, len(classes), np.int64, np.arange(1, len(classes) + 1)),
            split=column(split, images, str, np.full(images, "", dtype="<U8")),
            root=root,
            source=source,
            form=form,
            frequency=frequency,
            negatives=negatives,
            not_exhaustive=not_exhaustive,
            problems=problems,
        )

    def __repr__(self) -> str:
        return f"Annotations({len(self.sizes)} images, {len(self.boxes)} boxes, {len(self.classes)} classes)"

    def __len__(self) -> int:
        """Number of images."""
        return len(self.sizes)

    @property
    def counts(self) -> np.ndarray:
        """(K,) number of boxes of each class, crowds left out."""
        return np.bincount(self.label[~self.crowd] - 1, minlength=len(self.classes))

    @property
    def starts(self) -> np.ndarray:
        """(I + 1,) the boxes of image i are rows starts[i]:starts[i + 1]."""
        return np.searchsorted(self.image, np.arange(len(self.sizes) + 1))

    def rows(self, image: int) -> slice:
        """Rows of the boxes of one image."""
        first, last = np.searchsorted(self.image, (image, image + 1))
        return slice(int(first), int(last))

    def path(self, image: int) -> Path:
        """Path of an image's file. Raises DataError if there is no image folder or the name leaves it.

        Links are followed: whoever links a folder into his dataset means it. What a name says is not.
        """
        name = str(self.file_names[image])
        if self.root is None:
            raise DataError(f"{self.source or 'dataset'}: no image folder is known; image {name!r} cannot be opened")
        if not stays_inside(name):
            raise DataError(
                f"{self.source}: image {name!r}: file_name is empty or leaves the dataset's folder {self.root}"
            )
        return Path(self.root, name)

    def subset(self, images: np.ndarray) -> Annotations:
        """The chosen images (mask or rows, kept in ascending order) with their boxes; classes stay as they are."""
        chosen = np.zeros(len(self), bool)
        chosen[images] = True
        new_row = np.cumsum(chosen) - 1
        rows = chosen[self.image]
        kept = np.flatnonzero(chosen)
        per_image = {
            name: None if (value := getattr(self, name)) is None else tuple(value[i] for i in kept)
            for name in ("negatives", "not_exhaustive")
        }
        return replace(
            self,
            **{name: getattr(self, name)[chosen] for name in ("file_names", "sizes", "image_ids", "split")},
            **{name: getattr(self, name)[rows] for name in ("label", "boxes", "area", "crowd", "difficult")},
            image=new_row[self.image[rows]],
            **per_image,
        )

    def splits(self) -> dict[str, Annotations]:
        """The dataset's own splits by name; {} if it has none."""
        names = [name for name in ("train", "val", "test") if (self.split == name).any()]
        return {name: self.subset(self.split == name) for name in names}

    def batches(self, size: int) -> Iterator[Annotations]:
        """Consecutive runs of `size` images: for measures over more images than memory holds at once."""
        for first in range(0, len(self), size):
            yield self.subset(np.arange(first, min(first + size, len(self))))

    def fingerprint(self) -> str:
        """16 hexadecimal digits that change when any box, label, image or class changes."""
        digest = hashlib.sha256(repr(self.classes).encode(errors="surrogatepass"))
        for column in (self.sizes, self.image, self.label, np.round(self.boxes, 3), self.crowd):
            digest.update(np.ascontiguousarray(column).tobytes())
        digest.update("\n".join(map(str, self.file_names)).encode(errors="surrogatepass"))
        return digest.hexdigest()[:16]

    def to_coco(self) -> dict:
        """The dataset as a COCO dictionary: ids are rows + 1, category ids are labels 1..K.

        `difficult` and LVIS's fields are written where the dataset has them; splits and the source's own ids are not.
        """
        width, height = self.boxes[:, 2] - self.boxes[:, 0], self.boxes[:, 3] - self.boxes[:, 1]
        xywh = np.column_stack((self.boxes[:, :2], width, height)).tolist()
        columns = zip(self.image.tolist(), self.label.tolist(), xywh, self.area.tolist(), self.crowd.tolist())
        data = {
            "images": [
                {"id": i + 1, "file_name": str(name), "width": int(w), "height": int(h)}
                for i, (name, (w, h)) in enumerate(zip(self.file_names, self.sizes))
            ],
            "annotations": [
                {"id": i + 1, "image_id": im + 1, "category_id": k, "bbox": box, "area": area, "iscrowd": int(crowd)}
                for i, (im, k, box, area, crowd) in enumerate(columns)
            ],
            "categories": [{"id": k + 1, "name": name} for k, name in enumerate(self.classes)],
        }
        self._add_optional(data)
        return data

    def _add_optional(self, data: dict) -> None:
        """Add the fields that only some datasets have."""
        if self.difficult.any():
            for record, difficult in zip(data["annotations"], self.difficult.tolist()):
                record["difficult"] = int(difficult)
        for record, frequency in zip(data["categories"], self.frequency or ()):
            record["frequency"] = frequency
        for key, value in (
            ("neg_category_ids", self.negatives),
            ("not_exhaustive_category_ids", self.not_exhaustive),
        ):
            for record, labels in zip(data["images"], value or ()):
                record[key] = list(labels)
