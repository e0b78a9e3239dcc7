"""Pascal VOC: one XML file an image in `Annotations`, splits in `ImageSets/Main`. Numpy only.

The XML is read by events with DOCTYPE refused, so entities cannot expand and no tree is built.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

import numpy as np

from ..annotations import DataError
from ..checks import Log
from ..draft import Draft
from ..files import IMAGE_SUFFIXES, files_with, open_bytes, split_name, subfolders

__all__ = ["draft_voc", "voc_folders"]

_DEPTH = 50
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_WANTED = {
    **{f"annotation/{name}": name for name in ("filename", "size/width", "size/height")},
    **{f"annotation/object/{name}": name for name in ("name", "difficult")},
    **{f"annotation/object/bndbox/{name}": name for name in _CORNERS},
}


@dataclass
class _File:
    """The texts wanted from one XML file."""

    head: dict[str, str] = field(default_factory=dict)
    objects: list[dict[str, str]] = field(default_factory=list)


def voc_folders(path: Path) -> list[Path]:
    """Folders of VOC form: the path itself, or those directly inside it (VOCdevkit/VOC2007, VOC2012)."""
    return [folder for folder in (path, *subfolders(path)) if files_with(folder / "Annotations", ".xml")]


def draft_voc(root: Path, folder: Path, log: Log) -> Draft:
    """Read one VOC folder; file names are relative to `root`."""
    files = files_with(folder / "Annotations", ".xml")
    return draft_xml(files, log, root=root, images=folder / "JPEGImages", splits=_splits(folder))


def draft_xml(
    files: list[Path], log: Log, *, root: Path, images: Path | None, splits: dict[str, str] | None = None
) -> Draft:
    """Read XML files, each of which describes one image."""
    parsed = [_parse(file) for file in files]
    on_disk = {image.stem: image for image in files_with(images, *IMAGE_SUFFIXES)} if images else {}
    columns: dict[str, list] = {name: [] for name in ("image", "name", "box", "record", "difficult")}
    for row, (file, content) in enumerate(zip(files, parsed)):
        _objects(row, file, content, columns, log)
    boxes = np.array(columns["box"], np.float64).reshape(-1, 4)
    if (boxes[:, :2] == 0).any():
        log.rows(
            "counts from zero",
            (boxes[:, :2] == 0).any(1),
            lambda i: f"{files[columns['image'][i]]}: object {columns['record'][i]}",
        )
    else:
        boxes[:, :2] -= 1  # VOC counts pixels from 1 and names the first and the last pixel that the box covers
    classes = sorted(set(columns["name"]))
    number = {name: k for k, name in enumerate(classes, 1)}
    sizes = [[_number(content.head.get(f"size/{side}", "0")) for side in ("width", "height")] for content in parsed]
    return Draft(
        form="voc",
        classes=classes,
        image_ids=[file.stem for file in files],
        file_names=[_image_name(file, content, on_disk, images, root) for file, content in zip(files, parsed)],
        sizes=np.array(sizes, np.float64).reshape(-1, 2),
        image=np.array(columns["image"], np.int64),
        label=np.array([number[name] for name in columns["name"]], np.int64),
        boxes=boxes,
        record=columns["record"],
        file=[str(file) for file in files],
        unit="object",
        box_field="bndbox",
        difficult=np.array(columns["difficult"], bool),
        split=[(splits or {}).get(file.stem, "") for file in files],
        root=root,
    )


def _objects(row: int, file: Path, content: _File, columns: dict[str, list], log: Log) -> None:
    """Append the objects of one file to the columns."""
    for record, entry in enumerate(content.objects, 1):
        missing = [name for name in ("name", *_CORNERS) if name not in entry]
        corners = [_number(entry.get(name, "")) for name in _CORNERS]
        bad = [name for name, value in zip(_CORNERS, corners) if value is None]
        if missing or bad:
            problem = f"{missing[0]} is missing" if missing else f"{bad[0]}: {entry[bad[0]]!r} is not a number"
            log.add("unusable record", f"{file}: object {record}: {problem}")
            continue
        columns["image"].append(row)
        columns["name"].append(entry["name"])
        columns["box"].append(corners)
        columns["record"].append(record)
        columns["difficult"].append(entry.get("difficult", "0") not in ("0", ""))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _parse(path: Path) -> _File:
    """The wanted texts of one file. Raises DataError for what is not XML, has a DOCTYPE, or is no annotation."""
    result, stack, texts = _File(), [], []
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def start(name, _):
        if len(stack) >= _DEPTH:
            raise DataError(f"{path}: line {parser.CurrentLineNumber}: the XML is nested over {_DEPTH} deep")
        stack.append(name)
        texts.clear()
        if stack == ["annotation", "object"]:
            result.objects.append({})

    def end(_):
        name = _WANTED.get("/".join(stack))
        if name:
            target = result.objects[-1] if stack[1] == "object" else result.head
            target.setdefault(name, "".join(texts).strip())
        stack.pop()
        texts.clear()

    def doctype(*_):
        raise DataError(f"{path}: line {parser.CurrentLineNumber}: a DOCTYPE (and its entities) is not accepted")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = texts.append, doctype
    try:
        parser.Parse(open_bytes(path), True)
    except (expat.ExpatError, ValueError, LookupError) as error:  # ValueError, LookupError: an unknown encoding
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: not valid XML: {error}") from error
    return result


def _image_name(file: Path, content: _File, on_disk: dict[str, Path], images: Path | None, root: Path) -> str:
    """The image of the same stem where it exists (the filename inside is often wrong), else the filename stated."""
    found = on_disk.get(file.stem)
    if found is None and images is not None:
        found = images / (content.head.get("filename") or f"{file.stem}.jpg").replace("\\", "/").rsplit("/", 1)[-1]
    if found is None:
        return content.head.get("filename", "")
    return found.relative_to(root).as_posix()


def _splits(folder: Path) -> dict[str, str]:
    """Split of each image from ImageSets/Main; `trainval` counts where neither `train` nor `val` lists the image."""
    splits: dict[str, str] = {}
    lists = {file.stem: file for file in files_with(folder / "ImageSets" / "Main", ".txt")}
    for stem in ("train", "val", "valid", "test", "trainval"):
        if stem in lists:
            for line in open_bytes(lists[stem]).decode("utf-8", "replace").splitlines():
                splits.setdefault(line.split()[0] if line.split() else "", split_name(stem))
    return splits
