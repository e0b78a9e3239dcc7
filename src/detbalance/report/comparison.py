"""What a comparison found, for reading: a verdict on each remedy, and the figures that it rests on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .charts import colour
from .comparison_charts import comparison_charts, runs_of
from .page import clean, render
from .verdicts import cautions, summary, verdict
from .wording import dataset_name, points, seconds, signed

__all__ = ["build"]

METRICS = {
    "AP": "AP",
    "AP50": "AP50",
    "AP75": "AP75",
    "AP90": "AP90",
    "AP_small": "AP small",
    "AP_medium": "AP medium",
    "AP_large": "AP large",
    "AP_rare": "AP rare",
    "AP_common": "AP common",
    "AP_frequent": "AP frequent",
    "oLRP": "oLRP (lower is better)",
}

SECTIONS = {
    "classes": (
        "By class",
        "Which classes gain, and which pay for it. The number behind a class is its boxes in training.",
    ),
    "sizes": ("By size and frequency", "COCO's bounds: small is below 32 × 32 pixels, large above 96 × 96."),
    "errors": (
        "By kind of error",
        "TIDE asks of each kind of error how many points of AP would be won if it were repaired. Here lower is better.",
    ),
    "scores": ("Scores", "Does the score tell the good boxes from the bad ones?"),
    "curves": (
        "Training",
        "One line a run. A remedy that changes the loss changes its height too: compare the shape, not the level.",
    ),
}
"""sections of charts: title and introduction"""


def build(results: Mapping[str, Any], diagnosis: Any = None) -> str:
    """The whole page."""
    results, measured = clean(results), None
    if diagnosis is not None:
        from .diagnosis import context_of

        measured = context_of(diagnosis)
    recipes = {name: recipe or {} for name, recipe in (results.get("recipes") or {}).items()}
    baseline = results.get("baseline", "baseline")
    names = sorted(recipes, key=lambda name: name != baseline)
    remedies = [n for n in names if n != baseline]
    paint = {name: "var(--baseline)" if name == baseline else colour(remedies.index(name)) for name in names}
    verdicts = [verdict(name, _metric(recipes[name], "AP")) for name in remedies]
    if measured is not None:
        measured["tried"] = {v.recipe: v for v in verdicts}
    charts = comparison_charts(names, recipes, baseline, paint)
    return render(
        "comparison.html.j2",
        title=f"{_dataset(results) or results.get('name') or 'Comparison'}: what helped",
        lead=summary(verdicts, len(results.get("seeds") or ())),
        facts=_facts(results),
        contents=_contents(charts, results, measured),
        diagnosis=measured,
        baseline=baseline,
        names=names,
        colours=paint,
        verdicts=verdicts,
        cautions=cautions(results),
        start=_metric(recipes.get(baseline) or {}, "AP"),
        seeds="seed" if len(results.get("seeds") or ()) == 1 else "seeds",
        rows=_rows(names, recipes, baseline),
        forest=_forest(names, recipes),
        drove=_drove(names, recipes),
        metrics={key: METRICS[key] for key in METRICS if any(_metric(recipes[n], key) for n in names)},
        failed=[(name, run) for name in names for run in runs_of(recipes[name]) if run.get("status") != "done"],
        charts=charts,
        titles=SECTIONS,
        examples=results.get("examples") or [],
        boxes=_boxes(results, names),
        common=_common(results),
        settings=_settings(names, recipes),
    )


def _contents(charts: Mapping, results: Mapping, measured: dict | None) -> list[tuple[str, str]]:
    entries = [("meters", "Imbalance")] if measured else []
    entries += [("verdict", "What helped"), ("table", "The figures")]
    entries += [("drove", "What drove it")] if any(r.get("drove") for r in _recipes_of(results)) else []
    entries += [(key, SECTIONS[key][0]) for key in charts]
    entries += [("examples", "Example images")] if results.get("examples") else []
    if measured:
        from .diagnosis import sections_of

        entries += sections_of(measured)
    return [*entries, ("settings", "Settings"), ("reading", "How to read this")]


def _recipes_of(results: Mapping[str, Any]) -> list[Mapping]:
    return [recipe or {} for recipe in (results.get("recipes") or {}).values()]


def _drove(names: Sequence[str], recipes: Mapping) -> list[dict]:
    """What the probes measured, a row a measure with the value of each recipe, and the baseline's in words."""
    found = {name: {entry["key"]: entry for entry in recipes[name].get("drove") or ()} for name in names}
    keys = dict.fromkeys(key for entries in found.values() for key in entries)
    rows = []
    for key in keys:
        of = [found[name].get(key) for name in names]
        first = next(entry for entry in of if entry)
        rows.append({"problem": first["problem"], "measure": first["measure"], "of": of, "told": first["summary"]})
    return rows


def _common(results: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Settings and versions of all runs, without what the head of the page says."""
    told = ("detector", "size", "image_size", "epochs", "seed")
    settings = [(key, value) for key, value in (results.get("settings") or {}).items() if key not in told]
    precision = results.get("precision")
    trained = [("precision", " and ".join(precision))] if precision else []
    return [*settings, *trained, *(results.get("versions") or {}).items()]


def _dataset(results: Mapping[str, Any]) -> str:
    return dataset_name((results.get("dataset") or {}).get("source"))


def _facts(results: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """What was compared, as plain facts."""
    data = results.get("dataset") or {}
    parts = {part: data.get(part) or {} for part in ("train", "test")}
    counts = {
        part: f"{n['images']:,} images, {n.get('boxes', 0):,} boxes" for part, n in parts.items() if "images" in n
    }
    detector = " ".join(str(results[key]) for key in ("detector", "size") if results.get(key))
    facts = [
        ("Dataset", _dataset(results)),
        ("Training", counts.get("train")),
        ("Test", counts.get("test")),
        ("Classes", len(data.get("classes") or ())),
        ("Detector", detector),
        ("Image", " × ".join(map(str, results.get("image_size") or ()))),
        ("Epochs", results.get("epochs")),
        ("Seeds", ", ".join(map(str, results.get("seeds") or ()))),
        ("Made", results.get("created")),
    ]
    return [(name, value) for name, value in facts if value]


def _boxes(results: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """What the page's script draws over the example images."""
    examples = results.get("examples") or []
    shown = [name for name in names if any(name in (e.get("detections") or {}) for e in examples)]
    kept = ("width", "height", "truth", "detections")
    return {"recipes": shown, "examples": [{key: e.get(key) or {} for key in kept} for e in examples]}


def _rows(names: Sequence[str], recipes: Mapping, baseline: str) -> list[dict]:
    base = _seconds(recipes.get(baseline) or {})
    rows = []
    for name in names:
        runs, time = runs_of(recipes[name]), _seconds(recipes[name])
        rows.append(
            {
                "name": name,
                "metrics": recipes[name].get("metrics") or {},
                "done": sum(run.get("status") == "done" for run in runs),
                "runs": len(runs),
                "time": time,
                "ratio": time / base if time and base and name != baseline else None,
            }
        )
    return rows


def _seconds(recipe: Mapping) -> float | None:
    times = [run.get("train_seconds") for run in runs_of(recipe) if run.get("status") == "done"]
    times = [t for t in times if t is not None]
    return sum(times) / len(times) if times else None


def _forest(names: Sequence[str], recipes: Mapping) -> dict:
    """Dots and whiskers on one scale, as percentages of the column's width."""
    found = {
        n: d for n in names if (d := (_metric(recipes[n], "AP") or {}).get("difference")) and None not in d.values()
    }
    ends = [0.0, *(v for d in found.values() for v in (d["low"], d["high"]))]
    low, high = min(ends), max(ends)
    pad = 0.06 * (high - low) or 0.01
    low, high = low - pad, high + pad

    def place(value: float) -> float:
        return round(100 * (value - low) / (high - low), 2)

    step = next(s * 10.0**e for e in range(-4, 1) for s in (1, 2, 5) if (high - low) / (s * 10.0**e) <= 5)
    ticks = [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
    marks = {name: {key: place(d[key]) for key in ("low", "mean", "high")} for name, d in found.items()}
    return {"zero": place(0), "ticks": [(place(t), signed(t)) for t in ticks], "marks": marks}


def _settings(names: Sequence[str], recipes: Mapping) -> list[dict]:
    return [
        {
            "name": name,
            "repr": recipes[name].get("repr", ""),
            "summary": recipes[name].get("summary_text", ""),
            "runs": [
                {**run, "ap": points((run.get("metrics") or {}).get("AP")), "time": seconds(run.get("seconds"))}
                for run in runs_of(recipes[name])
            ],
        }
        for name in names
    ]


def _metric(recipe: Mapping, key: str) -> Mapping | None:
    found = (recipe.get("metrics") or {}).get(key)
    return found if found and found.get("mean") is not None else None
