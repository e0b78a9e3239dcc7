"""Files and folders of every supported form -> Annotations. The form is told by content, not by name. No torch."""

from __future__ import annotations

import os
from pathlib import Path

from .annotations import Annotations
from .checks import clean
from .draft import Draft, merge
from .errors import DataError, MissingDataError
from .forms.coco import read_coco
from .forms.kitti import read_kitti
from .forms.openimages import read_openimages
from .forms.table import read_table
from .forms.voc import read_voc
from .forms.yolo import read_yolo_labels, read_yolo_yaml
from .image_files import fill_sizes, require_images
from .image_folders import locate
from .rules import Log

__all__ = ["read"]

_FORMS = (read_yolo_yaml, read_coco, read_voc, read_kitti, read_openimages, read_table, read_yolo_labels)
"""tried in this order: each returns drafts, or None where the path is not of its form"""


def read(
    path: str | os.PathLike, *, images: str | os.PathLike | None = None, split: str | None = None, strict: bool = False
) -> Annotations:
    """Read a detection dataset: COCO, LVIS, Pascal VOC, YOLO, KITTI or Open Images, a file or a folder, or a table.

    images: folder of the image files, where it cannot be found beside the annotations.
    split: "train", "val" or "test" only.
    strict: for training; raise DataError at the first record that training must not meet, or if an image file is not
        there, instead of counting it. docs/data.md lists the rules.

    What was repaired, excluded or is worth knowing is counted in `Annotations.problems`. Raises DataError alone.
    """
    path = Path(path)
    if not os.path.exists(path):
        raise MissingDataError(f"{path}: no such file or folder")
    if images is not None and not os.path.isdir(images):
        raise MissingDataError(f"{images}: no such folder of images")
    log = Log(strict=strict)
    drafts = _drafts(path, log)
    if images is not None or drafts[0].root is None:
        locate(drafts, _base(path) if images is None else Path(images), log)
    draft = merge(drafts)
    fill_sizes(draft, log)
    result = clean(draft, log, source=str(path))
    if split is not None:
        result = _chosen(result, split)
    if strict:
        require_images(result)
    return result


def _drafts(path: Path, log: Log) -> list[Draft]:
    """The drafts of the first form that the path is of."""
    for form in _FORMS:
        if drafts := form(path, log):
            return drafts
    if path.is_file() and not os.path.getsize(path):
        raise DataError(f"{path}: the file is empty")
    aside = "; ".join(log.examples.get("file not read", ()))
    raise DataError(
        f"{path}: no dataset of a known form. Expected COCO or LVIS JSON, Pascal VOC XML, YOLO labels, KITTI labels, "
        "Open Images CSV, or a table (CSV, Parquet) with the columns image, label, x1, y1, x2, y2"
        + (f" ({aside})" if aside else "")
    )


def _base(path: Path) -> Path:
    """The folder to look for images in."""
    folder = path if path.is_dir() else path.parent
    return folder.parent if folder.name.lower() == "annotations" else folder


def _chosen(annotations: Annotations, split: str) -> Annotations:
    names = sorted(set(annotations.split.tolist()) - {""})
    if split not in names:
        raise DataError(f"{annotations.source}: no split {split!r}; it has {', '.join(names) or 'none'}")
    return annotations.subset(annotations.split == split)
