"""Pascal VOC: one XML file an image, splits in `ImageSets/Main` or in the names of the folders.

Files with a DOCTYPE are refused: without one no entity can be defined, so none can expand.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from ..draft import Draft
from ..errors import DataError, printable
from ..files import files_with, folder_split, folders_under, head, open_bytes, split_lists
from ..rules import Log

__all__ = ["read_voc"]

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_LARGEST = 1 << 23
"""bytes; room for twenty thousand objects in one image"""


def read_voc(path: Path, log: Log) -> list[Draft] | None:
    """Drafts of the folders of XML annotations at or below a path (or of one XML file); None if there are none."""
    groups = [[path]] if path.is_file() else [files_with(f, ".xml") for f in folders_under(path, depth=2)]
    groups = [files for files in groups if any(map(_is_annotation, files[:5]))]
    parsed = [_parse_all(files, log) for files in groups]
    names = {_text(entry, "name") for group in parsed for root in group.values() for entry in root.findall("object")}
    return [_draft(group, sorted(names - {""}), log) for group in parsed] or None


def _is_annotation(path: Path) -> bool:
    start = head(path).lstrip()
    return start[:1] == b"<" and b"<annotation" in start


def _parse_all(paths: list[Path], log: Log) -> dict[Path, ElementTree.Element]:
    """The <annotation> of every file that can be read. Raises DataError if none can."""
    parsed, first = {}, None
    for path in paths:
        try:
            parsed[path] = _parse(path)
        except DataError as error:
            first = first or error
            log.add("unreadable annotation file", str(error))
    if not parsed:
        raise first
    return parsed


def _parse(path: Path) -> ElementTree.Element:
    data = open_bytes(path)
    if len(data) > _LARGEST:
        raise DataError(f"{path}: larger than {_LARGEST} bytes; not read as the annotation of one image")
    if b"<!DOCTYPE" in data or b"\0" in data:  # a NUL: UTF-16, in which a DOCTYPE could hide
        raise DataError(f"{path}: not accepted: a DOCTYPE (with its entities), or another encoding than UTF-8")
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the last two: an unknown encoding
        raise DataError(f"{path}: not valid XML: {error}") from error
    if root.tag != "annotation":
        raise DataError(f"{path}: expected <annotation> but got <{printable(root.tag, 60)}>")
    return root


def _draft(files: dict[Path, ElementTree.Element], classes: list[str], log: Log) -> Draft:
    number = {name: k for k, name in enumerate(classes, 1)}
    objects = [
        (row, record, entry)
        for row, root in enumerate(files.values())
        for record, entry in enumerate(root.findall("object"), 1)
    ]
    paths = list(files)
    read = [_object(f"{paths[row]}: object {record}", entry, log) for row, record, entry in objects]
    kept = [i for i, values in enumerate(read) if values is not None]
    boxes = np.array([read[i][1] for i in kept], np.float64).reshape(-1, 4)
    folder = paths[0].parent
    splits, split = split_lists(folder.parent), folder_split(folder.name, folder.parent.name)
    stems = [path.stem for path in paths]
    draft = Draft(
        form="voc",
        classes=classes,
        image_ids=stems,
        file_names=[_stated_name(path, root) for path, root in files.items()],
        stems=stems,
        sizes=np.array(
            [[_number(_text(r, f"size/{side}"), 0) for side in ("width", "height")] for r in files.values()]
        ),
        image=np.array([objects[i][0] for i in kept], np.int64),
        label=np.array([number[read[i][0]] for i in kept], np.int64),
        boxes=boxes,
        record=[objects[i][1] for i in kept],
        file=[str(path) for path in paths],
        unit="object",
        box_field="bndbox",
        difficult=np.array([read[i][2] for i in kept], bool),
        split=[splits.get(stem, split) for stem in stems],
    )
    zero = (boxes[:, :2] == 0).any(1)
    if zero.any():
        log.rows("counts from zero", zero, draft.where)
    else:
        boxes[:, :2] -= 1  # VOC counts pixels from 1 and names the first and the last pixel that the box covers
    return draft


def _object(where: str, entry: ElementTree.Element, log: Log) -> tuple[str, list[float], bool] | None:
    """Name, corners and difficulty of an object, None if they cannot be used."""
    box = entry.find("bndbox")
    name, texts = _text(entry, "name"), ["" if box is None else _text(box, corner) for corner in _CORNERS]
    corners = [_number(text) for text in texts]
    if name and None not in corners:
        return name, corners, _text(entry, "difficult") not in ("0", "")
    fields = zip(("name", *_CORNERS), (name, *texts), (name or None, *corners))
    field, got = next((field, text) for field, text, value in fields if value is None)
    log.add("unusable record", f"{where}: {field}: {f'{got!r} is no number' if got else 'is missing'}")
    return None


def _text(entry: ElementTree.Element, path: str) -> str:
    return (entry.findtext(path) or "").strip()


def _number(text: str, default: float | None = None) -> float | None:
    try:
        return float(text)
    except ValueError:
        return default


def _stated_name(path: Path, root: ElementTree.Element) -> str:
    return _text(root, "filename").replace("\\", "/").rsplit("/", 1)[-1] or f"{path.stem}.jpg"
