"""What object sizes lose when images are resized for training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..taxonomy import Imbalance
from . import indices
from .anchors import AnchorPreset
from .bootstrap import Resampler
from .columns import Columns
from .finding import Finding, Table
from .scale import SIZES, size_of
from .wording import percent

__all__ = ["resize_loss", "resized"]

_OTHER_SIDES = (320, 512, 640)


def resized(columns: Columns, preset: AnchorPreset) -> np.ndarray:
    """(known, 2) factors by which the detector's resize rule changes width and height of each object's image."""
    sizes = columns.image_size
    return preset.resized(sizes)[0] / sizes if len(sizes) else sizes


def resize_loss(columns: Columns, sampler: Resampler, preset: AnchorPreset) -> Finding:
    """Share of the objects whose shorter side, resized for training, is below one cell of the finest pyramid level.

    Balanced: none. Worst: all. Such an object has no feature of its own (RetinaNet's finest cell is 8 pixels wide).
    """
    known, cell = columns.known, preset.strides[0]
    before = size_of(columns.area[known])
    rows = []
    for side, other in _other_sizes(preset):
        after, lost = _after(columns, other, cell)
        rows.append((side, *indices.normalise(np.bincount(after, minlength=3)).tolist(), _mean(lost)))
    after, lost = _after(columns, preset, cell)
    moved = np.bincount(before * 3 + after, minlength=9).reshape(3, 3).tolist()
    value = _mean(lost)
    repeats = sampler.histogram(columns.image[known], lost.astype(np.int64), 2)
    by_class, total = (
        np.bincount(columns.kind[chosen], minlength=len(columns.classes)) for chosen in (known[lost], known)
    )
    share = by_class / np.maximum(total, 1)
    order = np.argsort(-share, kind="stable")
    rule = _rule(preset)
    return Finding(
        imbalance=Imbalance.OBJECT_SCALE,
        key="resize_loss",
        value=value,
        severity=None,
        interval=sampler.interval(value, indices.normalise(repeats)[:, 1]),
        measure=f"share of the objects narrower than {cell} pixels at {preset.name}'s training size",
        summary=(
            f"Resized for training ({rule}), {percent(value)} of the objects are narrower than {cell} pixels, a cell "
            "of the finest pyramid level."
        ),
        tables=(
            Table(
                "What the training size does to the sizes",
                ("shorter side", *SIZES, "narrower than a cell"),
                tuple(rows),
                "line",
                note="Share of the objects in each of COCO's size bins after resizing.",
            ),
            Table(
                f"Sizes before (rows) and after ({rule})",
                ("before", *SIZES),
                tuple((name, *row) for name, row in zip(SIZES, moved)),
            ),
            Table(
                "Narrower than a cell, by class",
                ("class", "share", "boxes"),
                tuple((columns.classes[k], float(share[k]), int(by_class[k])) for k in order if by_class[k]),
            ),
        ),
        affected=tuple(columns.classes[k] for k in order if share[k] > 0.1)[:5],
    )


def _rule(preset: AnchorPreset) -> str:
    if preset.fixed_size is not None:
        return f"{preset.fixed_size[0]} x {preset.fixed_size[1]} pixels"
    return f"shorter side {preset.min_size}, longer at most {preset.max_size}"


def _other_sizes(preset: AnchorPreset) -> list[tuple[int, AnchorPreset]]:
    """The same resize rule with other sides, its own among them; ascending."""
    if preset.fixed_size is not None:
        own = min(preset.fixed_size)
        shape = np.array(preset.fixed_size) / own
        return [
            (side, replace(preset, fixed_size=tuple(int(v) for v in np.rint(shape * side))))
            for side in sorted({*_OTHER_SIDES, own})
        ]
    ratio = preset.max_size / preset.min_size
    return [
        (side, replace(preset, min_size=side, max_size=round(side * ratio)))
        for side in sorted({*_OTHER_SIDES, preset.min_size})
    ]


def _after(columns: Columns, preset: AnchorPreset, cell: float) -> tuple[np.ndarray, np.ndarray]:
    """Size bin of each object in the resized image, and whether it is narrower than a cell there."""
    factor, known = resized(columns, preset), columns.known
    area = columns.area[known] * factor.prod(1)
    return size_of(area), (columns.size[known] * factor).min(1) < cell


def _mean(mask: np.ndarray) -> float:
    return float(mask.mean()) if len(mask) else 0.0
