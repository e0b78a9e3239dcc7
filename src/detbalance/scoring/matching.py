"""Which detection found which object: COCO's matching, run by hotcoco, kept as one numpy table per class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from hotcoco import COCO, COCOeval

from ..data.annotations import Annotations
from ..detections import Predictions

__all__ = ["AREAS", "IOU_THRESHOLDS", "ClassMatches", "equal_pairs", "matches_of", "paired_iou", "run_hotcoco"]

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
    coco: COCOeval, annotations: Annotations, predictions: Predictions, *, areas: Sequence[str] = ("all",)
) -> dict[str, tuple[ClassMatches, ...]]:
    """The matches of every class, for objects of each range of sizes, out of what `run_hotcoco` has found."""
    cells: dict[tuple, list[dict]] = {}
    for cell in coco.eval_imgs:  # built anew at every access
        if cell is not None:
            cells.setdefault((*cell["aRng"], cell["category_id"]), []).append(cell)
    labels = range(1, len(annotations.classes) + 1)
    return {
        area: tuple(_class_matches(cells.get((*AREAS[area], k), []), annotations, predictions) for k in labels)
        for area in areas
    }


def _class_matches(cells: list[dict], annotations: Annotations, predictions: Predictions) -> ClassMatches:
    """Join the images' matches of one class and area range; ties in score stay in the order of the images."""
    cells = sorted(cells, key=lambda cell: cell["image_id"])
    length = [len(cell["dtScores"]) for cell in cells]
    rows = _in_order(annotations)[np.array([cell["image_id"] - 1 for cell in cells], np.int64)]
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


def _in_order(annotations: Annotations) -> np.ndarray:
    """(I,) rows of the images by ascending id of the source.

    Detections of equal score are ranked by the id of their image, as pycocotools does it: another order, another AP.
    """
    return np.argsort(annotations.image_ids, kind="stable")


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


def run_hotcoco(annotations: Annotations, predictions: Predictions) -> COCOeval:
    """Evaluate and accumulate with hotcoco, whose image ids are 1.. in the order of the source's ids.

    Difficult boxes (Pascal VOC) count as crowds: neither to be found nor wrong to be found. LVIS annotations are
    evaluated by LVIS's federated rules, with up to 300 detections an image; all others by COCO's, with 100 a class.
    """
    lvis = annotations.form == "lvis"
    low, high = annotations.boxes[:, :2], annotations.boxes[:, 2:]
    # (x + w) - x is not w: the last bit decides matches at an IoU of exactly .5. Rounding gives the file's number back.
    size = np.round(high - low, 9)
    number = np.argsort(_in_order(annotations)) + 1
    truth = COCO.from_arrays(
        _images(annotations, number, lvis),
        [{"id": k + 1, "name": name} for k, name in enumerate(annotations.classes)],
        number[annotations.image],
        annotations.label,
        np.concatenate((low, size), axis=1),
        ids=np.arange(1, len(annotations.boxes) + 1),
        area=annotations.area,
        iscrowd=(annotations.crowd | annotations.difficult).astype(np.int64),
    )
    columns = (number[predictions.image], *predictions.bbox.T, predictions.score, predictions.label)
    found = truth.load_res(np.column_stack(columns).astype(np.float64).reshape(-1, 7))
    coco = COCOeval(truth, found, "bbox", lvis_style=lvis)
    coco.evaluate()
    coco.accumulate()
    return coco


def _images(annotations: Annotations, number: np.ndarray, lvis: bool) -> list[dict]:
    images = [
        {"id": i, "file_name": str(name), "width": w, "height": h}
        for i, name, (w, h) in zip(number.tolist(), annotations.file_names, annotations.sizes.tolist())
    ]
    if lvis:
        nothing = ((),) * len(images)
        negatives, partial = annotations.negatives or nothing, annotations.not_exhaustive or nothing
        for image, absent, some in zip(images, negatives, partial):
            image.update(neg_category_ids=list(absent), not_exhaustive_category_ids=list(some))
    return images
