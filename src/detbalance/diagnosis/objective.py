"""Objective imbalance (review, section 7): one task's loss drowns another's. It needs a log of a training (log.py)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..taxonomy import Imbalance
from . import indices
from .finding import Finding, Table
from .wording import percent

__all__ = ["task_balance", "task_pace", "tasks_needed"]


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
    tasks = {name: np.abs(values) for name, values in tasks.items()}
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
            *_sizes(log),
        ),
        affected=tuple(name for name, part in zip(names, share) if part < 0.5 / len(names)),
        headline=True,
    )


def _sizes(log: Mapping[str, np.ndarray]) -> list[Table]:
    """Loss and gradient of each task side by side, where both are logged (the review's figure 16)."""
    loss, gradient = _tasks(log, "loss"), _tasks(log, "gradient")
    names = [name for name in gradient if name in loss]
    if not names:
        return []
    return [
        Table(
            "Mean loss and gradient of the tasks",
            ("task", "loss", "gradient", "spread of the loss", "spread of the gradient"),
            tuple((n, *(float(f(part[n])) for f in (np.mean, np.std) for part in (loss, gradient))) for n in names),
            "bar",
            note="Gradients are norms at the shared features; the spread is over the steps (the review's figure 16).",
        )
    ]


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
            if half[fast] < half[slow]
            else f"All tasks made half of their descent in {percent(half[slow])} of the training."
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
