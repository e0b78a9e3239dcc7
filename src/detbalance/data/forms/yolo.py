"""YOLO: one text file an image, `class x y w h` relative to the image; classes in data.yaml or classes.txt."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ..draft import Draft
from ..errors import DataError
from ..files import files_under, files_with, open_text
from ..rules import Log
from .yolo_layout import Layout, from_folder, from_yaml, label_file, looks_like_labels, read_yaml

__all__ = ["read_yolo_labels", "read_yolo_yaml"]

_YAML = (".yaml", ".yml")


def read_yolo_yaml(path: Path, log: Log) -> list[Draft] | None:
    """Draft of a data.yaml, or of a folder with one; None if the path is neither."""
    for file in files_with(path, *_YAML) if path.is_dir() else [path]:
        if file.suffix in _YAML and "names" in (config := read_yaml(file)):
            return [_draft(from_yaml(file, config, log), log)]
    return None


def read_yolo_labels(path: Path, log: Log) -> list[Draft] | None:
    """Draft of a folder of labels without data.yaml; None if there are no labels."""
    if path.is_file() or not any(looks_like_labels(file) for file in files_under(path, (".txt",), limit=50)):
        return None
    return [_draft(from_folder(path), log)]


def _draft(layout: Layout, log: Log) -> Draft:
    if not layout.pictures:
        raise DataError(f"{layout.source}: no images and no labels are found where this YOLO dataset says they are")
    pictures = [picture for picture, _ in layout.pictures]
    labels = [label_file(picture) for picture in pictures]
    image, table, record = _rows(labels, layout.pose, log)
    classes = sorted(layout.names) or sorted({int(c) for c in table[:, 0] if 0 <= c < 1e6 and c == int(c)})
    number = {c: k for k, c in enumerate(classes, 1)}
    label = np.array([number.get(c, 0) for c in table[:, 0].tolist()], np.int64)

    def describe(i):
        return f"{labels[image[i]]}: line {record[i]}: class: {table[i, 0]:g} is not one of the {len(classes)} classes"

    log.rows("unknown category", label == 0, describe)
    kept = np.flatnonzero(label)
    centre, half = table[kept, 1:3], table[kept, 3:] / 2
    with np.errstate(invalid="ignore"):
        boxes = np.concatenate((centre - half, centre + half), 1)
    folder = layout.source if layout.source.is_dir() else layout.source.parent
    root = Path(os.path.commonpath([os.path.abspath(folder), *(picture.parent for picture in pictures)]))
    names = [picture.relative_to(root).as_posix() for picture in pictures]
    return Draft(
        form="yolo",
        classes=[layout.names.get(c, str(c)) for c in classes],
        image_ids=names,
        file_names=list(names),
        sizes=np.zeros((len(names), 2)),
        image=image[kept],
        label=label[kept],
        boxes=boxes,
        relative=True,
        record=[record[i] for i in kept],
        file=[str(file) for file in labels],
        unit="line",
        box_field="x y w h",
        split=[split for _, split in layout.pictures],
        category_ids=classes,
        root=root,
    )


def _rows(labels: list[Path], pose: bool, log: Log) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Row of the image (B,), class x y w h (B, 5) and line number of every label."""
    image, table, record = [], [], []
    for row, file in enumerate(labels):
        if not file.is_file():
            continue  # an image without a label file is background
        for line, text in enumerate(open_text(file).splitlines(), 1):
            if not text.strip():
                continue
            try:
                values = [float(token) for token in text.split()]
            except ValueError:
                values = []
            if len(values) >= 7 and len(values) % 2 and not pose:
                log.add("polygon label", f"{file}: line {line}: {len(values) // 2} corners")
                values = [values[0], *_around(values[1:])]
            if len(values) != 5 and not (pose and len(values) > 5):
                log.add("unusable record", f"{file}: line {line}: expected 'class x y w h' but got {text[:60]!r}")
                continue
            image.append(row)
            table.append(values[:5])
            record.append(line)
    return np.array(image, np.int64), np.array(table, np.float64).reshape(-1, 5), record


def _around(corners: list[float]) -> tuple[float, float, float, float]:
    """Centre and size of the box around a polygon x y x y ..."""
    xs, ys = corners[0::2], corners[1::2]
    x1, x2, y1, y2 = min(xs), max(xs), min(ys), max(ys)
    return (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
