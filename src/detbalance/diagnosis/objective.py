"""Objective imbalance (review, section 7): one task's loss drowns another's. It needs a log of a training.

A log is the history.json that a training leaves in its run folder (it has the losses), or a mapping or an .npz file of
these columns, all of them optional:

    loss_<task>       (T,) weighted loss of the task at each step, in order; any number of tasks
    gradient_<task>   (T,) norm of its gradient with respect to the shared features
    box_error         (N, 4) predicted minus true box code of positive candidates, as the box loss sees them
    iou_before        (N,) IoU of positive candidates with their object before regression, and
    iou_after         (N,) after it
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..data.annotations import DataError
from ..taxonomy import Imbalance
from . import indices
from .finding import Finding, Table
from .wording import percent

__all__ = ["read_log", "task_balance", "task_pace", "tasks_needed"]

_ARRAYS = ("box_error", "iou_before", "iou_after")


def read_log(source: Mapping[str, np.ndarray] | str | Path) -> dict[str, np.ndarray]:
    """Read and check a log. Raises DataError that names the column, what is allowed and what came."""
    name = str(source) if isinstance(source, (str, Path)) else "log"
    columns = {}
    for key, values in (_from_file(Path(source)) if isinstance(source, (str, Path)) else source).items():
        if key not in _ARRAYS and not str(key).startswith(("loss_", "gradient_")):
            raise DataError(f"{name}: expected columns loss_*, gradient_*, {', '.join(_ARRAYS)} but got {key!r}")
        try:
            column = np.asarray(values, np.float64)
        except (TypeError, ValueError):
            raise DataError(f"{name}: column {key}: expected numbers but got {values!r:.60}") from None
        wide = key == "box_error"
        if column.ndim != 1 + wide or not len(column) or (wide and column.shape[1] != 4):
            shape = "(N, 4)" if wide else "(N,)"
            raise DataError(f"{name}: column {key}: expected the shape {shape}, N > 0, but got {column.shape}")
        if not np.isfinite(column).all() or (not wide and (column < 0).any()):
            raise DataError(f"{name}: column {key}: expected finite numbers, none negative")
        columns[key] = column
    before, after = (len(columns.get(key, ())) for key in _ARRAYS[1:])
    if before != after:
        raise DataError(f"{name}: expected iou_before and iou_after of the same length but got {before} and {after}")
    return columns


def _from_file(path: Path) -> dict[str, np.ndarray]:
    try:
        if path.suffix == ".json":
            steps = [record["loss"] for record in json.loads(path.read_text(encoding="utf-8"))["history"]]
            tasks = [name for name in (steps[0] if steps else ()) if name != "total"]
            return {"loss_" + name.removeprefix("loss_"): np.array([step[name] for step in steps]) for name in tasks}
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: neither a history.json of a training nor an .npz file: {error!r:.100}") from None


def tasks_needed() -> Finding:
    """The finding where no log is given."""
    return Finding(
        imbalance=Imbalance.OBJECTIVE,
        key="tasks",
        value=None,
        severity=None,
        summary="How the loss is shared between classification and boxes cannot be told from annotations alone.",
        needs=(
            "the losses of a training: `detbalance train DATASET` writes history.json into its run, and "
            "`detbalance diagnose DATASET --log RUN/history.json` reads it"
        ),
        measure="share of the tasks: 1 - normalised entropy",
        headline=True,
    )


def _tasks(log: Mapping[str, np.ndarray], kind: str) -> dict[str, np.ndarray]:
    return {key[len(kind) + 1 :]: values for key, values in log.items() if key.startswith(kind + "_")}


def task_balance(log: Mapping[str, np.ndarray], *, target: np.ndarray | None = None) -> Finding | None:
    """1 - normalised entropy of the tasks' shares: of the gradient where it is logged, else of the loss.

    Balanced: every task has the same share (or the user's weights). Worst: one task has all. None without two tasks.
    """
    kind = "gradient" if len(_tasks(log, "gradient")) > 1 else "loss"
    tasks = _tasks(log, kind)
    if len(tasks) < 2:
        return None
    mean = np.array([values.mean() for values in tasks.values()])
    share = indices.normalise(mean)
    names = list(tasks)
    thirds = [
        indices.normalise(np.array([part.mean() for part in parts])) for parts in zip(*map(_thirds, tasks.values()))
    ]
    return Finding(
        imbalance=Imbalance.OBJECTIVE,
        key="tasks",
        value=float(indices.entropy_index(mean, target)),
        severity=None,
        measure=f"share of the tasks in the {kind}: 1 - normalised entropy",
        summary=(
            f"{names[int(share.argmax())]} has {percent(share.max())} of the {kind} over the training, "
            f"{names[int(share.argmin())]} {percent(share.min())}."
        ),
        tables=(
            Table(
                f"Share of the {kind}",
                ("part of the training", *names),
                tuple(
                    (part, *row.tolist()) for part, row in zip(("first third", "second third", "last third"), thirds)
                ),
                "bar",
            ),
        ),
        affected=tuple(name for name, part in zip(names, share) if part < 0.5 / len(names)),
        headline=True,
    )


def _thirds(values: np.ndarray) -> list[np.ndarray]:
    """Three parts, none of them empty."""
    return [part if len(part) else values for part in np.array_split(values, 3)]


def task_pace(log: Mapping[str, np.ndarray]) -> Finding | None:
    """How differently fast the tasks' losses fall: 1 - shortest / longest half-time (the review's figure 17).

    The half-time is the share of the training after which a smoothed loss has made half of its descent. Balanced: all
    tasks the same. Worst: one is done at once. None without two tasks of four steps.
    """
    tasks = {name: values for name, values in _tasks(log, "loss").items() if len(values) >= 4}
    if len(tasks) < 2:
        return None
    curves = {name: _smooth(values) for name, values in tasks.items()}
    half = {name: _half_time(curve) for name, curve in curves.items()}
    slow, fast = max(half, key=half.get), min(half, key=half.get)
    points = np.linspace(0, 1, 50)
    drawn = [np.interp(points, np.linspace(0, 1, len(curve)), curve) for curve in curves.values()]
    return Finding(
        imbalance=Imbalance.OBJECTIVE,
        key="pace",
        value=1 - half[fast] / half[slow] if half[slow] else 0.0,
        severity=None,
        measure="pace of the tasks: 1 - shortest / longest half-time",
        summary=(
            f"{fast} made half of its descent in {percent(half[fast])} of the training, {slow} in "
            f"{percent(half[slow])}."
        ),
        tables=(
            Table(
                "Losses of the tasks",
                ("share of the training", *tasks),
                tuple(zip(points.tolist(), *(curve.tolist() for curve in drawn))),
                "line",
                log=True,
                note="Smoothed; the review's figure 17.",
            ),
        ),
    )


def _smooth(values: np.ndarray) -> np.ndarray:
    """Running mean over a twentieth of the steps, shorter at the ends."""
    width = max(1, len(values) // 20)
    total = np.concatenate(([0.0], np.cumsum(values)))
    last = np.arange(1, len(values) + 1)
    first = np.maximum(last - width, 0)
    return (total[last] - total[first]) / (last - first)


def _half_time(curve: np.ndarray) -> float:
    """Share of the steps until half of the descent from the first to the lowest value; at least one step."""
    half = (curve[0] + curve.min()) / 2
    return float((np.argmax(curve <= half) + 1) / len(curve))
