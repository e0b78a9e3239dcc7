"""Files and folders of every supported form -> Annotations. The form is told by content, not by name. No torch."""

from __future__ import annotations

import os
from pathlib import Path

from .annotations import Annotations, DataError, MissingDataError
from .checks import Log, clean
from .draft import Draft, merge
from .files import ImageFolders, split_name
from .forms.coco import NotCocoError, coco_files, draft_coco
from .forms.voc import draft_voc, voc_folders
from .forms.yolo import draft_yolo, yolo_source

__all__ = ["read"]


def read(
    path: str | os.PathLike, *, images: str | os.PathLike | None = None, split: str | None = None, strict: bool = False
) -> Annotations:
    """Read a detection dataset: a file or a folder in COCO, LVIS, Pascal VOC or YOLO form.

    images: folder of the image files, where it cannot be found beside the annotations.
    split: "train", "val" or "test" only.
    strict: raise DataError at the first record that training must not meet (see docs/data.md) instead of counting it.

    Every repair and exclusion is counted in `Annotations.problems`. Raises DataError, and nothing else.
    """
    path = Path(path)
    if not path.exists():
        raise MissingDataError(f"{path}: no such file or folder")
    log = Log(strict=strict)
    draft = _draft(path, None if images is None else Path(images), log)
    if images is not None:
        draft.root = draft.root or Path(images)
    result = clean(draft, log, source=str(path))
    if split is None:
        return result
    if not (result.split == split).any():
        raise DataError(f"{path}: no split {split!r}; there are {sorted(set(result.split.tolist()) - {''}) or 'none'}")
    return result.subset(result.split == split)


def _draft(path: Path, images: Path | None, log: Log) -> Draft:
    """Recognise the form and read the raw columns."""
    if path.is_dir():
        if folders := voc_folders(path):
            return merge([draft_voc(path, folder, log) for folder in folders])
        if (source := yolo_source(path)) is not None:
            return draft_yolo(source, log)
        if files := coco_files(path):
            return _coco_folder(path, files, images, log)
        raise DataError(f"{path}: no dataset of a known form is in this folder")
    if yolo_source(path) is not None:
        return draft_yolo(path, log)
    return _coco_folder(path.parent, [path], images, log)


def _coco_folder(folder: Path, files: list[Path], images: Path | None, log: Log) -> Draft:
    """Read the JSON files of a folder as one dataset; those that are no datasets are left aside if others are."""
    drafts, refused = {}, []
    for file in _without_repeats(files, log):
        try:
            drafts[file] = draft_coco(file, log, split=split_name(file.name.split(".")[0], file.parent.name))
        except NotCocoError as error:
            refused.append(error)
    if not drafts:
        raise refused[0]
    for error in refused:
        log.add("file not read", str(error))
    _find_images(drafts, images or (folder.parent if folder.name == "annotations" else folder))
    return merge(list(drafts.values()))


def _without_repeats(files: list[Path], log: Log) -> list[Path]:
    """The files without `trainval` where `train` and `val` are there too."""
    words = {file: file.name.lower() for file in files}
    both = {file for file, name in words.items() if "trainval" in name}
    if {"train", "val"} <= {split_name(name) for file, name in words.items() if file not in both}:
        for file in both:
            log.add("file not read", f"{file}: repeats what the files of train and val hold")
        return [file for file in files if file not in both]
    return files


def _find_images(drafts: dict[Path, Draft], base: Path) -> None:
    """Set the root of the drafts to the folder of all their images, and their file names relative to it."""
    folders = ImageFolders(base)
    places = {
        file: folders.find(draft.file_names, split=draft.split[0] if draft.split else "", near=file.parent)
        for file, draft in drafts.items()
    }
    known = {place for place in places.values() if place is not None}
    root = known.pop() if len(known) == 1 else base if known else None
    for file, draft in drafts.items():
        draft.root = root
        if places[file] not in (root, None):
            prefix = places[file].relative_to(root).as_posix()
            draft.file_names = [f"{prefix}/{name}" for name in draft.file_names]
