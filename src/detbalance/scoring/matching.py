"""Which detection found which object: COCO's matching, run by hotcoco, kept as one numpy table per class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from hotcoco import COCOeval

from ..data.annotations import Annotations
from ..detections import Predictions
from .coco import as_coco, image_order

__all__ = ["AREAS", "IOU_THRESHOLDS", "ClassMatches", "equal_pairs", "matches_of", "paired_iou"]

AREAS: dict[str, tuple[float, float]] = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
"""COCO's groups of object sizes, in square pixels."""

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)


@dataclass(frozen=True, eq=False)
class ClassMatches:
    """The detections of one class, best score first, each as a hit or a miss at each of T IoU thresholds."""

    image: np.ndarray
    """(D,) int64, row of the image"""
    score: np.ndarray
    """(D,) float64, descending"""
    hit: np.ndarray
    """(T, D) bool, found an object that no better detection had found"""
    ignored: np.ndarray
    """(T, D) bool, neither hit nor miss: on a crowd or difficult object, or of another size"""
    iou: np.ndarray
    """(D,) float64, with the object found at the lowest threshold; 0 where none"""
    objects: np.ndarray
    """(I,) int64, objects to be found in each image"""
    row: np.ndarray
    """(D,) int64, row of the detection in `Predictions`"""
    truth: np.ndarray
    """(D,) int64, row of the object found at the lowest threshold in `Annotations`; -1 where none"""

    def at(self, threshold: int) -> ClassMatches:
        """The same with one IoU threshold alone."""
        one = slice(threshold, threshold + 1)
        return replace(self, hit=self.hit[one], ignored=self.ignored[one])


def matches_of(
    annotations: Annotations, predictions: Predictions, *, areas: Sequence[str] = ("all",)
) -> dict[str, tuple[ClassMatches, ...]]:
    """The matches of every class, for objects of each range of sizes."""
    truth, found = as_coco(annotations, predictions)
    labels = range(1, len(annotations.classes) + 1)
    result = {}
    for area in areas:  # one at a time: hotcoco hands the matches out as Python lists, which are large
        coco = COCOeval(truth, found, "bbox", lvis_style=annotations.form == "lvis")
        coco.params.area_rng, coco.params.area_rng_lbl = [list(AREAS[area])], [area]
        coco.evaluate()
        cells: dict[int, list[dict]] = {}
        for cell in coco.eval_imgs:
            if cell is not None:
                cells.setdefault(cell["category_id"], []).append(cell)
        result[area] = tuple(_class_matches(cells.pop(k, []), annotations, predictions) for k in labels)
    return result


def _class_matches(cells: list[dict], annotations: Annotations, predictions: Predictions) -> ClassMatches:
    """Join the images' matches of one class and area range; ties in score stay in the order of the images."""
    cells = sorted(cells, key=lambda cell: cell["image_id"])
    length = [len(cell["dtScores"]) for cell in cells]
    rows = image_order(annotations)[np.array([cell["image_id"] - 1 for cell in cells], np.int64)]
    score = np.fromiter(chain.from_iterable(cell["dtScores"] for cell in cells), np.float64)
    order = np.argsort(-score, kind="stable")

    def column(name: str, dtype: type) -> np.ndarray:
        parts = [np.array(cell[name], dtype).reshape(len(IOU_THRESHOLDS), -1) for cell in cells]
        return np.concatenate([np.empty((len(IOU_THRESHOLDS), 0), dtype), *parts], axis=1)[:, order]

    found = column("dtMatched", bool)
    ignored = column("dtIgnore", bool)
    hit = found & ~ignored
    row = np.fromiter(chain.from_iterable(cell["dtIds"] for cell in cells), np.int64)[order] - 1
    truth = np.where(hit[0], column("dtMatches", np.int64)[0] - 1, -1)
    iou = np.zeros(len(order))
    iou[hit[0]] = paired_iou(predictions.boxes[row[hit[0]]], annotations.boxes[truth[hit[0]]])
    objects = np.zeros(len(annotations), np.int64)
    objects[rows] = [sum(cell["gtInDenominator"]) for cell in cells]
    return ClassMatches(np.repeat(rows, length)[order], score[order], hit, ignored, iou, objects, row, truth)


def paired_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """IoU of row i of the one with row i of the other, in the corners' float64; 0 where both are empty."""
    side = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])
    intersection = side.clip(min=0).prod(1)
    union = (first[:, 2:] - first[:, :2]).prod(1) + (second[:, 2:] - second[:, :2]).prod(1) - intersection
    return np.divide(intersection, union, out=np.zeros(len(union)), where=union > 0)


def equal_pairs(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All (i, j) with first[i] == second[j], by i and then by j.

    >>> equal_pairs(np.array([7, 8, 9]), np.array([9, 7, 7]))
    (array([0, 0, 2]), array([1, 2, 0]))
    """
    order = np.argsort(second, kind="stable")
    start = np.searchsorted(second[order], first, side="left")
    count = np.searchsorted(second[order], first, side="right") - start
    i = np.repeat(np.arange(len(first)), count)
    # Number the partners of each i from its own start: number all pairs, then take off where each i begins.
    within = np.arange(len(i)) - np.repeat(np.cumsum(count) - count, count)
    return i, order[start[i] + within]
