"""Recipes side by side: the same data, the same seeds, the same training; what differs, and how surely."""

from __future__ import annotations

import base64
import io
import json
import os
import statistics as mean_and_median
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from . import report
from .adapters import kind_of
from .data.annotations import Annotations
from .data.images import DetectionImages, flips, load_image
from .data.readers import read
from .data.splits import split
from .detections import load_predictions, save_predictions
from .detectors import build
from .evaluation import GROUPS, evaluate, false_positives, frequency_groups, score_by_iou
from .recipe import Recipe
from .recipes import get
from .scoring.table import MatchTable
from .statistics import interval, resample, summarise
from .training import Settings, describe, load_model, predict, train

__all__ = ["Comparison", "compare", "run_one"]

_METRICS = ("AP", "AP50", "AP75", "AP90", "oLRP")
_SIZES = ("small", "medium", "large")
_TIDE = ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss", "FP", "FN")


@dataclass(frozen=True)
class Comparison:
    """What `compare` found: `results` is results.json, `folder` holds it, the report and the runs."""

    results: dict[str, Any]
    folder: Path

    def table(self) -> Any:
        """The result for the terminal (a rich table)."""
        return _table(self.results)

    def save(self, path: Path | str, diagnosis: Any = None) -> Path:
        """Write the report as one self-contained HTML page."""
        return report.save(report.comparison_page(self.results, diagnosis), path)


def compare(
    data: Annotations | str | Path,
    recipes: Sequence[str | Recipe] = ("baseline", "libra", "pisa"),
    *,
    seeds: int | Sequence[int] = 3,
    settings: Settings | None = None,
    folder: Path | str = "runs/compare",
    test: Annotations | None = None,
    device: str = "auto",
    precision: str = "32-true",
    workers: int = 0,
    draws: int = 1000,
    edges: tuple[int, int] = (10, 100),
    progress: Callable[[str, int, int, int, dict[str, float]], None] | None = None,
) -> Comparison:
    """Train every recipe with every seed on the same images, and report what helped, by how much and how surely.

    Finished runs are not repeated and interrupted ones go on, so the same call can be made again after a power cut or
    with more seeds. A run that fails is reported and does not stop the others.

    Args:
        data: a dataset, or its path. Its own splits are honoured, else a fifth of the images is held out.
        recipes: names, `file.py:function`, or Recipes. The one named "baseline", else the first, is compared against.
        seeds: how many, or which.
        settings: of the training; its seed is replaced by each of `seeds`.
        folder: of the runs, results.json and report.html.
        test: test images, if they are not to be taken from `data`.
        device, precision, workers: see `training.train`.
        draws: resampled test sets behind each interval.
        edges: largest numbers of training images of a rare and of a common class.
        progress: called as (recipe, seed, step, steps, losses).

    Raises:
        ValueError: for recipes of the same name, or that the detector does not take.
        DataError: for a dataset or an image that cannot be read; before anything is trained.
    """
    settings = settings or Settings()
    data = data if isinstance(data, Annotations) else read(data)
    training, testing = (data, test) if test is not None else split(data)
    chosen = _recipes(recipes, settings, len(data.classes))
    seeds = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    if not seeds:
        raise ValueError("expected at least one seed")
    images = DetectionImages(training, image_size=settings.image_size, transforms=flips())
    images.check()
    test_images = DetectionImages(testing, image_size=settings.image_size)
    test_images.check()
    folder = Path(folder)
    runs: dict[str, list[dict[str, Any]]] = {recipe.name: [] for recipe in chosen}
    for seed in seeds:  # seeds outside: an interrupted comparison has whole sets of recipes
        for recipe in chosen:
            where = folder / recipe.name / f"seed{seed}"
            step = None if progress is None else _bound(progress, recipe.name, seed)
            run = {"seed": seed, "folder": str(where.relative_to(folder))}
            try:
                run |= run_one(
                    training,
                    testing,
                    where,
                    recipe=recipe,
                    settings=replace(settings, seed=seed),
                    device=device,
                    precision=precision,
                    workers=workers,
                    edges=edges,
                    progress=step,
                    images=images,
                    test_images=test_images,
                )
            except (ArithmeticError, RuntimeError, ValueError) as error:
                run |= {"status": "failed", "error": f"{type(error).__name__}: {error}"}
                (where / "error.txt").parent.mkdir(parents=True, exist_ok=True)
                (where / "error.txt").write_text(traceback.format_exc())
            evaluation = run.pop("evaluation", {})
            runs[recipe.name].append({**run, "metrics": evaluation.get("metrics", {})})
    results = _results(training, testing, chosen, runs, seeds, settings, folder, draws, edges)
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "results.json", results)
    comparison = Comparison(results, folder)
    comparison.save(folder / "report.html")
    return comparison


def run_one(
    training: Annotations,
    testing: Annotations,
    folder: Path,
    *,
    recipe: Recipe,
    settings: Settings,
    device: str = "auto",
    precision: str = "32-true",
    workers: int = 0,
    edges: tuple[int, int] = (10, 100),
    progress: Callable[[int, int, dict[str, float]], None] | None = None,
    images: DetectionImages | None = None,
    test_images: DetectionImages | None = None,
) -> dict[str, Any]:
    """Train, predict and evaluate one run, or take it from its folder if it is finished there."""
    done = folder / "evaluation.json"
    if done.exists() and _same(folder, training, testing, recipe, settings):
        return json.loads(done.read_text())
    started = time.monotonic()
    resume = _same(folder, training, None, recipe, settings)
    model = train(
        training,
        folder,
        recipe=recipe,
        settings=settings,
        device=device,
        precision=precision,
        workers=workers,
        resume=resume,
        progress=progress,
        images=images,
    )
    if model is None:
        model, _ = load_model(folder, recipe)
    found = predict(model, testing, image_size=settings.image_size, images=test_images)
    save_predictions(
        folder / "predictions.json", *([image[name] for image in found] for name in ("boxes", "labels", "scores"))
    )
    history = json.loads((folder / "history.json").read_text())
    evaluation = evaluate(testing, folder / "predictions.json", training=training, edges=edges).to_json()
    result = {
        "status": "done",
        "test": testing.fingerprint(),
        "seconds": round(time.monotonic() - started, 2),
        "train_seconds": round(history["seconds"], 2),
        "curves": _curves(history["history"]),
        "evaluation": evaluation,
    }
    _write_json(done, result)
    return result


def _same(folder: Path, training: Annotations, testing: Annotations | None, recipe: Recipe, settings: Settings) -> bool:
    """Does the folder hold a run of these very settings (and, if finished, on this test set)?"""
    path = folder / "settings.json"
    if not path.exists():
        return False
    there, wanted = json.loads(path.read_text()), describe(training, recipe, settings)
    if any(there.get(key) != wanted[key] for key in ("repr", "settings")):
        return False
    if there["data"]["fingerprint"] != wanted["data"]["fingerprint"]:
        return False
    return testing is None or json.loads((folder / "evaluation.json").read_text())["test"] == testing.fingerprint()


def _recipes(recipes: Sequence[str | Recipe], settings: Settings, classes: int) -> list[Recipe]:
    kind = kind_of(build(settings.detector, classes=classes, size=settings.size, image_size=settings.image_size))
    chosen = [recipe if isinstance(recipe, Recipe) else get(recipe, kind) for recipe in recipes]
    names = [recipe.name for recipe in chosen]
    if not names:
        raise ValueError("expected at least one recipe")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"expected recipes of different names but got {', '.join(twice)} more than once")
    return chosen


def _bound(progress: Callable, name: str, seed: int) -> Callable[[int, int, dict[str, float]], None]:
    return lambda step, steps, losses: progress(name, seed, step, steps, losses)


def _results(training, testing, chosen, runs, seeds, settings, folder, draws, edges) -> dict[str, Any]:
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
        "recipes": {
            recipe.name: _summary(recipe, runs, baseline, numbers, training, testing, groups, folder)
            for recipe in chosen
        },
        "examples": _examples(training, testing, runs, folder),
    }


def _done(runs: list[dict]) -> list[dict]:
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
        for run in _done(its_runs):
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

    done = _done(runs[name])
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
        return mean_and_median.fmean(kept) if kept else None

    return {name: [mean(point) for point in zip(*(curve[name] for curve in curves))] for name in curves[0]}


def _curves(history: list[dict[str, Any]]) -> dict[str, Any]:
    """The history of a run as columns, thinned to 200 points."""
    kept = history[:: max(1, len(history) // 200)]
    names = list(kept[-1]["loss"]) if kept else []
    return {
        "step": [point["step"] for point in kept],
        "loss": {name: [point["loss"].get(name) for point in kept] for name in names},
        "lr": [point["lr"] for point in kept],
    }


def _examples(training, testing, runs, folder, count: int = 6) -> list[dict[str, Any]]:
    """Test images with what each recipe's first seed finds in them: one for each rare class first, then others."""
    found = {
        name: load_predictions(folder / done[0]["folder"] / "predictions.json", testing)
        for name, its_runs in runs.items()
        if (done := _done(its_runs))
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


def _table(results: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table(title=f"{results['name']}  ({results['detector']} {results['size']}, {len(results['seeds'])} seeds)")
    for column in ("recipe", "AP", "difference, 95 % interval", "AP50", "AP75", "small", "medium", "large", "s/run"):
        table.add_column(column, justify="left" if column == "recipe" else "right")

    def points(value: float | None, sign: str = "") -> str:
        return "-" if value is None else f"{100 * value:{sign}.1f}"

    for name, recipe in results["recipes"].items():
        done = _done(recipe["runs"])
        if not done:
            table.add_row(name, "failed", *[""] * 7)
            continue
        metrics = recipe["metrics"]
        ap, gap = metrics["AP"], metrics["AP"]["difference"]
        spread = "" if ap["spread"] is None else f" ± {points(ap['spread'])}"
        table.add_row(
            name,
            points(ap["mean"]) + spread,
            ""
            if gap is None
            else f"{points(gap['mean'], '+')} [{points(gap['low'], '+')}, {points(gap['high'], '+')}]",
            *(points(metrics[m]["mean"]) for m in ("AP50", "AP75", "AP_small", "AP_medium", "AP_large")),
            f"{mean_and_median.median(run['train_seconds'] for run in done):.0f}",
        )
    return table


def _write_json(path: Path, record: dict[str, Any]) -> None:
    part = path.with_suffix(path.suffix + ".part")
    part.write_text(json.dumps(record, allow_nan=False))
    os.replace(part, path)
