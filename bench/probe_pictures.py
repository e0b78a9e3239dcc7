"""What drove each recipe's training, side by side: pictures and a table from the probes of a comparison.

    python bench/probe_pictures.py runs/evidence/bccd-retinanet --name bccd [--recipes baseline,libra,pisa,balanced]

The folder is that of `compare(..., probe=N)`: its first seed's probes are in RECIPE/seed0/probes.npz. It writes

- probes_NAME_ious.svg: the review's figure 12, of the second half of each training: the IoU of the positives before
  regression and after it, and what becomes of them.
- probes_NAME_tasks.svg: the review's figures 16 and 17 over the training: each task's share of the loss and of the
  gradient, and its loss against that of the start.
- probes_NAME_gradient.svg: what sent the gradient that trained the head: objects and background, classes, sizes of
  objects; and what outliers own of the gradient of the boxes.

and prints a table of the figures in Markdown, and what the diagnosis says to each recipe. What regression does is
told of the second half of the training, all else of the whole.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from detbalance.diagnosis import training_findings
from detbalance.diagnosis.finding import Finding, Table
from figures import Panel, save

PARTS = 40
"""points of a curve over the training, each the mean of the records about it"""
REGRESSED = ("iou_before", "iou_after", "box_error", "box_gradient", "probe.positive_step")
TELLING = ("driven_foreground", "driven_classes", "driven_sizes", "degraded", "outliers", "tasks", "conflict", "pace")
"""findings whose sentences are printed"""


class Run:
    """The probes of one training: their columns, and what the diagnosis makes of them."""

    def __init__(self, columns: Mapping[str, np.ndarray]) -> None:
        self.columns = dict(columns)
        step, before = columns["probe.positive_step"], columns["iou_before"]
        settled = step >= (columns["probe.step"].min() + columns["probe.step"].max()) / 2
        kept = settled & (before < 1 - 1e-6)  # torchvision puts the objects themselves among the proposals
        self.columns |= {name: columns[name][kept] for name in REGRESSED if name in columns}
        self.findings = {finding.key: finding for finding in training_findings(self.columns)}

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name].astype(np.float64)

    @property
    def tasks(self) -> list[str]:
        return [str(name) for name in self.columns["probe.tasks"][0]]

    def tables(self, key: str, *titles: str) -> list[Table]:
        """Tables of a finding by the starts of their titles; empty ones where the run has no such finding."""
        found: Finding | None = self.findings.get(key)
        tables = () if found is None else found.tables
        return [next((t for t in tables if t.title.startswith(title)), Table(title, (), ())) for title in titles]


def load(folder: Path, names: list[str]) -> dict[str, Run]:
    """The recipes' runs, in order. Raises SystemExit that says what is missing."""
    runs = {}
    for name in names or sorted(path.parents[1].name for path in folder.glob("*/seed0/probes.npz")):
        path = folder / name / "seed0" / "probes.npz"
        if not path.exists():
            raise SystemExit(f"{path} is not there: train with compare(..., probe=N)")
        with np.load(path, allow_pickle=False) as file:
            runs[name] = Run({key: file[key] for key in file.files})
    if not runs:
        raise SystemExit(f"{folder} holds no RECIPE/seed0/probes.npz: train with compare(..., probe=N)")
    return runs


def over_training(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places in the training from 0 to 1, and the mean of the records about each."""
    parts = np.array_split(values, min(PARTS, len(values)))
    return (np.arange(len(parts)) + 0.5) / len(parts), np.array([part.mean(0) for part in parts])


def column(table: Table, name: str) -> list:
    """One column of a finding's table; empty where it has none of that name."""
    return [row[table.columns.index(name)] for row in table.rows] if name in table.columns else []


def above(highest: float) -> float:
    """A top for an axis that goes to `highest`: its four parts are round numbers."""
    part = max(highest, 0.04) / 4
    unit = 10 ** np.floor(np.log10(part))
    return float(4 * unit * next(step for step in (1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 7.5, 10) if step * unit >= part))


def curves(title: str, x: tuple[float, float], found: dict[str, tuple], x_name: str, y_name: str, top: float = 0):
    """A panel of named curves, as high as they are or `top`; an empty curve keeps its colour for others of its name."""
    highest = max([0.0, *(np.max(y) for _, y in found.values() if len(y))])
    panel = Panel(title, x, (0, top or above(highest)), x_name, y_name)
    for name, (places, values) in found.items():
        panel.line(places, values, name if len(values) else "")
    return panel


def grouped(title: str, groups: list[str], found: dict[str, list[float]]) -> Panel:
    """A panel of bars, a group for each name and a bar in it for each recipe."""
    highest = max(max(values, default=0) for values in found.values())
    panel = Panel(title, (0.4, len(groups) + 0.6), (0, above(1.2 * highest)), "", "share")
    panel.labels, width = tuple(groups), 0.8 / len(found)
    for i, (name, values) in enumerate(found.items()):
        panel.bars(np.arange(1, len(values) + 1) - 0.4 + (i + 0.5) * width, values, width, name)
    return panel


def figure_12(runs: dict[str, Run], path: Path) -> None:
    """IoU before and after regression: a map for each recipe; below, the recipes in one panel."""
    maps, rates = [], {}
    for name, run in runs.items():
        rates[name], grid = run.tables("degraded", "What regression does", "IoU before (x)")
        maps.append(Panel(f"{name}: log density", (0.5, 1), (0, 1), "IoU before", "IoU after"))
        cells = np.array(column(grid, "value") or [0] * 400, float)
        maps[-1].map(np.log1p(cells.reshape(20, 20))[::-1])
        maps[-1].line((0.5, 1), (0.5, 1))  # worse below this one,
        maps[-1].line((0.5, 1), (0.5, 0.5))  # lost below this one

    def spread(when: str, low: float) -> Panel:
        edges = np.linspace(low, 1, 36)
        found = {
            name: ((edges[1:] + edges[:-1]) / 2, np.histogram(values.clip(low), edges)[0] / max(len(values), 1))
            for name, values in ((name, run[f"iou_{when}"]) for name, run in runs.items())
        }
        return curves(f"IoU {when} regression", (low, 1), found, "IoU", "share of the positives")

    def fate(key: str, title: str) -> Panel:
        found = {}
        for name, table in rates.items():
            places = np.linspace(0.55, 0.95, 5)[: len(table.rows)]
            filled = np.array(column(table, "mean before")) > 0
            found[name] = (places[filled], np.array(column(table, key))[filled]) if len(places) else ((), ())
        return curves(title, (0.5, 1), found, "IoU before", "share", top=1)

    below = (
        spread("before", 0.4),
        spread("after", 0.0),
        fate("degraded", "worse after regression"),
        fate("lost", "below 0.5 after it"),
    )
    save(path, *maps, *below, columns=len(runs))


def figures_16_17(runs: dict[str, Run], path: Path) -> None:
    """Shares of the tasks, and their pace; a column for each recipe."""
    every = list(dict.fromkeys(task for run in runs.values() for task in run.tasks))
    rows: list[list[Panel]] = [[], [], []]
    for name, run in runs.items():
        for row, kind in zip(rows, ("loss", "gradient")):
            table = {task: np.abs(run[f"{kind}_{task}"]) for task in run.tasks}
            total = np.maximum(sum(table.values()), 1e-30)
            found = {task: over_training(table[task] / total) if task in table else ((), ()) for task in every}
            row.append(curves(f"{name}: share of the {kind}", (0, 1), found, "part of the training", "share", top=1))
        (pace,) = run.tables("pace", "Losses of the tasks")
        found = {}
        for task in every:
            losses = np.array(column(pace, task))
            fallen = losses / max(abs(losses[0]), 1e-30) if len(losses) else losses
            found[task] = (column(pace, "share of the training") if len(losses) else (), fallen)
        rows[2].append(curves(f"{name}: pace", (0, 1), found, "part of the training", "loss, of the first"))
    save(path, *(panel for row in rows for panel in row), columns=len(runs))


def gradients(runs: dict[str, Run], path: Path) -> None:
    """Who sent the gradient: objects over the training, classes, sizes, outliers over the training."""
    objects, outliers = {}, {}
    for name, run in runs.items():
        (table,) = run.tables("driven_foreground", "Share of the gradient that objects")
        shares = np.array(column(table, "share of the gradient"))
        objects[name] = over_training(shares) if len(shares) else ((), ())
        owned = run.columns.get("probe.outlier_gradient")
        outliers[name] = ((), ()) if owned is None else over_training(owned.astype(np.float64))
    panels = [
        curves("gradient that objects sent", (0, 1), objects, "part of the training", "share", top=1),
        curves("box gradient that outliers own", (0, 1), outliers, "part of the training", "share", top=1),
    ]
    for what, key in (("classes", "driven_classes"), ("object sizes", "driven_sizes")):
        tables = {name: run.tables(key, "What drove")[0] for name, run in runs.items()}
        names = next((column(table, what) for table in tables.values() if table.rows), [])
        if names:
            shares = {name: column(table, "share of the gradient") for name, table in tables.items()}
            panels.append(grouped(f"gradient by {what}", names, shares))
    save(path, *panels, columns=2)


def table(runs: dict[str, Run]) -> list[str]:
    """The figures in Markdown, a column for each recipe."""

    def percent(value: float) -> str:
        return f"{100 * value:.1f} %"

    def drawn(run: Run) -> dict[str, str]:
        cells = {}
        for key, what in (("driven_classes", "classes"), ("driven_sizes", "object sizes")):
            (found,) = run.tables(key, "What drove")
            for name, share in zip(column(found, what), column(found, "share of the gradient")):
                cells[f"the objects' gradient: {name}"] = percent(share)
        (sides,) = run.tables("driven_foreground", "What drove")
        if sides.rows:
            cells = {
                "candidates that are background": percent(sides.rows[0][1]),
                "gradient from objects": percent(sides.rows[1][4]),
            } | cells
        before, after = run["iou_before"], run["iou_after"]
        if len(before):
            cells["positives' IoU before and after regression"] = f"{before.mean():.3f}, {after.mean():.3f}"
            cells["positives worse after regression"] = percent((after < before).mean())
            cells["positives below 0.5 after it"] = percent((after < 0.5).mean())
        if "probe.positives" in run.columns and run["probe.positives"].any():
            number = run["probe.positives"]
            for what, key in (
                ("positives that are outliers", "outliers"),
                ("box gradient they own", "outlier_gradient"),
            ):
                cells[what] = percent(np.average(run[f"probe.{key}"], weights=number))
        for kind in ("loss", "gradient"):
            mean = {task: np.abs(run[f"{kind}_{task}"]).mean() for task in run.tasks}
            cells |= {f"{kind} of the task {t}": percent(m / max(sum(mean.values()), 1e-30)) for t, m in mean.items()}
        return cells

    columns = {name: drawn(run) for name, run in runs.items()}
    rows = dict.fromkeys(row for cells in columns.values() for row in cells)
    lines = [f"| share | {' | '.join(runs)} |", "|---|" + "---|" * len(runs)]
    lines += [f"| {row} | {' | '.join(cells.get(row, '-') for cells in columns.values())} |" for row in rows]
    for name, run in runs.items():
        said = [run.findings[key].summary for key in TELLING if key in run.findings]
        lines += ["", f"`{name}`: {' '.join(said)}"]
    return lines


def main() -> None:
    """Draw and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="folder of a comparison")
    parser.add_argument("--name", default="", help="of the pictures; default: the folder's")
    parser.add_argument("--recipes", default="", help="names, with commas; default: all that have probes")
    parser.add_argument("--out", type=Path, default=Path("docs/figures"))
    options = parser.parse_args()
    runs = load(options.runs, [name for name in options.recipes.split(",") if name])
    options.out.mkdir(parents=True, exist_ok=True)
    name = options.name or options.runs.name
    figure_12(runs, options.out / f"probes_{name}_ious.svg")
    figures_16_17(runs, options.out / f"probes_{name}_tasks.svg")
    gradients(runs, options.out / f"probes_{name}_gradient.svg")
    print("\n".join(table(runs)))


if __name__ == "__main__":
    main()
