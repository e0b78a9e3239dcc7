"""How good detections are: AP by class, size and frequency (hotcoco), TIDE's errors, and optimal LRP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hotcoco import COCOeval

from .data.annotations import Annotations
from .detections import Predictions, load_predictions
from .scoring.coco import run_hotcoco
from .scoring.curves import false_positives, score_by_iou
from .scoring.lrp import optimal_lrp
from .scoring.matching import IOU_THRESHOLDS, ClassMatches, matches_of
from .scoring.resampling import resampled_tide
from .scoring.result import GROUPS, METRICS, Evaluation
from .scoring.tide import repaired

__all__ = ["GROUPS", "METRICS", "Evaluation", "evaluate", "false_positives", "frequency_groups", "score_by_iou"]

_SIZES = ("all", "small", "medium", "large")


def evaluate(
    annotations: Annotations,
    predictions: Sequence[dict] | str | Path | Predictions,
    *,
    training: Annotations | None = None,
    edges: tuple[int, int] = (10, 100),
    score_threshold: float | None = None,
) -> Evaluation:
    """Compare detections with the annotations of the images they were made on.

    `predictions` are COCO results whose ids are rows + 1 (see `load_predictions`). `training` says how often the
    detector has seen each class; without it the evaluated annotations count. `edges` are the largest numbers of
    images of a rare and of a common class. Detections below `score_threshold` are left out first; AP wants them all.
    """
    found = load_predictions(predictions, annotations)
    if score_threshold is not None:
        found = found.above(score_threshold)
    training = annotations if training is None else training
    if training.classes != annotations.classes:
        raise ValueError(f"expected training to have the classes {annotations.classes} but got {training.classes}")
    coco = run_hotcoco(annotations, found)
    table = matches_of(annotations, found)["all"]
    groups = frequency_groups(training, edges=edges)
    lrp = [optimal_lrp(matches) for matches in table]
    objects = [int(matches.objects.sum()) for matches in table]
    by_class = _by_class(coco, annotations.classes, training, groups, objects, lrp)
    by_frequency = {
        group: {"AP": _mean([c["AP"] for c, g in zip(by_class, groups) if g == group]), "classes": groups.count(group)}
        for group in GROUPS
    }
    return Evaluation(
        images=len(annotations),
        objects=sum(objects),
        detections=len(found),
        **_summary(coco),
        **{f"ap_{group}": by_frequency[group]["AP"] for group in GROUPS},
        **{
            field: _mean([c[key] for c in by_class])
            for field, key in zip(("olrp", "olrp_loc", "olrp_fp", "olrp_fn"), ("oLRP", "Loc", "FP", "FN"))
        },
        by_class=dict(zip(annotations.classes, by_class)),
        by_frequency=by_frequency,
        tide=_tide(annotations, found, table),
    )


def frequency_groups(training: Annotations, *, edges: tuple[int, int] = (10, 100)) -> tuple[str, ...]:
    """ "rare", "common" or "frequent" for each class, by the number of images that hold it.

    With the default edges these are LVIS's groups (Gupta et al. 2019): 1-10, 11-100 and more than 100 training
    images. Where the annotations carry LVIS's own groups and the edges are the default, those are taken.
    """
    low, high = edges
    if not 0 <= low <= high:
        raise ValueError(f"expected edges (rare, common) with 0 <= rare <= common but got {edges}")
    if training.frequency is not None and edges == (10, 100):
        return tuple({"r": "rare", "c": "common", "f": "frequent"}[letter] for letter in training.frequency)
    return tuple(GROUPS[int(n > low) + int(n > high)] for n in _images_of(training))


def _images_of(annotations: Annotations) -> np.ndarray:
    """(K,) number of images that hold the class, crowds left out."""
    held = np.unique(np.column_stack((annotations.image, annotations.label))[~annotations.crowd], axis=0)
    return np.bincount(held[:, 1] - 1, minlength=len(annotations.classes))


def _mean(values: Sequence[float | None]) -> float | None:
    """Mean of the values that exist; None if none does."""
    kept = [value for value in values if value is not None]
    return float(np.mean(kept)) if kept else None


def _average(cells: np.ndarray) -> float | None:
    """Mean of hotcoco's cells, which say -1 where a class has no object; None if all do."""
    kept = cells[cells > -1]
    return float(kept.mean()) if kept.size else None


def _summary(coco: COCOeval) -> dict[str, float | None]:
    """AP and AR over all classes. Precision is (T, R, K, A, M), recall (T, K, A, M); the last M is all detections."""
    precision, recall = coco.eval["precision"], coco.eval["recall"]
    result = {"ap": _average(precision[..., 0, -1])}
    for name, threshold in (("ap50", 0.5), ("ap75", 0.75), ("ap90", 0.9)):
        result[name] = _average(precision[_at(threshold), ..., 0, -1])
    for a, size in enumerate(_SIZES):
        suffix = "" if size == "all" else f"_{size}"
        result["ap" + suffix], result["ar" + suffix] = _average(precision[..., a, -1]), _average(recall[..., a, -1])
    for m, name in enumerate(("ar1", "ar10")):
        result[name] = _average(recall[:, :, 0, m]) if recall.shape[-1] == 3 else None
    return result


def _at(threshold: float) -> int:
    return int(np.argmin(abs(IOU_THRESHOLDS - threshold)))


def _by_class(
    coco: COCOeval,
    classes: tuple[str, ...],
    training: Annotations,
    groups: tuple[str, ...],
    objects: list[int],
    lrp: list[dict[str, float | None]],
) -> list[dict[str, Any]]:
    precision = coco.eval["precision"][..., 0, -1]
    boxes, images = training.counts.tolist(), _images_of(training).tolist()
    return [
        {
            "AP": _average(precision[:, :, k]),
            "AP50": _average(precision[_at(0.5), :, k]),
            "AP75": _average(precision[_at(0.75), :, k]),
            **lrp[k],
            "train_boxes": boxes[k],
            "train_images": images[k],
            "test_boxes": objects[k],
            "group": groups[k],
        }
        for k in range(len(classes))
    ]


def _tide(annotations: Annotations, found: Predictions, matches: tuple[ClassMatches, ...]) -> dict[str, float | None]:
    once = np.ones((1, len(annotations)), np.int64)
    lost = resampled_tide(matches, repaired(annotations, found, matches), once)
    return {error: None if np.isnan(value[0]) else float(value[0]) for error, value in lost.items()}
