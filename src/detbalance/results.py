"""The figures of a comparison: every metric of every recipe, and its paired difference to the baseline."""

from __future__ import annotations

import base64
import io
import json
import statistics as averages
import time
from pathlib import Path
from typing import Any

import numpy as np

from .data.annotations import Annotations
from .data.images import load_image
from .detections import load_predictions
from .evaluation import GROUPS, false_positives, frequency_groups, score_by_iou
from .runs import describe
from .scoring.table import MatchTable
from .statistics import interval, resample, summarise

__all__ = ["finished", "tabulate"]

_METRICS = ("AP", "AP50", "AP75", "AP90", "oLRP")
_SIZES = ("small", "medium", "large")
_TIDE = ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss", "FP", "FN")


def tabulate(training, testing, chosen, runs, seeds, settings, folder, draws, edges) -> dict[str, Any]:
    names = [recipe.name for recipe in chosen]
    baseline = "baseline" if "baseline" in names else names[0]
    groups = frequency_groups(training, edges=edges)
    numbers = _resampled(testing, runs, folder, groups, draws)
    described = describe(training, chosen[0], settings)
    return {
        "name": f"{Path(training.source).name or 'dataset'}: {', '.join(names)}",
        "created": time.strftime("%Y-%m-%d %H:%M"),
        "dataset": {
            "source": training.source,
            "form": training.form,
            "fingerprint": training.fingerprint(),
            "classes": list(training.classes),
            "train": {"images": len(training), "boxes": len(training.boxes)},
            "test": {"images": len(testing), "boxes": len(testing.boxes)},
        },
        "detector": settings.detector,
        "size": settings.size,
        "image_size": list(settings.image_size),
        "epochs": settings.epochs,
        "settings": described["settings"],
        "seeds": seeds,
        "baseline": baseline,
        "versions": described["versions"],
        "precision": _precisions(runs, folder),
        "recipes": {
            recipe.name: _summary(recipe, runs, baseline, numbers, training, testing, groups, folder)
            for recipe in chosen
        },
        "examples": _examples(training, testing, runs, folder),
    }


def _precisions(runs: dict[str, list[dict]], folder: Path) -> list[str]:
    """In what the finished runs were trained: more than one where they were made on machines of different kinds."""
    files = [folder / run["folder"] / "settings.json" for its_runs in runs.values() for run in finished(its_runs)]
    found = {json.loads(file.read_text()).get("precision") for file in files if file.exists()}
    return sorted(found - {None})


def finished(runs: list[dict]) -> list[dict]:
    return [run for run in runs if run["status"] == "done"]


def _resampled(testing, runs, folder, groups, draws) -> dict[str, dict[int, dict[str, np.ndarray]]]:
    """recipe -> seed -> metric -> its value on the test set and on every resampled one."""
    metrics = [
        *_METRICS,
        *(f"AP_{size}" for size in _SIZES),
        *(f"AP_{group}" for group in GROUPS),
        *(f"AP/{name}" for name in testing.classes),
        *(f"TIDE/{error}" for error in _TIDE),
    ]
    numbers: dict[str, dict[int, dict[str, np.ndarray]]] = {}
    for name, its_runs in runs.items():
        numbers[name] = {}
        for run in finished(its_runs):
            table = MatchTable.build(testing, folder / run["folder"] / "predictions.json")
            drawn = resample([table], metrics, groups=groups, draws=draws)
            numbers[name][run["seed"]] = {metric: values[0] for metric, values in drawn.items()}
    return numbers


def _measure(metric: str, name: str, baseline: str, numbers: dict, images: int) -> dict[str, Any]:
    """Mean, spread and values of a metric over the seeds, and the paired difference to the baseline."""

    def value(array: np.ndarray) -> float | None:
        return None if np.isnan(array[0]) else float(array[0])

    mine = numbers[name]
    values = [value(its[metric]) for its in mine.values()]
    summary = summarise(values)
    difference = None
    pairs = [seed for seed in mine if seed in numbers[baseline]]
    if name != baseline and pairs:
        sides = [np.stack([numbers[side][seed][metric] for seed in pairs]) for side in (baseline, name)]
        found = interval(*sides, images=images)
        if found is not None:
            difference = {"mean": found.mean, "low": found.low, "high": found.high}
    return {"mean": summary.mean, "spread": summary.std, "values": values, "difference": difference}


def _summary(recipe, runs, baseline, numbers, training, testing, groups, folder) -> dict[str, Any]:
    name = recipe.name

    def measure(metric: str) -> dict[str, Any]:
        return _measure(metric, name, baseline, numbers, len(testing))

    done = finished(runs[name])
    files = [folder / run["folder"] / "predictions.json" for run in done]
    metrics = [*_METRICS, *(f"AP_{size}" for size in _SIZES), *(f"AP_{group}" for group in GROUPS)]
    counts = training.counts.tolist()
    return {
        "repr": repr(recipe),
        "runs": runs[name],
        "metrics": {metric: measure(metric) for metric in metrics},
        "by_class": {
            k: {**measure(f"AP/{k}"), "train_boxes": count, "group": group}
            for k, count, group in zip(testing.classes, counts, groups)
        },
        "by_size": {size: measure(f"AP_{size}") for size in _SIZES},
        "tide": {error: measure(f"TIDE/{error}") for error in _TIDE},
        "score_by_iou": _average([score_by_iou(testing, file) for file in files]),
        "false_positives": _average([false_positives(testing, file) for file in files]),
    }


def _average(curves: list[dict[str, list]]) -> dict[str, list]:
    """The mean of the runs' curves, point by point."""
    if not curves:
        return {}

    def mean(values: tuple) -> float | None:
        kept = [v for v in values if v is not None]
        return averages.fmean(kept) if kept else None

    return {name: [mean(point) for point in zip(*(curve[name] for curve in curves))] for name in curves[0]}


def _examples(training, testing, runs, folder, count: int = 6) -> list[dict[str, Any]]:
    """Test images with what each recipe's first seed finds in them: one for each rare class first, then others."""
    found = {
        name: load_predictions(folder / done[0]["folder"] / "predictions.json", testing)
        for name, its_runs in runs.items()
        if (done := finished(its_runs))
    }
    return [_example(testing, i, found) for i in _telling(training, testing, count)] if found else []


def _telling(training: Annotations, testing: Annotations, count: int) -> list[int]:
    chosen: list[int] = []
    for label in np.argsort(training.counts, kind="stable") + 1:
        for image in testing.image[testing.label == label].tolist():
            if image not in chosen:
                chosen.append(image)
                break
    rest = np.random.default_rng(0).permutation(np.unique(testing.image)).tolist()
    return (chosen[:count] + [image for image in rest if image not in chosen])[:count]


def _example(testing: Annotations, image: int, found: dict) -> dict[str, Any]:
    picture = load_image(testing, image)
    scale = min(1.0, 480 / max(picture.size))
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    buffer = io.BytesIO()
    picture.resize(size).save(buffer, "JPEG", quality=80)
    rows = testing.rows(image)
    names = [testing.classes[label - 1] for label in testing.label[rows]]

    def detections(predictions) -> list[list]:
        mine = np.flatnonzero((predictions.image == image) & (predictions.score >= 0.05))
        mine = mine[np.argsort(-predictions.score[mine])][:100]
        boxes, labels, scores = predictions.boxes[mine], predictions.label[mine], predictions.score[mine]
        return [
            [*np.round(b * scale, 1).tolist(), testing.classes[k - 1], round(float(s), 3)]
            for b, k, s in zip(boxes, labels, scores)
        ]

    return {
        "file": str(testing.file_names[image]),
        "width": size[0],
        "height": size[1],
        "image": "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode(),
        "truth": [[*np.round(b * scale, 1).tolist(), k] for b, k in zip(testing.boxes[rows], names)],
        "detections": {name: detections(predictions) for name, predictions in found.items()},
    }
