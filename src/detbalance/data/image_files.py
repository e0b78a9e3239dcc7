"""What the image files themselves say: are they there, and how large are they? Only headers are read. No torch."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import numpy as np

from .annotations import Annotations, Problem
from .draft import Draft
from .errors import DataError
from .files import image_size, stays_inside
from .rules import RULES, Log

__all__ = ["check_images", "fill_sizes", "require_images"]

VIRTUAL_SIZE = (640, 640)
"""size assumed for an absent image whose boxes are relative, so that they can at least be counted"""
_KINDS = ("image file absent", "unreadable image file", "image of another size")


def fill_sizes(draft: Draft, log: Log) -> None:
    """Take sizes that the source does not state from the images, and scale relative boxes to pixels."""
    sizes = np.array(draft.sizes, np.float64).reshape(-1, 2)
    unknown = (sizes == 0).all(1)
    for row in np.flatnonzero(unknown) if draft.root is not None or draft.relative else ():
        name = draft.file_names[row]
        path = os.path.join(draft.root, name) if draft.root is not None and stays_inside(name) else None
        size = None if path is None else image_size(path)
        where = f"{draft.file[row]}: image {name!r}"
        if size is not None:
            sizes[row] = size
            if not unknown.all():
                log.add("size taken from the image", f"{where}: {size[0]} x {size[1]}")
        elif draft.relative:
            sizes[row] = VIRTUAL_SIZE
            log.add("unreadable image file" if path and os.path.isfile(path) else "image file absent", where)
            log.add("virtual image size", where)
    draft.sizes = sizes
    if draft.relative:
        with np.errstate(invalid="ignore", over="ignore"):
            draft.boxes = draft.boxes * np.tile(sizes[draft.image], 2)
        draft.relative = False


def require_images(annotations: Annotations) -> None:
    """Raise DataError that names the first image whose file is not there."""
    if annotations.root is None:
        raise DataError(f"{annotations.source}: no folder with the images is found; state it with images=")
    for row in range(len(annotations)):
        if not annotations.path(row).is_file():
            raise DataError(
                f"{annotations.source}: image {str(annotations.file_names[row])!r}: no such file in {annotations.root}"
            )


def check_images(annotations: Annotations, *, seconds: float | None = None) -> Annotations:
    """The same annotations, with a Problem for image files that are absent, unreadable or of another size than stated.

    seconds: time to spend; when it ends before all images are seen, a random sample has been, and the rule says so.
    """
    order = np.random.default_rng(0).permutation(len(annotations))
    end = None if seconds is None else time.monotonic() + seconds
    log, seen = Log(), 0
    for row in order.tolist():
        if end is not None and time.monotonic() > end:
            break
        _check(annotations, row, log)
        seen += 1
    partly = f" (of {len(annotations)} images {seen} were looked at)" if seen < len(annotations) else ""
    new = tuple(replace(problem, rule=problem.rule + partly) for problem in log.problems())
    old = tuple(problem for problem in annotations.problems if problem.kind not in {n.kind for n in new})
    return replace(annotations, problems=_ordered(old + new))


def _check(annotations: Annotations, row: int, log: Log) -> None:
    name, stated = str(annotations.file_names[row]), tuple(annotations.sizes[row].tolist())
    where = f"{annotations.source}: image {name!r}"
    try:
        path = None if annotations.root is None else annotations.path(row)
    except DataError:
        return  # an unusable file name is told by `read`
    if path is None or not path.is_file():
        log.add("image file absent", where)
    elif (size := image_size(path)) is None:
        log.add("unreadable image file", where)
    elif size != stated and any(stated):
        turned = ", turned by a quarter" if size == stated[::-1] else ""
        log.add(
            "image of another size", f"{where}: stated {stated[0]} x {stated[1]}, has {size[0]} x {size[1]}{turned}"
        )


def _ordered(problems: tuple[Problem, ...]) -> tuple[Problem, ...]:
    kinds = list(RULES)
    return tuple(
        sorted(problems, key=lambda problem: kinds.index(problem.kind) if problem.kind in kinds else len(kinds))
    )
