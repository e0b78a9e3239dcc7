"""COCO and LVIS: JSON with `images`, `annotations` and `categories`. Numpy and msgspec only."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from ...atomic import write_bytes
from ..annotations import Annotations
from ..draft import Draft
from ..errors import DataError
from ..files import files_with, folder_split, head, open_bytes, split_name, subfolders
from ..rules import Log
from .coco_records import Category, Id, Image, Label, NotCocoError, decode

__all__ = ["read_coco", "write_coco"]


def read_coco(path: Path, log: Log) -> list[Draft] | None:
    """Drafts of the JSON files of a folder, or of one file; None if none is a dataset in COCO form.

    JSON that is no dataset (detections, captions) is left aside where other files are; broken JSON is an error.
    """
    files = _without_repeats(_json_files(path), log) if path.is_dir() else [path]
    drafts, refused = [], []
    for file in files:
        if _is_json(file):
            try:
                drafts.append(
                    _draft(file, log, split=split_name(file.name.split(".")[0]) or folder_split(file.parent.name))
                )
            except NotCocoError as error:
                refused.append(error)
    if not drafts and path.is_file() and refused:
        raise refused[0]
    for error in refused:
        log.add("file not read", str(error))
    return drafts or None


def _is_json(file: Path) -> bool:
    """Does a file start like JSON? Raises DataError for empty and damaged ones."""
    start = head(file)
    first = start.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if not first:
        open_bytes(file)  # says what is wrong with it, if it is not just empty
        raise DataError(f"{file}: the file is empty")
    return first in (b"{", b"[") or start[:2] in (b"\xff\xfe", b"\xfe\xff")


def _json_files(folder: Path) -> list[Path]:
    """JSON files in a folder, in its `annotations`, or in its `train`, `valid`, ...; `instances_*` only, if any."""
    suffixes = (".json", ".json.gz")
    files = files_with(folder, *suffixes) + files_with(folder / "annotations", *suffixes)
    files = files or [f for sub in subfolders(folder) for f in files_with(sub, *suffixes)]
    return [f for f in files if f.name.startswith("instances_")] or files


def _without_repeats(files: list[Path], log: Log) -> list[Path]:
    """The files without `trainval` where `train` and `val` are there too."""
    both = [file for file in files if "trainval" in file.name.lower()]
    rest = [file for file in files if file not in both]
    if not {"train", "val"} <= {split_name(file.name) for file in rest}:
        return files
    for file in both:
        log.add("file not read", f"{file}: repeats what the files of train and val hold")
    return rest


def _draft(path: Path, log: Log, *, split: str) -> Draft:
    """Read one COCO or LVIS file, plain or gzipped. Raises DataError that says where it is not of this form."""
    data = decode(path, log)
    name = str(path)
    categories, number = _categories(data.categories, name, log)
    images, row = _images(data.images, name, log)
    kept, image, label = _attribute(data.annotations, row, number, name, log)
    annotations = [data.annotations[i] for i in kept] if len(kept) < len(data.annotations) else data.annotations
    boxes = np.array([a.bbox for a in annotations], np.float64).reshape(-1, 4)
    with np.errstate(over="ignore", invalid="ignore"):
        boxes[:, 2:] += boxes[:, :2]
    areas = np.array([np.nan if a.area is None else a.area for a in annotations], np.float64)
    lvis = any(c.frequency for c in categories) or any(i.neg_category_ids is not None for i in images)
    draft = Draft(
        form="lvis" if lvis else "coco",
        classes=[c.name for c in categories],
        image_ids=[i.id for i in images],
        file_names=[_file_name(i) for i in images],
        sizes=np.array([(i.width or 0, i.height or 0) for i in images], np.float64).reshape(-1, 2),
        image=image,
        label=label,
        boxes=boxes,
        record=[str(k) if a.id is None else a.id for k, a in zip(kept.tolist(), annotations)],
        file=[name] * len(images),
        area=areas,
        crowd=np.array([bool(a.iscrowd) for a in annotations], bool),
        difficult=np.array([bool(a.difficult) for a in annotations], bool),
        split=[split] * len(images),
        category_ids=[c.id for c in categories],
    )
    if lvis:
        draft.frequency = [c.frequency or "" for c in categories] if any(c.frequency for c in categories) else None
        draft.negatives = [_labels(i.neg_category_ids, number) for i in images]
        draft.not_exhaustive = [_labels(i.not_exhaustive_category_ids, number) for i in images]
    return draft


def _categories(records: list[Category], name: str, log: Log) -> tuple[list[Category], dict[int, int]]:
    """Categories in the order of their ids, one for each name, and the label of each id."""
    kept: list[Category] = []
    by_name: dict[str, int] = {}
    number: dict[int, int] = {}
    for category in sorted(records, key=lambda c: c.id):
        if category.id in number or category.name in by_name:
            log.add("duplicate category", f"{name}: categories: id {category.id}, name {category.name!r}")
        if category.id in number:
            continue
        if category.name not in by_name:
            kept.append(category)
            by_name[category.name] = len(kept)
        number[category.id] = by_name[category.name]
    return kept, number


def _images(records: list[Image], name: str, log: Log) -> tuple[list[Image], dict[Id, int]]:
    """Images with distinct ids, and the row of each id."""
    row: dict[Id, int] = {}
    images = []
    for image in records:
        if image.id in row:
            log.add("duplicate image id", f"{name}: images: id {image.id!r} (file {image.file_name!r})")
        else:
            row[image.id] = len(images)
            images.append(image)
    return images, row


def _attribute(
    records: list[Label], row: dict[Id, int], number: dict[int, int], name: str, log: Log
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions of the annotations whose image and category are known, with image row and label."""
    image = np.array([row.get(a.image_id, -1) for a in records], np.int64)
    label = np.array([number.get(a.category_id, 0) for a in records], np.int64)

    def where(i):
        return f"{name}: annotation {records[i].id if records[i].id is not None else f'number {i}'}"

    log.rows(
        "unknown category",
        label == 0,
        lambda i: f"{where(i)}: category_id: {records[i].category_id} is not in 'categories'",
    )
    log.rows("unknown image", image < 0, lambda i: f"{where(i)}: image_id: {records[i].image_id!r} is not in 'images'")
    ids = [a.id for a in records if a.id is not None]
    if len(set(ids)) < len(ids):
        seen: set = set()
        again = [i for i, a in enumerate(records) if a.id is not None and (a.id in seen or seen.add(a.id))]
        log.rows("duplicate annotation id", np.array(again), where)
    kept = np.flatnonzero((image >= 0) & (label > 0))
    return kept, image[kept], label[kept]


def _file_name(image: Image) -> str:
    """Name of the image's file; LVIS states only its address, of which the last two parts are folder and file."""
    if image.file_name:
        return image.file_name.replace("\\", "/")  # written under Windows
    return "/".join(image.coco_url.rsplit("/", 2)[-2:]) if image.coco_url else ""


def _labels(ids: list[int] | None, number: dict[int, int]) -> tuple[int, ...]:
    return tuple(number[i] for i in ids or () if i in number)


def write_coco(annotations: Annotations, path: str | Path) -> Path:
    """Write a dataset in COCO form, at once or not at all. Returns the path."""
    return write_bytes(path, msgspec.json.encode(annotations.to_coco()))
