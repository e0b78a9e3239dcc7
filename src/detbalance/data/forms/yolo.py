"""YOLO: one text file an image, `class x y w h` relative to the image; classes in data.yaml or classes.txt."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..checks import Log
from ..draft import Draft
from ..errors import DataError
from ..files import IMAGE_SUFFIXES, files_under, files_with, head, open_text, split_name

__all__ = ["has_data_yaml", "read_yolo"]

_LARGEST_YAML = 1 << 20
_SPLITS = ("train", "val", "valid", "validation", "test")
_YAML = (".yaml", ".yml")


@dataclass(frozen=True)
class _Layout:
    """What a YOLO dataset says of itself."""

    source: Path
    names: dict[int, str]
    """{}: not stated"""
    pictures: list[tuple[Path, str]]
    """image files (which may be absent) with their split"""
    pose: bool = False
    """key points follow the box"""


def read_yolo(path: Path, log: Log) -> list[Draft] | None:
    """Draft of a YOLO dataset: a data.yaml, a folder with one, or a folder of labels; None if it is none of these."""
    source = _source(path)
    if source is None:
        return None
    layout = _from_yaml(source) if source.suffix in _YAML else _from_folder(source)
    if not layout.pictures:
        raise DataError(f"{source}: no images and no labels are found where this YOLO dataset says they are")
    return [_draft(layout, log)]


def has_data_yaml(path: Path) -> bool:
    """Does a path say of itself, by a data.yaml, that it is a YOLO dataset?"""
    return (source := _source(path)) is not None and source.suffix in _YAML


def _source(path: Path) -> Path | None:
    """What defines a YOLO dataset at a path: its data.yaml, else its list of classes, else the folder; or None."""
    if path.is_file():
        return path if path.suffix in _YAML and "names" in _yaml(path) else None
    for file in files_with(path, *_YAML):
        if "names" in _yaml(file):
            return file
    if not any(_looks_like_labels(file) for file in files_under(path, (".txt",), limit=50)):
        return None
    named = [path / name for name in ("classes.txt", "obj.names", "labels/classes.txt") if (path / name).is_file()]
    return named[0] if named else path


def _draft(layout: _Layout, log: Log) -> Draft:
    pictures = [picture for picture, _ in layout.pictures]
    labels = [_label_file(picture) for picture in pictures]
    image, table, record = _rows(labels, layout.pose, log)
    classes = sorted(layout.names) or sorted({int(c) for c in table[:, 0] if 0 <= c < 1e6 and c == int(c)})
    number = {c: k for k, c in enumerate(classes, 1)}
    label = np.array([number.get(c, 0) for c in table[:, 0].tolist()], np.int64)

    def describe(i):
        return f"{labels[image[i]]}: line {record[i]}: class: {table[i, 0]:g} is not one of the {len(classes)} classes"

    log.rows("unknown category", label == 0, describe)
    kept = np.flatnonzero(label)
    centre, half = table[kept, 1:3], table[kept, 3:] / 2
    root = layout.source if layout.source.is_dir() else layout.source.parent
    root = Path(os.path.commonpath([_absolute(root), *(picture.parent for picture in pictures)]))
    names = [picture.relative_to(root).as_posix() for picture in pictures]
    return Draft(
        form="yolo",
        classes=[layout.names.get(c, str(c)) for c in classes],
        image_ids=names,
        file_names=list(names),
        sizes=np.zeros((len(names), 2)),
        image=image[kept],
        label=label[kept],
        boxes=np.concatenate((centre - half, centre + half), 1),
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


def _label_file(picture: Path) -> Path:
    """The label file of an image: the last folder `images` of its path becomes `labels`; else beside the image."""
    parts = list(picture.parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i] == "images":
            there = Path(*parts[:i], "labels", *parts[i + 1 :]).with_suffix(".txt")
            return (
                there if there.is_file() or not picture.with_suffix(".txt").is_file() else picture.with_suffix(".txt")
            )
    return picture.with_suffix(".txt")


def _from_yaml(source: Path) -> _Layout:
    config = _yaml(source)
    names = config["names"]
    pairs = names.items() if isinstance(names, dict) else enumerate(names) if isinstance(names, list) else ()
    try:
        numbered = {int(k): name for k, name in pairs}
    except ValueError as error:
        raise DataError(f"{source}: names: expected class numbers as keys ({error})") from error
    if not numbered or not all(isinstance(name, str) for name in numbered.values()):
        raise DataError(f"{source}: names: expected a list of names or a mapping from numbers to names")
    pictures = []
    for key in _SPLITS:
        places = config.get(key) or []
        for place in places if isinstance(places, list) else [places]:
            if not isinstance(place, str):
                raise DataError(f"{source}: {key}: expected a folder, a list of folders or a .txt file")
            pictures += [(picture, split_name(key)) for picture in _listed(source, config.get("path"), place, key)]
    return _Layout(source, numbered, pictures, "kpt_shape" in config)


def _from_folder(source: Path) -> _Layout:
    """A folder without data.yaml: every image below it, split by the names of its folders."""
    root = _absolute(source if source.is_dir() else source.parent)
    root = root.parent if root.name == "labels" else root
    names = {} if source.is_dir() else dict(enumerate(open_text(source).splitlines()))
    pictures = _pictures(root)
    return _Layout(
        source,
        {k: name.strip() for k, name in names.items() if name.strip()},
        [(p, split_name(*reversed(p.relative_to(root).parts[:-1]))) for p in pictures],
    )


def _listed(source: Path, base: object, place: str, key: str) -> list[Path]:
    """The images of one entry of data.yaml: a folder, or a .txt file that lists images."""
    where = _find(source.parent, base if isinstance(base, str) else "", place)
    if where is None:
        raise DataError(f"{source}: {key}: {place!r} does not exist, neither under `path` nor beside the file")
    if where.is_dir():
        return _pictures(where)
    if where.suffix != ".txt":
        raise DataError(f"{source}: {key}: expected a folder or a .txt file but got {place!r}")
    lines = (line.strip() for line in open_text(where).splitlines())
    return [_absolute(where.parent / line) for line in lines if line and "\0" not in line]


def _find(folder: Path, base: str, place: str) -> Path | None:
    """Where an entry of data.yaml lies: as stated, or as it must be meant in a copy that has been moved."""
    moved = [part for part in Path(place).parts if part not in ("..", "/")]
    guesses = [folder / base / place, folder / place, *(folder.joinpath(*moved[i:]) for i in range(len(moved)))]
    guesses += [folder.joinpath(*["labels" if part == "images" else part for part in moved])]
    try:
        return next((_absolute(guess) for guess in guesses if guess.exists()), None)
    except (OSError, ValueError):  # a name too long, or with a NUL
        return None


def _pictures(folder: Path) -> list[Path]:
    """Images under a folder, and the places of those of which only the label file is there."""
    found = files_under(folder, IMAGE_SUFFIXES)
    taken = {_label_file(picture) for picture in found}
    twin = _label_file(folder / "any.jpg").parent
    labels = files_under(twin if twin.is_dir() else folder, (".txt",))
    absent = [_picture_of(label) for label in labels if label not in taken and _looks_like_labels(label)]
    return sorted(found + absent)


def _picture_of(label: Path) -> Path:
    """Where the image of a label file would lie."""
    parts = list(label.parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i] == "labels":
            parts[i] = "images"
            break
    return Path(*parts).with_suffix(".jpg")


def _looks_like_labels(file: Path) -> bool:
    """Is the first line a class number and at least four numbers?"""
    try:
        values = [float(token) for token in head(file).lstrip().split(b"\n")[0].split()[:5]]
    except ValueError:
        return False
    return len(values) == 5 and values[0].is_integer()


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))


def _yaml(path: Path) -> dict:
    """The mapping in a YAML file: text, lists and mappings only, so that a class `no` stays "no"."""
    import yaml

    class Loader(yaml.BaseLoader):
        def compose_node(self, parent, index):
            if self.check_event(yaml.AliasEvent):  # aliases can be made to expand without end
                raise yaml.YAMLError(f"aliases are not accepted{self.peek_event().start_mark}")
            return super().compose_node(parent, index)

    text = open_text(path)
    if len(text) > _LARGEST_YAML:
        raise DataError(f"{path}: longer than {_LARGEST_YAML} characters; not read as the description of a dataset")
    try:
        config = yaml.load(text, Loader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise DataError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    return config if isinstance(config, dict) else {}
