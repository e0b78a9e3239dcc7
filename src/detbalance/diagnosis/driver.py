"""`diagnose`: every measure of a dataset, in the order of the taxonomy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..data.annotations import Annotations
from ..taxonomy import Imbalance
from . import (
    anchor_fit,
    batches,
    candidates,
    classes,
    company,
    crowding,
    detected,
    groups,
    ious,
    levels,
    objective,
    overlaps,
    regression,
    resizing,
    scale,
    shift,
    spatial,
)
from .anchors import AnchorPreset
from .bootstrap import Resampler
from .columns import Columns
from .finding import Finding
from .labelled import label_anchors
from .log import read_log
from .options import anchor_preset, checked_targets
from .probed import conflict as objective_conflict
from .probed import driven
from .result import Diagnosis
from .severity import judge, merged

__all__ = ["diagnose", "training_findings"]

_FILE_SECONDS = 1.0  # spent on image files, so that a large dataset is not kept waiting by them


def diagnose(
    data: Annotations | str | Path,
    *,
    against: Annotations | str | Path | None = None,
    predictions: str | Path | Sequence[dict] | None = None,
    ids: Literal["rows", "source"] = "rows",
    log: Mapping[str, np.ndarray] | str | Path | None = None,
    anchors: AnchorPreset | str | None = None,
    targets: Mapping[str, Any] | None = None,
    thresholds: Mapping[str, tuple[float, float, float]] | None = None,
    bootstrap: int = 200,
    seed: int = 0,
    check_files: bool = True,
) -> Diagnosis:
    """Measure every imbalance of a dataset, say how bad it is and what to try. Torch is never imported.

    data: annotations, or a file or folder that `detbalance.read` knows.
    against: another dataset (a validation split, say): measured too, and the shift between the two with it.
    predictions: detections on `data`, COCO results; `ids` says whose ids they hold, as for `detbalance evaluate`.
    log: of a training: history.json or probes.npz of a run of `detbalance train`, or what diagnosis/log.py describes.
    anchors: a preset, or its name ("retinanet", the default, "faster_rcnn", "ssd300", "yolov2", "yolov3").
    targets: desired distributions by the key of a finding, in place of the balanced ones (see docs/diagnosis.md).
    thresholds: (mild, strong, extreme) by the key of a finding, in place of the standard ones.
    bootstrap: repeats behind the 95 % intervals; 0 for none. seed: of the resampling.
    check_files: look at the image files, for about a second.

    Raises DataError for data that cannot be read, ValueError for options that make no sense.

    >>> data = Annotations.from_arrays(classes=["cat", "dog"], sizes=[(640, 480)], image=[0, 0, 0], label=[1, 1, 2],
    ...                                boxes=[[0, 0, 80, 80], [100, 100, 300, 300], [400, 50, 600, 450]])
    >>> diagnose(data, bootstrap=0)["classes"].summary.split(";")[0]
    'cat owns 67 % of the 3 boxes'
    """
    limits, preset = merged(thresholds), anchor_preset(anchors)
    data = _read(data, check_files)
    wanted = checked_targets(targets, data.classes)
    columns, sampler = Columns(data), Resampler(len(data), bootstrap, seed)
    found = _measured(columns, sampler, preset, wanted)
    found += _with_model(columns, sampler, predictions, ids, log, wanted)
    other = None
    if against is not None:
        options = {"anchors": preset, "thresholds": thresholds, "bootstrap": bootstrap, "seed": seed}
        same = tuple(data.classes)
        other = _read(against, check_files)
        kept = wanted if tuple(other.classes) == same else {k: v for k, v in wanted.items() if k != "classes"}
        other = diagnose(other, targets=kept, check_files=False, **options)
        found += shift.shifts(columns, Columns(other.data), sampler)
    found = [replace(f, severity=judge(f.key, f.value, limits)) if f.severity is None else f for f in found]
    rank = {problem: i for i, problem in enumerate(Imbalance)}
    found.sort(key=lambda f: (rank[f.imbalance], not f.headline))
    return Diagnosis(
        data=data,
        findings=tuple(found),
        dataset=_facts(data),
        settings={
            "anchors": preset.name,
            "kind": "dense" if preset.roi_levels is None else "rcnn",
            "training_size": preset.fixed_size or (preset.min_size, preset.max_size),
            "bootstrap": bootstrap,
            "seed": seed,
            "targets": sorted(wanted),
            "thresholds": limits,
        },
        against=other,
    )


def _read(data: Annotations | str | Path, check_files: bool) -> Annotations:
    if not isinstance(data, Annotations):
        from ..data.readers import read

        data = read(data)
    if not check_files or data.root is None:
        return data
    from ..data.image_files import check_images

    return check_images(data, seconds=_FILE_SECONDS)


def _measured(columns: Columns, sampler: Resampler, preset: AnchorPreset, wanted: dict[str, Any]) -> list[Finding]:
    """What annotations alone tell, the headline of each imbalance first."""
    labelled = label_anchors(columns, preset, sampler)
    target = wanted.get
    return [
        candidates.foreground(labelled, sampler, desired=target("foreground", 1.0)),
        classes.class_counts(columns, sampler, target=target("classes")),
        classes.class_images(columns, sampler, target=target("classes")),
        groups.class_groups(columns, sampler),
        candidates.class_positives(labelled, sampler, target=target("classes")),
        batches.batch_classes(columns, sampler),
        crowding.objects_per_image(columns, sampler),
        company.cooccurrence(columns, sampler),
        scale.relative_size(columns, sampler, target=target("object_size")),
        scale.extents(columns, sampler),
        scale.size_bins(columns, sampler, target=target("size_bins")),
        resizing.resize_loss(columns, sampler, preset),
        candidates.level_positives(labelled, sampler, target=target("level_positives")),
        levels.roi_levels(columns, sampler, preset, target=target("roi_levels")),
        ious.positive_ious(labelled, sampler, target=target("positive_ious")),
        ious.near_threshold(labelled, sampler),
        spatial.centres(columns, sampler, target=target("centres")),
        anchor_fit.missed_objects(labelled, sampler),
        spatial.aspect(columns, sampler, target=target("aspect")),
        overlaps.overlaps(columns, sampler),
        anchor_fit.candidate_overlaps(labelled, sampler),
        anchor_fit.relative_position(labelled, sampler),
    ]


def _with_model(
    columns: Columns, sampler: Resampler, predictions, ids: str, log, wanted: dict[str, Any]
) -> list[Finding]:
    """What detections and a training log tell; where one is missing, what is needed."""
    logged = {} if log is None else read_log(log)
    found = _logged(logged, columns.classes, sampler, wanted)
    keys = {finding.key for finding in found}
    outliers = None
    if "tasks" not in keys:
        found.append(objective.tasks_needed())
    if predictions is not None:
        detections = detected.in_order(predictions, columns.data, ids)
        iou, row = detected.nearest_objects(columns, detections)
        found.append(detected.detection_ious(columns, sampler, detections, iou))
        outliers = regression.outlier_share(columns, sampler, detections, iou, row)
    if "outliers" not in keys:
        found.append(outliers or regression.outliers_needed())
    return found


def _logged(
    logged: Mapping[str, np.ndarray], classes: tuple[str, ...], sampler: Resampler, wanted: Mapping[str, Any]
) -> list[Finding]:
    """What a training log tells."""
    found = [objective.task_balance(logged, target=wanted.get("tasks")), objective.task_pace(logged)]
    found += [objective_conflict(logged), *driven(logged, classes)]
    if "iou_before" in logged:
        found.append(detected.ious_before_after(logged["iou_before"], logged["iou_after"]))
    found.append(regression.outliers_of_log(logged, sampler))
    return [finding for finding in found if finding is not None]


def training_findings(
    log: Mapping[str, np.ndarray] | str | Path,
    classes: Sequence[str] = (),
    *,
    thresholds: Mapping[str, tuple[float, float, float]] | None = None,
) -> tuple[Finding, ...]:
    """What drove one training, from its log alone: what `diagnose(log=...)` adds to what annotations tell.

    log, thresholds: as in `diagnose`. classes: their names; probes know them themselves.

    >>> log = {"loss_class": np.array([0.9, 0.6]), "loss_box": np.array([0.1, 0.1])}
    >>> [finding.key for finding in training_findings(log)]
    ['tasks']
    """
    limits = merged(thresholds)
    found = _logged(read_log(log), tuple(classes), Resampler(1, 0), {})
    rank = {problem: i for i, problem in enumerate(Imbalance)}
    found = [replace(f, severity=judge(f.key, f.value, limits)) if f.severity is None else f for f in found]
    return tuple(sorted(found, key=lambda f: rank[f.imbalance]))


def _facts(data: Annotations) -> dict[str, Any]:
    known = data.sizes[(data.sizes > 0).all(1)]
    per_image = np.bincount(data.image[~data.crowd], minlength=len(data))
    return {
        "source": data.source,
        "form": data.form,
        "fingerprint": data.fingerprint(),
        "images": len(data),
        "boxes": int((~data.crowd).sum()),
        "classes": len(data.classes),
        "class_names": data.classes,
        "crowd_regions": int(data.crowd.sum()),
        "difficult": int(data.difficult.sum()),
        "images_without_boxes": int((per_image == 0).sum()),
        "images_of_unknown_size": len(data) - len(known),
        "boxes_per_image": float(per_image.mean()) if len(data) else 0.0,
        "median_image_size": np.median(known, 0).tolist() if len(known) else None,
        "splits": {name: int((data.split == name).sum()) for name in ("train", "val", "test") if name in data.split},
    }
