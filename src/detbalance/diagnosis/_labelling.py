"""Labels of anchors: which object keeps an anchor that several claim, and which anchors become positive regardless."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from ..data.annotations import Annotations
from ._grid import Cells, Grid, Objects, claimable, expand, nearest_iou, pair_iou
from .anchor_presets import AnchorPreset

__all__ = ["Part", "labelled_parts", "same", "winners"]

_FARTHEST = 1e15  # pixels: beyond, float32 areas overflow


@dataclass(frozen=True)
class Part:
    """A run of images, labelled."""

    grid: Grid
    images: slice
    """of the annotations"""
    objects: Objects
    rows: np.ndarray
    """(B,) of the objects in the annotations"""
    totals: np.ndarray
    """(I, L) number of anchors"""
    cells: Cells
    """anchors and objects"""
    claimed: np.ndarray
    """those that are not negative"""
    positive: np.ndarray
    best: np.ndarray
    """(B,) float32"""


def labelled_parts(annotations: Annotations, preset: AnchorPreset, chunk: int) -> Iterator[Part]:
    """Label runs of images, each of about `chunk` images plus boxes."""
    if chunk < 1:
        raise ValueError(f"expected chunk >= 1 but got {chunk}")
    if not len(annotations):
        return
    known = (annotations.sizes > 0).all(1)
    sizes = np.where(known[:, None], annotations.sizes, 1)
    new, padded = preset.resized(sizes)
    ratio = new.astype(np.float32) / sizes.astype(np.float32)
    grid = Grid(preset, padded)
    used = ~annotations.crowd & known[annotations.image]
    starts = annotations.starts
    work = starts + np.arange(len(starts))
    ends = np.unique(np.append(np.searchsorted(work, np.arange(0, work[-1], chunk)), len(known)))
    for first, last in pairwise(ends):
        images = slice(first, last)
        rows = starts[first] + np.flatnonzero(used[starts[first] : starts[last]])
        image = annotations.image[rows]
        totals = grid.counts(images) * known[images, None]
        start = (totals.cumsum() - totals.ravel()).reshape(totals.shape)
        boxes = annotations.boxes[rows].clip(-_FARTHEST, _FARTHEST).astype(np.float32) * np.tile(ratio[image], 2)
        image_row = image - first
        objects = Objects(boxes, image_row, grid.across[image], grid.down[image], start[image_row])
        yield Part(grid, images, objects, rows, totals, *_label(grid, objects, preset))


def _label(grid: Grid, objects: Objects, preset: AnchorPreset) -> tuple[Cells, np.ndarray, np.ndarray, np.ndarray]:
    """Anchors and their objects, which of them are not negative, which are positive, and the objects' best IoU."""
    negative = np.float32(preset.negative)
    best = np.zeros(len(objects.boxes), np.float32)
    cells = claimable(grid, objects, np.full(len(best), negative))
    np.maximum.at(best, cells.box, cells.iou)
    weak = np.flatnonzero(best < negative)  # no anchor reaches the threshold: look for the best there is
    best[weak] = reach = nearest_iou(grid, objects[weak])
    weak, reach = weak[reach > 0], reach[reach > 0]
    few = claimable(grid, objects[weak], reach)
    few = replace(few, box=weak[few.box])
    np.maximum.at(best, few.box, few.iou)
    claimed = winners(cells) & (cells.iou >= negative)
    positive = claimed & (cells.iou >= np.float32(preset.positive))
    if preset.low_quality:
        ties = cells[cells.iou == best[cells.box]] + few[few.iou == best[few.box]]
        force = _force_first if preset.low_quality == "first" else _force_ties
        cells, positive = force(grid, objects, cells[claimed], positive[claimed], ties)
        claimed = np.ones(len(positive), bool)
    return cells, claimed, positive, best


def _force_ties(
    grid: Grid, objects: Objects, kept: Cells, positive: np.ndarray, ties: Cells
) -> tuple[Cells, np.ndarray]:
    """Matcher.set_low_quality_matches_: the best anchors of an object are positive for the object they overlap most."""
    group = same(np.concatenate((kept.anchor, ties.anchor)))
    own, other = group[: len(positive)], group[len(positive) :]
    forced, taken = np.zeros(len(group), bool), np.zeros(len(group), bool)
    forced[other], taken[own] = True, True
    positive = positive | forced[own]
    free = np.flatnonzero(~taken[other])
    free = free[other[free] == free + len(positive)]  # each anchor once
    rest = _with_all_objects(grid, objects, ties[free])
    rest = rest[winners(rest)]
    return kept + rest, np.append(positive, np.ones(len(rest.box), bool))


def _force_first(
    grid: Grid, objects: Objects, kept: Cells, positive: np.ndarray, ties: Cells
) -> tuple[Cells, np.ndarray]:
    """SSDMatcher: the first of the best anchors of an object is positive for it; the last object wins."""
    order = np.lexsort((ties.anchor, ties.box))
    ties = ties[order[np.diff(ties.box[order], prepend=-1) > 0]]
    group = same(np.concatenate((kept.anchor, ties.anchor)))
    own, other = group[: len(positive)], group[len(positive) :]
    owner = np.full(len(group), -1)
    np.maximum.at(owner, other, np.arange(len(other)))
    ties = ties[np.flatnonzero(owner[other] == np.arange(len(other)))]
    left = np.flatnonzero(owner[own] < 0)
    return kept[left] + ties, np.append(positive[left], np.ones(len(ties.box), bool))


def same(key: np.ndarray) -> np.ndarray:
    """(N,) for every row, one row that stands for all with the same key.

    By hashing, in linear time (sorting takes six times as long): each round, a slot is won by one of the keys that fall
    into it, and the rows of other keys go on to the next round.

    >>> same(np.array([7, 5, 7])).tolist()
    [2, 1, 2]
    """
    bits = max(len(key) * 2, 16).bit_length()
    slot = ((key.view(np.uint64) * np.uint64(11400714819323198485)) >> np.uint64(64 - bits)).view(np.int64)
    owner = np.empty(1 << bits, np.int32)
    owner[slot] = np.arange(len(key), dtype=np.int32)
    group = owner[slot]
    rest = np.flatnonzero(key[group] != key)
    slot = slot[rest]
    while len(rest):
        owner[slot] = rest
        winner = owner[slot]
        other = key[winner] != key[rest]
        group[rest] = winner
        rest, slot = rest[other], slot[other]
    return group


def winners(cells: Cells) -> np.ndarray:
    """Mask of the pair that each anchor keeps: the object of greatest IoU, the first of those that tie."""
    group = same(cells.anchor)
    several = np.zeros(len(group), bool)
    several[group[group != np.arange(len(group))]] = True
    rows = np.flatnonzero(several[group])
    box, iou, group = cells.box[rows], cells.iou[rows], group[rows]
    best = np.zeros(len(several), np.float32)
    np.maximum.at(best, group, iou)
    top = iou == best[group]
    lowest = np.full(len(several), np.iinfo(np.int64).max)
    np.minimum.at(lowest, group[top], box[top])
    kept = np.ones(len(several), bool)
    kept[rows] = top & (box == lowest[group])
    return kept


def _with_all_objects(grid: Grid, objects: Objects, cells: Cells) -> Cells:
    """Pairs of these anchors with every object of their image that they could overlap along x."""
    x1, x2 = objects.boxes[:, 0].astype(np.float64), objects.boxes[:, 2].astype(np.float64)
    low, high = float(grid.x.near.min()) - 1, float(grid.x.far.max()) + 1
    image = objects.image * (high - low + 2)  # so far apart that images do not mix
    order = np.argsort(image + x1.clip(low, high), kind="stable")
    begins = (image + x1.clip(low, high))[order]
    ended = np.maximum.accumulate((image + x2.clip(low, high))[order])
    here = image[cells.box]
    first = np.searchsorted(ended, here + grid.x.near[cells.column] - 0.5)
    last = np.searchsorted(begins, here + grid.x.far[cells.column] + 0.5)
    count = np.maximum(last - first, 0)
    run, place = expand(first, count)
    box, pairs = order[place], cells[run]
    iou = pair_iou(grid, objects.boxes[box], pairs.column, pairs.row)
    return Cells(box, pairs.shape, pairs.column, pairs.row, pairs.anchor, iou)
