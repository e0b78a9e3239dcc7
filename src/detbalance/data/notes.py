"""What is kept as it is but worth knowing: duplicates, empty images, stray labels, shared files. Numpy only."""

from __future__ import annotations

import numpy as np

from .annotations import Annotations
from .draft import Draft
from .rules import Log

__all__ = ["note"]


def note(result: Annotations, draft: Draft, rows: np.ndarray, log: Log) -> None:
    """Note what is kept as it is but worth knowing."""
    for kind, column in (("crowd region", draft.crowd), ("difficult object", draft.difficult)):
        if column is not None:
            log.rows(kind, rows[np.asarray(column, bool)[rows]], draft.where)
    table = np.column_stack((result.image, result.label, result.boxes, result.crowd))
    log.rows("duplicate box", _repeated(table), lambda i: _kept_where(result, i))
    seen = np.zeros(len(result), bool)
    seen[result.image] = True
    log.rows("image without boxes", ~seen, lambda i: f"{draft.file[i]}: image {draft.file_names[i]!r}")
    total = np.bincount(result.label - 1, minlength=len(result.classes))
    log.rows("category without boxes", total == 0, lambda k: f"{result.source}: category {result.classes[k]!r}")
    used = np.sort(total[total > 0])
    few = used <= 3
    if few.any() and not few.all() and used[~few][0] >= 10 * used[few][-1]:
        stray = (total > 0) & (total <= 3)
        log.rows("stray label", stray, lambda k: f"{result.source}: category {result.classes[k]!r}: {total[k]} boxes")
    if (result.split != "").any():
        log.rows("image in no split", result.split == "", lambda i: f"{result.source}: image {draft.file_names[i]!r}")
    _shared_files(result, log)


def _shared_files(result: Annotations, log: Log) -> None:
    """Note image files that are listed several times, in one split or in two."""
    names, first = np.unique(result.file_names, return_index=True)
    if len(names) == len(result):
        return
    original = first[np.searchsorted(names, result.file_names)]
    again = original != np.arange(len(result))
    leaked = again & (result.split != result.split[original])

    def describe(i):
        places = " and ".join(repr(str(result.split[j])) for j in (original[i], i))
        return f"{result.source}: image {str(result.file_names[i])!r}: listed in split {places}"

    log.rows("image listed twice", again & ~leaked, describe)
    log.rows("image in two splits", leaked, describe)


def _kept_where(result: Annotations, row: int) -> str:
    name = str(result.file_names[result.image[row]])
    return f"{result.source}: image {name!r}: {result.classes[result.label[row] - 1]} at {result.boxes[row].tolist()}"


def _repeated(table: np.ndarray) -> np.ndarray:
    """(B,) mask of rows that equal an earlier row."""
    order = np.lexsort(table.T[::-1])
    ordered = table[order]
    again = np.zeros(len(table), bool)
    if len(table):
        again[order[1:]] = (ordered[1:] == ordered[:-1]).all(1)
    return again
