"""KITTI: one text file an image in `label_2`, fifteen fields a line, of which type and corners count here. No torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..draft import Draft
from ..files import files_with, folder_split, folders_under, head, open_text, split_lists
from ..rules import Log

__all__ = ["read_kitti"]

_IGNORED = "DontCare"
"""a region that was not annotated: whatever is found there is neither right nor wrong, whatever its class"""


def read_kitti(path: Path, log: Log) -> list[Draft] | None:
    """Drafts of the label folders at or below a folder; None if there are none."""
    if path.is_file():
        return None
    groups = [files_with(folder, ".txt") for folder in folders_under(path, depth=3)]
    groups = [files for files in groups if any(map(_is_label, files[:5]))]
    return [_draft(files, log) for files in groups] or None


def _is_label(file: Path) -> bool:
    """Is the first line a word and at least fourteen numbers?"""
    tokens = head(file).split(b"\n")[0].split()
    return len(tokens) >= 15 and not _numbers(tokens[:1]) and len(_numbers(tokens[1:15])) == 14


def _numbers(tokens: list) -> list[float]:
    """The tokens as numbers, [] if one is none."""
    try:
        return [float(token) for token in tokens]
    except ValueError:
        return []


def _draft(files: list[Path], log: Log) -> Draft:
    image, types, boxes, record = [], [], [], []
    for row, file in enumerate(files):
        for line, text in enumerate(open_text(file).splitlines(), 1):
            tokens = text.split()
            box = _numbers(tokens[4:8])
            if tokens and len(box) == 4:
                image.append(row)
                types.append(tokens[0])
                boxes.append(box)
                record.append(line)
            elif tokens:
                log.add("unusable record", f"{file}: line {line}: expected a type and 14 numbers but got {text[:60]!r}")
    classes = sorted(set(types) - {_IGNORED})
    rows, label = _labels(types, classes)
    folder = files[0].parent
    splits = split_lists(folder.parent) or split_lists(folder.parent.parent)
    stems = [file.stem for file in files]
    return Draft(
        form="kitti",
        classes=classes,
        image_ids=stems,
        file_names=[f"{stem}.png" for stem in stems],
        stems=stems,
        sizes=np.zeros((len(files), 2)),
        image=np.array(image, np.int64)[rows],
        label=label,
        boxes=np.array(boxes, np.float64).reshape(-1, 4)[rows],
        record=[record[i] for i in rows],
        file=[str(file) for file in files],
        unit="line",
        box_field="left top right bottom",
        crowd=np.array([kind == _IGNORED for kind in types], bool)[rows],
        split=[splits.get(stem, folder_split(folder.name, folder.parent.name)) for stem in stems],
    )


def _labels(types: list[str], classes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and their labels; a region to ignore becomes a crowd of every class, as evaluation ignores by class."""
    everything = range(1, len(classes) + 1)
    number = {name: (k,) for k, name in enumerate(classes, 1)} | {_IGNORED: tuple(everything)}
    pairs = [(row, k) for row, kind in enumerate(types) for k in number[kind]]
    table = np.array(pairs, np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]
