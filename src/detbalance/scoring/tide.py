"""TIDE: how much AP50 each kind of error costs, found by repairing the errors of one kind and looking again.

Bolya, Foley, Hays, Hoffman, "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV 2020,
arXiv:2008.08115, sections 2.2 and 2.3. Conventions of the authors' tool where the paper leaves them open.
"""

from __future__ import annotations

import numpy as np

from ..data.annotations import Annotations
from ..detections import Predictions
from .matching import ClassMatches, equal_pairs, paired_iou

__all__ = ["ERRORS", "repaired"]

ERRORS: dict[str, str] = {
    "Cls": "right place, wrong class",
    "Loc": "right class, badly placed",
    "Both": "wrong class and badly placed",
    "Dupe": "an object that a better detection has found already",
    "Bkg": "background taken for an object",
    "Miss": "object without any detection that could be repaired",
    "FP": "all false positives together",
    "FN": "all objects not found together",
}
_FOREGROUND, _BACKGROUND = 0.5, 0.1
"""t_f and t_b, the IoU of a hit and the IoU below which a detection shows background"""


def repaired(
    annotations: Annotations, predictions: Predictions, matches: tuple[ClassMatches, ...]
) -> dict[str, tuple[ClassMatches, ...]]:
    """The matches (at IoU .5) as they would be without each kind of error; AP50 of these less AP50 is what it costs.

    A detection of the wrong class or place becomes a hit of the object that it is about, unless that object is found
    already or a detection with a higher score is about it too; then, like all other false positives, it goes. An object
    that is missed is taken out of those to be found.
    """
    label = np.repeat(np.arange(1, len(matches) + 1), [len(m.score) for m in matches])
    row, truth = (_joined(matches, name, np.int64) for name in ("row", "truth"))
    hit, ignored = (_joined(matches, name, bool) for name in ("hit", "ignored"))
    used = np.zeros(len(annotations.boxes), bool)
    used[truth[hit]] = True
    plain = ~(annotations.crowd | annotations.difficult)
    wrong = np.flatnonzero(~hit & ~ignored)
    kind, target = _kinds(annotations, predictions, row[wrong], label[wrong], used, plain)
    wins = _first_of_each(target, predictions.score[row[wrong]], row[wrong])
    wins[wins] = ~used[target[wins]]

    objects = np.stack([m.objects for m in matches])
    result = {}
    for error in ("Cls", "Loc", "Both", "Dupe", "Bkg", "FP"):
        fix = (kind == error) | (error == "FP")
        raised = fix & wins & (error in ("Cls", "Loc"))
        keep, label_now, hit_now = ~ignored, label.copy(), hit.copy()
        keep[wrong[fix]] = False
        keep[wrong[raised]] = hit_now[wrong[raised]] = True
        label_now[wrong[raised]] = annotations.label[target[raised]]
        result[error] = _table(predictions, row[keep], label_now[keep], hit_now[keep], objects)
    about = np.zeros(len(used), bool)
    about[target[target >= 0]] = True
    for error, lost in (("Miss", plain & ~used & ~about), ("FN", plain & ~used)):
        fewer = objects.copy()
        np.subtract.at(fewer, (annotations.label[lost] - 1, annotations.image[lost]), 1)
        result[error] = _table(predictions, row[~ignored], label[~ignored], hit[~ignored], fewer)
    return {error: result[error] for error in ERRORS}


def _joined(matches: tuple[ClassMatches, ...], name: str, dtype: type) -> np.ndarray:
    """One column of all classes, at the lowest IoU threshold where there are several."""
    columns = [np.atleast_2d(getattr(m, name))[0] for m in matches]
    return np.concatenate([np.empty(0, dtype), *columns])


def _kinds(
    annotations: Annotations,
    predictions: Predictions,
    row: np.ndarray,
    label: np.ndarray,
    used: np.ndarray,
    plain: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Kind of each false positive (section 2.2, in the tool's order), and the object it is about (-1: none)."""
    plain = np.flatnonzero(plain)
    i, at = equal_pairs(predictions.image[row], annotations.image[plain])
    j = plain[at]
    iou = paired_iou(predictions.boxes[row[i]], annotations.boxes[j])
    same = label[i] == annotations.label[j]
    own, own_at = _best(i, j, np.where(same, iou, 0.0), len(row))
    other, other_at = _best(i, j, np.where(same, 0.0, iou), len(row))
    taken, _ = _best(i, j, np.where(same & used[j], iou, 0.0), len(row))
    cases = [
        (own >= _BACKGROUND) & (own <= _FOREGROUND),
        other >= _FOREGROUND,
        taken >= _FOREGROUND,
        np.maximum(own, other) <= _BACKGROUND,
    ]
    kind = np.select(cases, ["Loc", "Cls", "Dupe", "Bkg"], "Both")
    return kind, np.select(cases[:2], [own_at, other_at], -1)


def _best(i: np.ndarray, j: np.ndarray, value: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Largest value of each i, and the first j that has it."""
    best, at = np.zeros(count), np.full(count, -1)
    np.maximum.at(best, i, value)
    top = np.flatnonzero(value == best[i])[::-1]
    at[i[top]] = j[top]
    return best, at


def _first_of_each(target: np.ndarray, score: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Is this the best scoring detection about its object? Equal scores: the earlier row."""
    first = np.zeros(len(target), bool)
    order = np.lexsort((row, -score))
    _, index = np.unique(target[order], return_index=True)
    first[order[index]] = True
    return first & (target >= 0)


def _table(
    predictions: Predictions, row: np.ndarray, label: np.ndarray, hit: np.ndarray, objects: np.ndarray
) -> tuple[ClassMatches, ...]:
    tables = []
    for k in range(len(objects)):
        chosen = np.flatnonzero(label == k + 1)
        chosen = chosen[np.argsort(-predictions.score[row[chosen]], kind="stable")]
        rows, count = row[chosen], len(chosen)
        tables.append(
            ClassMatches(
                image=predictions.image[rows],
                score=predictions.score[rows],
                hit=hit[None, chosen],
                ignored=np.zeros((1, count), bool),
                iou=np.zeros(count),
                objects=objects[k],
                row=rows,
                truth=np.full(count, -1),
            )
        )
    return tuple(tables)
