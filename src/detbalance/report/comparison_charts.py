"""The charts of a comparison: differences by class, size and error, scores, false positives, training curves."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from .charts import Chart, Series, lines, whisker_bars
from .wording import average, interval, signed

__all__ = ["comparison_charts", "runs_of"]

BARS = 30
"""classes that a bar chart can name; with more, the classes become dots over their number of boxes"""
CURVE_POINTS = 150
"""points of a training curve; each is the mean of the steps it stands for"""
ERRORS = {
    "Cls": "Cls: wrong class",
    "Loc": "Loc: loose box",
    "Both": "Both: class and box",
    "Dupe": "Dupe: found twice",
    "Bkg": "Bkg: background",
    "Miss": "Miss: not found",
    "FP": "FP: all false alarms",
    "FN": "FN: all missed",
}
"""TIDE's error types, in words"""


def comparison_charts(
    names: Sequence[str], recipes: Mapping, baseline: str, paint: Mapping[str, str]
) -> dict[str, list[Chart]]:
    """The charts of each section of the page; a section without numbers is left out."""
    remedies = [n for n in names if n != baseline]
    by_class = list(dict.fromkeys(c for n in names for c in recipes[n].get("by_class") or {}))
    about = next((recipes[n].get("by_class") for n in names if recipes[n].get("by_class")), {})
    by_class.sort(key=lambda c: -(about.get(c, {}).get("train_boxes") or 0))
    words = {c: f"{c} ({n:,})" if (n := about.get(c, {}).get("train_boxes")) is not None else c for c in by_class}
    sizes = {s: s for s in ("small", "medium", "large")}
    groups = {f"AP_{g}": f"{g} classes" for g in ("rare", "common", "frequent")}

    def pair(part: str, keys: Mapping[str, str], what: str, short: str = "") -> list[Chart]:
        def get(name: str, key: str) -> Mapping | None:
            return (recipes[name].get(part) or {}).get(key)

        known = {k: v for k, v in keys.items() if any((get(n, k) or {}).get("mean") is not None for n in names)}
        if not known:
            return []
        itself = replace(_absolute(names, known, get, what, paint), short=f"{short}each recipe")
        if not remedies:
            return [itself]
        return [replace(_differences(remedies, known, get, what, paint, about), short=f"{short}difference"), itself]

    charts = {
        "classes": pair("by_class", words, "AP by class"),
        "sizes": pair("by_size", sizes, "AP by object size", "By size: ")
        + pair("metrics", groups, "AP by class frequency", "By frequency: "),
        "errors": pair("tide", ERRORS, "TIDE error"),
        "scores": _scores(names, recipes, paint),
        "curves": _curves(names, recipes, paint),
    }
    return {key: value for key, value in charts.items() if value}


def _differences(
    remedies: Sequence[str], keys: Mapping[str, str], get: Callable, what: str, paint: Mapping, about: Mapping
) -> Chart:
    """Remedy minus baseline; what may be chance is faint."""
    series = []
    for name in remedies:
        found = [(get(name, key) or {}).get("difference") or {} for key in keys]
        mean, low, high = ([_hundred(d.get(end)) for d in found] for end in ("mean", "low", "high"))
        faint = [None in (a, b) or a <= 0 <= b for a, b in zip(low, high)]
        hover = [
            f"{name}, {word}: {signed(d.get('mean'))} ({interval(d.get('low'), d.get('high'))})"
            for word, d in zip(keys.values(), found)
        ]
        series.append(Series(name, mean, paint[name], low=low, high=high, faint=faint, hover=hover))
    columns = (what, *(f"{n}: {c}" for n in remedies for c in ("difference", "95 % interval")))
    rows = [
        (word, *(cell for n in remedies for cell in _cells((get(n, key) or {}).get("difference") or {})))
        for key, word in keys.items()
    ]
    lower = what.startswith("TIDE")
    note = "Bars to the left are better: fewer points lost. " if lower else "Bars to the right are better. "
    note += "A faint bar's interval includes zero: it may be chance."
    title = f"{what}: difference from the baseline" + (" (lower is better)" if lower else "")
    if len(keys) > BARS and any("train_boxes" in about.get(key, {}) for key in keys):
        boxes = [about.get(key, {}).get("train_boxes") or 0 for key in keys]
        dots = [Series(s.name, s.values, s.colour, x=boxes, hover=s.hover) for s in series]
        figure = lines(dots, x_title="boxes in training", y_title="points of AP", log_x=True, dots=True)
        for trace in figure["data"]:
            trace["mode"] = "markers"
        figure["layout"]["hovermode"] = "closest"
        return Chart(title, columns, rows, figure, "Each dot is a class: rare classes left, frequent ones right.")
    return Chart(
        title, columns, rows, whisker_bars(list(keys.values()), series, title="points, remedy − baseline"), note
    )


def _cells(difference: Mapping) -> tuple[str, str]:
    return signed(difference.get("mean")), interval(difference.get("low"), difference.get("high"))


def _absolute(names: Sequence[str], keys: Mapping[str, str], get: Callable, what: str, paint: Mapping) -> Chart:
    """The figures themselves, with their spread over the seeds."""
    series, cells = [], {word: [word] for word in keys.values()}
    for name in names:
        means, spreads, hover = [], [], []
        for key, word in keys.items():
            entry = get(name, key) or {}
            mean, spread = entry.get("mean"), entry.get("spread")
            means.append(_hundred(mean))
            spreads.append(_hundred(spread))
            text = average(entry)
            hover.append(f"{name}, {word}: {text}")
            cells[word].append(text)
        low = [None if None in p else p[0] - p[1] for p in zip(means, spreads)]
        high = [None if None in p else p[0] + p[1] for p in zip(means, spreads)]
        series.append(Series(name, means, paint[name], low=low, high=high, hover=hover))
    lower = what.startswith("TIDE")
    note = "Points of AP that this kind of error costs: lower is better. " if lower else ""
    title = f"{what} of every recipe" + (" (lower is better)" if lower else "")
    figure = None
    if len(keys) <= BARS:
        figure = whisker_bars(list(keys.values()), series, title="points lost" if lower else "AP, points")
    return Chart(title, (what, *names), list(cells.values()), figure, note + "Whiskers: spread over the seeds.")


def _scores(names: Sequence[str], recipes: Mapping, paint: Mapping[str, str]) -> list[Chart]:
    charts, score, alarms = [], [], []
    for name in names:
        found = recipes[name].get("score_by_iou") or {}
        if found.get("iou") and found.get("score"):
            middle = [(a + b) / 2 for a, b in zip(found["iou"], found["iou"][1:])]
            score.append(Series(name, found["score"], paint[name], x=middle))
        found = recipes[name].get("false_positives") or {}
        if found.get("threshold"):
            alarms.append(Series(name, found["per_image"], paint[name], x=found["threshold"]))
    if score:
        figure = lines(score, x_title="IoU with the nearest object of its class", y_title="mean score", dots=True)
        note = "Where tight boxes score highest the line climbs to the right, as it should."
        charts.append(Chart("Detection score against IoU", *_columns("IoU", score), figure, note))
    if alarms:
        figure = lines(alarms, x_title="score threshold", y_title="false positives per image")
        charts.append(
            Chart(
                "False positives against the score threshold",
                *_columns("threshold", alarms),
                figure,
                "Lower is better, at a threshold that still finds the objects.",
            )
        )
    return charts


def _columns(axis: str, series: Sequence[Series]) -> tuple[tuple[str, ...], list[tuple]]:
    """The series of one axis as a table."""
    xs = sorted({x for s in series for x in s.x})
    values = [dict(zip(s.x, s.values)) for s in series]
    return (axis, *(s.name for s in series)), [(x, *(v.get(x) for v in values)) for x in xs]


def _curves(names: Sequence[str], recipes: Mapping, paint: Mapping[str, str]) -> list[Chart]:
    """A chart for each loss, a thin line for each run; and the learning rate."""
    curves = [(n, run["curves"]) for n in names for run in runs_of(recipes[n]) if (run.get("curves") or {}).get("step")]
    losses = list(dict.fromkeys(loss for _, c in curves for loss in c.get("loss") or {}))
    losses.sort(key=lambda name: name != "total")
    found = {
        f"{loss.removeprefix('loss_').replace('_', ' ')} loss": [
            (n, c["step"], c["loss"][loss]) for n, c in curves if loss in (c.get("loss") or {})
        ]
        for loss in losses
    }
    found["learning rate"] = [(n, c["step"], c["lr"]) for n, c in curves if c.get("lr")]
    return [_curve(what, runs, paint) for what, runs in found.items() if runs]


def _curve(what: str, runs: Sequence[tuple[str, Sequence, Sequence]], paint: Mapping[str, str]) -> Chart:
    series = [_thin(Series(name, y, paint[name], x=x, width=1.4)) for name, x, y in runs]
    first = {s.name: replace(s, name=f"{s.name}, first run") for s in reversed(series)}
    note = "Each point is the mean of several steps." if len(series[0].x) < len(runs[0][1]) else ""
    figure = lines(series, x_title="step", y_title=what)
    return Chart(what[0].upper() + what[1:], *_columns("step", [*first.values()][::-1]), figure, note)


def _thin(series: Series) -> Series:
    """At most CURVE_POINTS points, each the mean of the steps it stands for."""
    size = math.ceil(len(series.x) / CURVE_POINTS)
    if size <= 1:
        return series
    x, y = [], []
    for first in range(0, len(series.x), size):
        known = [v for v in series.values[first : first + size] if v is not None and math.isfinite(v)]
        x.append(series.x[first : first + size][-1])
        y.append(sum(known) / len(known) if known else None)
    return replace(series, x=x, values=y)


def runs_of(recipe: Mapping) -> list[Mapping]:
    """The runs of a recipe, finished or not."""
    return list(recipe.get("runs") or [])


def _hundred(value: float | None) -> float | None:
    return None if value is None else round(100 * value, 3)
