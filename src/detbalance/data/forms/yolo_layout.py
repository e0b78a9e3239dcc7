"""Where the images and labels of a YOLO dataset lie: data.yaml, lists of images, folders. No torch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError, MissingDataError
from ..files import IMAGE_SUFFIXES, files_under, files_with, folder_split, head, open_text, split_name
from ..rules import Log

__all__ = ["Layout", "from_folder", "from_yaml", "label_file", "looks_like_labels", "read_yaml"]

_LARGEST_YAML = 1 << 19
_DEPTH = 20
_SPLITS = ("train", "val", "valid", "validation", "test")


@dataclass(frozen=True)
class Layout:
    """What a YOLO dataset says of itself."""

    source: Path
    names: dict[int, str]
    """{}: not stated"""
    pictures: list[tuple[Path, str]]
    """image files (which may be absent) with their split"""
    pose: bool = False
    """key points follow the box"""


def from_yaml(source: Path, config: dict, log: Log) -> Layout:
    """What a data.yaml says. An entry that does not exist is noted, that of `train` an error."""
    pictures = []
    for key in _SPLITS:
        places = config.get(key) or []
        for place in places if isinstance(places, list) else [places]:
            if not isinstance(place, str):
                raise DataError(f"{source}: {key}: expected a folder, a list of folders or a .txt file")
            try:
                found = _listed(source, config.get("path"), place, key)
            except MissingDataError as error:
                if key == "train":
                    raise
                log.add("file not read", str(error))
                continue
            pictures += [(picture, split_name(key)) for picture in found]
    return Layout(source, _names(source, config["names"]), pictures, "kpt_shape" in config)


def _names(source: Path, names: object) -> dict[int, str]:
    """The names of the classes by number, from a list or a mapping."""
    pairs = names.items() if isinstance(names, dict) else enumerate(names) if isinstance(names, list) else ()
    try:
        numbered = {int(k): name for k, name in pairs}
    except ValueError as error:
        raise DataError(f"{source}: names: expected class numbers as keys ({error})") from error
    if not numbered or not all(isinstance(name, str) and 0 <= k < 1e9 for k, name in numbered.items()):
        raise DataError(f"{source}: names: expected a list of names or a mapping from numbers to names")
    return numbered


def _names_above(folder: Path) -> dict[int, str]:
    """The names in the data.yaml of the folder above, if it speaks of this one: one split of a dataset."""
    for file in files_with(folder.parent, ".yaml", ".yml"):
        config = read_yaml(file)
        if "names" in config and any(folder.name in str(config.get(key)) for key in _SPLITS):
            return _names(file, config["names"])
    return {}


def from_folder(folder: Path) -> Layout:
    """Every image below a folder, with the splits that the names of its folders speak of."""
    root = _absolute(folder.parent if folder.name == "labels" else folder)
    listed = [f for f in (root / "classes.txt", root / "obj.names", root / "labels/classes.txt") if f.is_file()]
    names = dict(enumerate(open_text(listed[0]).splitlines())) if listed else _names_above(root)
    return Layout(
        folder,
        {k: name.strip() for k, name in names.items() if name.strip()},
        [(p, folder_split(*reversed(p.relative_to(root).parts[:-1]))) for p in _pictures(root)],
    )


def _listed(source: Path, base: object, place: str, key: str) -> list[Path]:
    """The images of one entry of data.yaml: a folder, or a .txt file that lists images."""
    where = _find(source.parent, base if isinstance(base, str) else "", place)
    if where is None:
        raise MissingDataError(f"{source}: {key}: {place!r} does not exist, neither under `path` nor beside the file")
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
    taken = {label_file(picture) for picture in found}
    twin = label_file(folder / "any.jpg").parent
    labels = files_under(twin if twin.is_dir() else folder, (".txt",))
    absent = [_picture_of(label) for label in labels if label not in taken and looks_like_labels(label)]
    return sorted(found + absent)


def _picture_of(label: Path) -> Path:
    """Where the image of a label file would lie."""
    parts = list(label.parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i] == "labels":
            parts[i] = "images"
            break
    return Path(*parts).with_suffix(".jpg")


def looks_like_labels(file: Path) -> bool:
    """Is the first line a class number and at least four numbers?"""
    try:
        values = [float(token) for token in head(file).lstrip().split(b"\n")[0].split()[:5]]
    except ValueError:
        return False
    return len(values) == 5 and values[0].is_integer()


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))


def read_yaml(path: Path) -> dict:
    """The mapping in a YAML file: text, lists and mappings only, so that a class `no` stays "no"."""
    import yaml

    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    text = open_text(path)
    if "names" not in text:
        return {}
    if len(text) > _LARGEST_YAML:
        raise DataError(f"{path}: longer than {_LARGEST_YAML} characters; not read as the description of a dataset")
    try:
        depth = 0
        for event in yaml.parse(text, loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent) or depth > _DEPTH:  # aliases can be made to expand without end
                line = event.start_mark.line + 1
                raise DataError(f"{path}: line {line}: aliases, and nesting over {_DEPTH} deep, are not accepted")
        config = yaml.load(text, loader)
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    return config if isinstance(config, dict) else {}


def label_file(picture: Path) -> Path:
    """The label file of an image: the last folder `images` of its path becomes `labels`; else beside the image."""
    beside = picture.with_suffix(".txt")
    parts = list(picture.parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i] == "images":
            twin = Path(*parts[:i], "labels", *parts[i + 1 :]).with_suffix(".txt")
            return twin if twin.is_file() or not beside.is_file() else beside
    return beside
