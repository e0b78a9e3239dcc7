"""A table of boxes, CSV or Parquet: one row a box, with columns for image, label and corners. No torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..columns import Columns, csv_header, parquet_header, read_csv, read_parquet
from ..draft import Draft
from ..files import files_with, head, split_name
from ..rules import Log

__all__ = ["read_table"]

_TEXTS = {
    "image": ("image", "file_name", "filename", "image_path", "img_path", "image_name", "path", "file", "image_id"),
    "label": (
        "label",
        "class",
        "category",
        "class_name",
        "category_name",
        "name",
        "class_id",
        "category_id",
        "label_id",
    ),
    "split": ("split", "subset"),
}
_CORNERS = {
    "x1": ("x1", "xmin", "x_min", "left"),
    "y1": ("y1", "ymin", "y_min", "top"),
    "x2": ("x2", "xmax", "x_max", "right"),
    "y2": ("y2", "ymax", "y_max", "bottom"),
}
_CORNER_AND_SIZE = {
    "x1": ("x", "bbox_x"),
    "y1": ("y", "bbox_y"),
    "w": ("w", "bbox_w", "bbox_width", "box_width"),
    "h": ("h", "bbox_h", "bbox_height", "box_height"),
}
_IMAGE_SIZE = {"width": ("image_width", "img_width"), "height": ("image_height", "img_height")}
_EXTRA = {"area": ("area",), "crowd": ("crowd", "iscrowd", "is_crowd"), "difficult": ("difficult",)}


def read_table(path: Path, log: Log) -> list[Draft] | None:
    """Drafts of a table, or of the tables of a folder; None where there is none with the columns of a box."""
    files = files_with(path, ".csv", ".csv.gz", ".tsv", ".parquet") if path.is_dir() else [path]
    files += files_with(path / "annotations", ".csv", ".csv.gz", ".parquet")
    drafts = []
    for file in files:
        parquet = head(file, 4) == b"PAR1"
        names = parquet_header(file) if parquet else (csv_header(file) or ([], ""))[0]
        if place := _match(names):
            texts = [place[key] for key in _TEXTS if key in place]
            numbers = [name for key, name in place.items() if key not in _TEXTS]
            columns = (read_parquet if parquet else read_csv)(file, texts, numbers)
            drafts.append(_draft(file, columns, place, log))
    return drafts or None


def _match(names: list[str]) -> dict[str, str]:
    """Which column is what, {} where image, label or box are not all there."""
    by_key = {name.lower().replace(" ", "_"): name for name in reversed(names)}

    def find(keys):
        found = {
            key: next((by_key[alias] for alias in aliases if alias in by_key), None) for key, aliases in keys.items()
        }
        return {key: name for key, name in found.items() if name is not None}

    texts, corners, sized = find(_TEXTS), find(_CORNERS), find(_CORNER_AND_SIZE)
    # `width` and `height` are those of the image beside corners, those of the box beside x and y.
    plain = {key: (*aliases, key) for key, aliases in _IMAGE_SIZE.items()}
    if len(corners) == 4:
        place = corners | find(plain)
    else:
        place = sized if len(sized) == 4 else find(_CORNER_AND_SIZE | {"w": ("width",), "h": ("height",)})
        place |= find(_IMAGE_SIZE)
    complete = {"image", "label"} <= set(texts) and {"x1", "y1"} <= set(place) and {"x2", "w"} & set(place)
    return texts | place | find(_EXTRA) if complete and {"y2", "h"} & set(place) else {}


def _draft(file: Path, columns: Columns, place: dict[str, str], log: Log) -> Draft:
    numbers = {key: columns.numbers[name] for key, name in place.items() if key not in _TEXTS}
    (image, names), (code, labels) = columns.texts[place["image"]], columns.texts[place["label"]]
    with np.errstate(invalid="ignore", over="ignore"):
        x2 = numbers["x2"] if "x2" in numbers else numbers["x1"] + numbers["w"]
        y2 = numbers["y2"] if "y2" in numbers else numbers["y1"] + numbers["h"]
    boxes = np.column_stack((numbers["x1"], numbers["y1"], x2, y2))
    unlabelled = np.array([not label for label in labels] or [True])[code]
    empty = unlabelled & np.isnan(boxes).all(1)  # such a row says that its image has no boxes
    log.rows("unusable record", unlabelled & ~empty, lambda i: f"{file}: row {i + 1}: {place['label']}: empty")
    rows = np.flatnonzero(~unlabelled)
    label, classes, ids = _classes(code[rows], labels)
    first = np.unique(image, return_index=True)[1]
    finite = boxes[rows][np.isfinite(boxes[rows]).all(1)]
    return Draft(
        form="table",
        classes=classes,
        category_ids=ids,
        image_ids=list(names),
        file_names=[name.replace("\\", "/") for name in names],
        sizes=_sizes(numbers, first),
        image=image[rows],
        label=label,
        boxes=boxes[rows],
        relative=bool(len(finite)) and bool(((finite >= 0) & (finite <= 1)).all()),
        record=(rows + 1).tolist(),
        file=[str(file)] * len(names),
        unit="row",
        box_field="box",
        area=numbers["area"][rows] if "area" in numbers else None,
        crowd=_flags(numbers, "crowd", rows),
        difficult=_flags(numbers, "difficult", rows),
        split=_splits(file, columns, place, first),
    )


def _classes(code: np.ndarray, labels: list[str]) -> tuple[np.ndarray, list[str], list[int] | None]:
    """Label of each row, class names, and their ids where all names are whole numbers."""
    used = [labels[i] for i in np.unique(code).tolist()]
    whole = all(name.isascii() and name.isdigit() and len(name) < 10 for name in used)
    classes = sorted(used, key=int if whole else None)
    number = {name: k for k, name in enumerate(classes, 1)}
    table = np.array([number.get(name, 0) for name in labels], np.int64)
    ids = [int(name) for name in classes] if whole and len({int(name) for name in classes}) == len(classes) else None
    return table[code] if len(code) else np.empty(0, np.int64), classes, ids


def _sizes(numbers: dict[str, np.ndarray], first: np.ndarray) -> np.ndarray:
    """(I, 2) sizes as the first row of each image states them, 0 where it does not."""
    if not {"width", "height"} <= set(numbers):
        return np.zeros((len(first), 2))
    return np.nan_to_num(np.column_stack((numbers["width"], numbers["height"]))[first], posinf=0, neginf=0)


def _flags(numbers: dict[str, np.ndarray], key: str, rows: np.ndarray) -> np.ndarray | None:
    return np.nan_to_num(numbers[key][rows]) != 0 if key in numbers else None


def _splits(file: Path, columns: Columns, place: dict[str, str], first: np.ndarray) -> list[str]:
    """The split of each image: its first row's, else that of the file's name."""
    if "split" not in place:
        return [split_name(file.name)] * len(first)
    code, values = columns.texts[place["split"]]
    return [split_name(values[i]) for i in code[first].tolist()]
