"""Recipes side by side: the same data, the same seeds, the same training; what differs, and how surely."""

from __future__ import annotations

import json
import statistics as mean_and_median
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from . import report
from .adapters import kind_of
from .atomic import write_json
from .data.annotations import Annotations
from .data.images import DetectionImages, flips
from .data.readers import read
from .data.splits import split
from .detections import save_predictions
from .detectors import build
from .diagnosis import training_findings
from .evaluation import evaluate
from .prediction import predict
from .recipe import Recipe
from .results import finished, tabulate
from .runs import Settings, epochs_of, load_model, precision_of, recipe_of, same
from .training import PROBES, place_of, train

__all__ = ["Comparison", "compare", "run_one"]


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
    precision: str = "auto",
    workers: int = 0,
    draws: int = 1000,
    edges: tuple[int, int] = (10, 100),
    progress: Callable[[str, int, int, int, dict[str, float]], None] | None = None,
    probe: int = 0,
) -> Comparison:
    """Train every recipe with every seed on the same images, and report what helped, by how much and how surely.

    Finished runs are not repeated and interrupted ones go on, so the same call can be made again after a power cut or
    with more seeds. A run that fails is reported and does not stop the others.

    Args:
        data: a dataset, or its path. Its own splits are honoured, else a fifth of the images is held out.
        recipes: names, `file.py:function`, or Recipes. The one named "baseline", else the first, is compared against.
            `name@16` trains for 16 epochs in place of the settings': a baseline of the same training time.
        seeds: how many, or which.
        settings: of the training; its seed is replaced by each of `seeds`.
        folder: of the runs, results.json and report.html.
        test: test images, if they are not to be taken from `data`.
        device, precision, workers: see `training.train`.
        draws: resampled test sets behind each interval.
        edges: largest numbers of training images of a rare and of a common class.
        progress: called as (recipe, seed, step, steps, losses).
        probe: measure what drives the training of each recipe's first seed, every so many steps; 0 is never.

    Raises:
        ValueError: for recipes of the same name, or that the detector does not take.
        DataError: for a dataset or an image that cannot be read; before anything is trained.
    """
    settings = settings or Settings()
    data = data if isinstance(data, Annotations) else read(data)
    training, testing = (data, test) if test is not None else split(data)
    chosen = _recipes(recipes, settings, len(data.classes))
    epochs = [epochs_of(recipe.name, settings.epochs) for recipe in chosen]
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
        for recipe, length in zip(chosen, epochs):
            where = folder / recipe.name / f"seed{seed}"
            step = None if progress is None else _bound(progress, recipe.name, seed)
            run = {"seed": seed, "folder": str(where.relative_to(folder))}
            try:
                run |= run_one(
                    training,
                    testing,
                    where,
                    recipe=recipe,
                    settings=replace(settings, seed=seed, epochs=length),
                    device=device,
                    precision=precision,
                    workers=workers,
                    edges=edges,
                    progress=step,
                    images=images,
                    test_images=test_images,
                    probe=probe if seed == seeds[0] else 0,
                )
            except (ArithmeticError, RuntimeError, ValueError) as error:
                run |= {"status": "failed", "error": f"{type(error).__name__}: {error}"}
                (where / "error.txt").parent.mkdir(parents=True, exist_ok=True)
                (where / "error.txt").write_text(traceback.format_exc())
            evaluation = run.pop("evaluation", {})
            runs[recipe.name].append({**run, "metrics": evaluation.get("metrics", {})})
    results = tabulate(training, testing, chosen, runs, seeds, settings, folder, draws, edges)
    for recipe in chosen:
        results["recipes"][recipe.name]["drove"] = _drove(folder / recipe.name / f"seed{seeds[0]}" / PROBES)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "results.json", results)
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
    precision: str = "auto",
    workers: int = 0,
    edges: tuple[int, int] = (10, 100),
    progress: Callable[[int, int, dict[str, float]], None] | None = None,
    images: DetectionImages | None = None,
    test_images: DetectionImages | None = None,
    probe: int = 0,
) -> dict[str, Any]:
    """Train, predict and evaluate one run, or take it from its folder if it is finished there."""
    done = folder / "evaluation.json"
    if done.exists() and same(folder, training, testing, recipe, settings):
        return json.loads(done.read_text())
    started = time.monotonic()
    resume = same(folder, training, None, recipe, settings) and precision in ("auto", precision_of(folder))
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
        probe=probe,
    )
    if model is None:
        model, _ = load_model(folder, recipe)
    place = place_of(device)
    found = predict(model, testing, image_size=settings.image_size, images=test_images, device=place)
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
    write_json(done, result)
    return result


def _curves(history: list[dict[str, Any]]) -> dict[str, Any]:
    """The history of a run as columns, thinned to 200 points."""
    kept = history[:: max(1, len(history) // 200)]
    names = list(kept[-1]["loss"]) if kept else []
    return {
        "step": [point["step"] for point in kept],
        "loss": {name: [point["loss"].get(name) for point in kept] for name in names},
        "lr": [point["lr"] for point in kept],
    }


def _recipes(recipes: Sequence[str | Recipe], settings: Settings, classes: int) -> list[Recipe]:
    kind = kind_of(build(settings.detector, classes=classes, size=settings.size, image_size=settings.image_size))
    chosen = [recipe if isinstance(recipe, Recipe) else recipe_of(recipe, kind) for recipe in recipes]
    names = [recipe.name for recipe in chosen]
    if not names:
        raise ValueError("expected at least one recipe")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"expected recipes of different names but got {', '.join(twice)} more than once")
    return chosen


def _drove(path: Path) -> list[dict[str, Any]]:
    """What drove a run, by its probes; nothing without them."""
    if not path.exists():
        return []
    return [
        {
            "problem": finding.imbalance.value,
            "key": finding.key,
            "measure": finding.measure,
            "value": finding.value,
            "severity": None if finding.severity is None else finding.severity.name.lower(),
            "summary": finding.summary,
        }
        for finding in training_findings(path)
        if finding.value is not None
    ]


def _bound(progress: Callable, name: str, seed: int) -> Callable[[int, int, dict[str, float]], None]:
    return lambda step, steps, losses: progress(name, seed, step, steps, losses)


def _table(results: dict[str, Any]) -> Any:
    from rich import box
    from rich.table import Table

    seeds = f"{len(results['seeds'])} seed{'s' * (len(results['seeds']) > 1)}"
    title = f"{results['name']}  ({results['detector']} {results['size']}, {seeds})"
    table = Table(title=title, box=box.SIMPLE_HEAD, collapse_padding=True)
    table.add_column("recipe", overflow="fold")  # a long name is broken, no figure is cut
    for column in ("AP", "difference [95 %]", "AP50", "AP75", "AP90", "s/run"):
        table.add_column(column, justify="right", no_wrap=True)

    def points(value: float | None, sign: str = "") -> str:
        return "-" if value is None else f"{100 * value:{sign}.1f}"

    for name, recipe in results["recipes"].items():
        done = finished(recipe["runs"])
        if not done:
            table.add_row(name, "failed", *[""] * 5)
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
            *(points(metrics[m]["mean"]) for m in ("AP50", "AP75", "AP90")),
            f"{mean_and_median.median(run['train_seconds'] for run in done):.0f}",
        )
    return table
