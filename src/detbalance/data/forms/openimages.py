"""Open Images: CSV with relative boxes, one file a split; class names and verified absences beside it. No torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..columns import csv_header, read_csv
from ..draft import Draft
from ..files import files_with, open_text, split_name
from ..rules import Log

__all__ = ["read_openimages"]

_CORNERS = ("XMin", "YMin", "XMax", "YMax")
_SUFFIXES = (".csv", ".csv.gz")


def read_openimages(path: Path, log: Log) -> list[Draft] | None:
    """Drafts of a file of boxes, or of those of a folder; None where there is none."""
    folder = path if path.is_dir() else path.parent
    around = files_with(folder, *_SUFFIXES) + files_with(folder / "annotations", *_SUFFIXES)
    columns = {file: (csv_header(file) or ([], ""))[0] for file in around} | (
        {path: (csv_header(path) or ([], ""))[0]} if path.is_file() else {}
    )
    boxed = {"ImageID", "LabelName", *_CORNERS}
    files = [f for f in (around if path.is_dir() else [path]) if boxed <= set(columns[f])]
    if not files:
        return None
    names = {}
    for file in around:
        if "class-descriptions" in file.name:
            names |= _descriptions(file)
    verified = [
        f for f in around if {"ImageID", "LabelName", "Confidence"} <= set(columns[f]) and "XMin" not in columns[f]
    ]
    return [_draft(file, names, verified, set(columns[file]), log) for file in files]


def _descriptions(file: Path) -> dict[str, str]:
    """Readable names of the classes, {"/m/011k07": "Tortoise"}."""
    pairs = (line.strip().split(",", 1) for line in open_text(file).splitlines())
    return {pair[0]: pair[1].strip('"') for pair in pairs if len(pair) == 2 and pair[0] != "LabelName"}


def _draft(file: Path, names: dict[str, str], verified: list[Path], header: set[str], log: Log) -> Draft:
    flags = ["IsGroupOf"] if "IsGroupOf" in header else []
    table = read_csv(file, ("ImageID", "LabelName"), (*_CORNERS, *flags))
    (image, images), (code, labels) = table.texts["ImageID"], table.texts["LabelName"]
    classes = sorted({names.get(label, label) for label in labels} | set(names.values()))
    number = {name: k for k, name in enumerate(classes, 1)}
    label = np.array([number[names.get(label, label)] for label in labels], np.int64)
    split = split_name(file.name)
    draft = Draft(
        form="openimages",
        classes=classes,
        image_ids=list(images),
        file_names=[f"{name}.jpg" for name in images],
        stems=list(images),
        sizes=np.zeros((len(images), 2)),
        image=image,
        label=label[code] if len(code) else code,
        boxes=np.column_stack([table.numbers[corner] for corner in _CORNERS]),
        relative=True,
        record=list(range(1, len(image) + 1)),
        file=[str(file)] * len(images),
        unit="row",
        box_field="XMin YMin XMax YMax",
        crowd=np.nan_to_num(table.numbers["IsGroupOf"]) > 0 if flags else None,
        split=[split] * len(images),
    )
    same = [f for f in verified if split_name(f.name) == split]
    draft.negatives = (
        _negatives(same, images, {**number, **{mid: number[name] for mid, name in names.items()}}) if same else None
    )
    return draft


def _negatives(files: list[Path], images: list[str], number: dict[str, int]) -> list[tuple[int, ...]]:
    """Per image, the labels that people or machines looked for and did not find (Confidence 0)."""
    row = {name: i for i, name in enumerate(images)}
    absent: list[set[int]] = [set() for _ in images]
    for file in files:
        table = read_csv(file, ("ImageID", "LabelName"), ("Confidence",))
        for name, label, confidence in zip(table.text("ImageID"), table.text("LabelName"), table.numbers["Confidence"]):
            if confidence == 0 and name in row and label in number:
                absent[row[name]].add(number[label])
    return [tuple(sorted(labels)) for labels in absent]
