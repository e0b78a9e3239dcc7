"""What a form has read, before the rules for dirty data: columns that may hold anything. Numpy only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["Draft", "merge"]


@dataclass
class Draft:
    """I images, B boxes, K classes. Boxes whose image or class is unknown have been left out by the form."""

    form: str
    classes: list[str]
    image_ids: list
    file_names: list[str]
    sizes: np.ndarray
    """(I, 2) width and height, any numbers; 0 unknown"""
    image: np.ndarray
    """(B,) row of the image"""
    label: np.ndarray
    """(B,) 1..K"""
    boxes: np.ndarray
    """(B, 4) xyxy, any numbers, in pixels or relative to the image"""
    record: list
    """(B,) what the source calls the record: id, line or object number"""
    file: list[str]
    """(I,) the file that describes each image"""
    unit: str = "annotation"
    """what a record is called in messages"""
    box_field: str = "bbox"
    area: np.ndarray | None = None
    """(B,) NaN where the source does not say"""
    crowd: np.ndarray | None = None
    difficult: np.ndarray | None = None
    split: list[str] | None = None
    category_ids: list[int] | None = None
    frequency: list[str] | None = None
    negatives: list[tuple[int, ...]] | None = None
    not_exhaustive: list[tuple[int, ...]] | None = None
    root: Path | None = None
    """folder of the images; None: not found"""
    relative: bool = False
    """are the boxes relative to the image's size?"""
    stems: list[str] | None = None
    """(I,) names of the image files without suffix, where the source is surer of them than of `file_names`"""

    def where(self, row: int) -> str:
        """File, record and image of a box, for messages."""
        image = self.image[row]
        return f"{self.file[image]}: {self.unit} {self.record[row]} (image {self.file_names[image]!r})"


def merge(drafts: list[Draft]) -> Draft:
    """One draft of several of the same form and root: images one after the other, classes joined by name."""
    if len(drafts) == 1:
        return drafts[0]
    first = drafts[0]
    classes = list(dict.fromkeys(name for draft in drafts for name in draft.classes))
    number = {name: k for k, name in enumerate(classes, 1)}
    starts = np.cumsum([0] + [len(draft.image_ids) for draft in drafts])
    tables = [np.array([0] + [number[name] for name in draft.classes]) for draft in drafts]

    def chain(name):
        return [value for draft in drafts for value in getattr(draft, name)]

    def column(name, default):
        """Joined box columns, or None where no draft has them."""
        columns = [getattr(draft, name) for draft in drafts]
        if all(c is None for c in columns):
            return None
        return np.concatenate([np.full(len(d.image), default) if c is None else c for d, c in zip(drafts, columns)])

    def labels(name):
        """Joined label lists of the images, in the numbers of the joined classes."""
        if all(getattr(draft, name) is None for draft in drafts):
            return None
        return [
            tuple(int(table[k]) for k in value)
            for draft, table in zip(drafts, tables)
            for value in (getattr(draft, name) or [()] * len(draft.image_ids))
        ]

    return Draft(
        form=first.form,
        classes=classes,
        image_ids=chain("image_ids"),
        file_names=chain("file_names"),
        sizes=np.concatenate([np.asarray(draft.sizes, np.float64).reshape(-1, 2) for draft in drafts]),
        image=np.concatenate([draft.image + start for draft, start in zip(drafts, starts)]),
        label=np.concatenate([table[draft.label] for draft, table in zip(drafts, tables)]),
        boxes=np.concatenate([draft.boxes for draft in drafts]),
        record=chain("record"),
        file=chain("file"),
        unit=first.unit,
        box_field=first.box_field,
        area=column("area", np.nan),
        crowd=column("crowd", False),
        difficult=column("difficult", False),
        split=[name for draft in drafts for name in draft.split or [""] * len(draft.image_ids)],
        category_ids=_category_ids(drafts, classes),
        frequency=_frequency(drafts, classes),
        negatives=labels("negatives"),
        not_exhaustive=labels("not_exhaustive"),
        root=first.root,
        relative=first.relative,
        stems=None if first.stems is None else chain("stems"),
    )


def _category_ids(drafts: list[Draft], classes: list[str]) -> list[int] | None:
    """The sources' own ids where they agree, else None (1..K)."""
    if any(draft.category_ids is None for draft in drafts):
        return None
    ids: dict[str, int] = {}
    for draft in drafts:
        for name, number in zip(draft.classes, draft.category_ids):
            if ids.setdefault(name, number) != number:
                return None
    return [ids[name] for name in classes] if len(set(ids.values())) == len(ids) else None


def _frequency(drafts: list[Draft], classes: list[str]) -> list[str] | None:
    """The frequency group of each class, from the first source that states one for all classes."""
    stated = {name: f for draft in reversed(drafts) for name, f in zip(draft.classes, draft.frequency or ())}
    return [stated[name] for name in classes] if all(name in stated for name in classes) else None
