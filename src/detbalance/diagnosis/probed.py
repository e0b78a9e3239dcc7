"""What drove a training (review, 6.2, 7.2, 9.1), from the probes that it left: shares of loss and gradient."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np

from ..data.annotations import DataError
from ..taxonomy import Imbalance
from . import indices
from .finding import Finding, Table
from .scale import SIZES
from .wording import percent

__all__ = ["check_probes", "conflict", "driven"]

_COLUMNS = ("candidates", "weight", "class loss", "box loss", "class gradient", "box gradient")
_KINDS = {"side": 2, "class": None, "size": 4, "iou": 10, "level": 8}
_SUMS = len(_COLUMNS)


def check_probes(name: str, columns: Mapping[str, np.ndarray]) -> None:
    """Raise DataError for columns of a probe that have another form than it writes."""
    schema = str(columns.get("probe.schema", ""))
    if schema != "detbalance.probes/1":
        raise DataError(f"{name}: expected probe.schema 'detbalance.probes/1' but got {schema!r}")
    for key, column in columns.items():
        *_, kind = key.split(".")
        if key.count(".") == 2 and kind in _KINDS:
            bins = _KINDS[kind] or column.shape[-1]
            good = column.ndim == 3 and column.shape[1:] == (_SUMS, bins) and len(column)
            if not good or not np.isfinite(column).all():
                raise DataError(f"{name}: column {key}: expected (T, {_SUMS}, {bins}) but got {column.shape}")


def driven(log: Mapping[str, np.ndarray], classes: tuple[str, ...] = ()) -> list[Finding]:
    """How the gradient that trained the detector's head is shared out; nothing without probes."""
    head = next((key[:-5] for key in sorted(log) if key.startswith("probe.head") and key.endswith(".side")), None)
    if head is None:
        return []
    named = tuple(str(name) for name in log.get("probe.classes", ())) or classes
    tables = {kind: log[f"{head}.{kind}"].astype(np.float64).sum(0) for kind in _KINDS if f"{head}.{kind}" in log}
    found = [_sides(tables["side"], log, head)] if tables["side"][4:].any() else []
    if "class" in tables:
        number = tables["class"].shape[1] - 1
        names = named if len(named) == number else tuple(f"class {k}" for k in range(1, number + 1))
        found.append(
            _shared(Imbalance.FOREGROUND_FOREGROUND, "driven_classes", "classes", names, tables["class"][:, 1:])
        )
    if "size" in tables:
        found.append(_shared(Imbalance.OBJECT_SCALE, "driven_sizes", "object sizes", SIZES, tables["size"][:, 1:]))
    if "level" in tables:
        table = tables["level"][:, : np.flatnonzero(tables["level"][0])[-1] + 1 if tables["level"][0].any() else 1]
        names = tuple(f"level {i}" for i in range(table.shape[1]))
        found.append(_shared(Imbalance.FEATURE_LEVEL, "driven_levels", "pyramid levels", names, table))
    if "iou" in tables:
        names = tuple(f"IoU {i / 10:.1f} to {(i + 1) / 10:.1f}" for i in range(5, 10))
        found.append(
            _shared(Imbalance.IOU_DISTRIBUTION, "driven_ious", "IoUs from 0.5 on", names, tables["iou"][:, 5:])
        )
    if f"{head}.places" in log:
        found.append(_places(log[f"{head}.places"].astype(np.float64).sum(0)))
    return [finding for finding in found if finding is not None]


def _rows(names: tuple[str, ...], table: np.ndarray) -> tuple[tuple, ...]:
    """Each name with its shares of the candidates, their weight, the loss and the gradient, class and box together."""
    parts = [table[0], table[1], table[2] + table[3], table[4] + table[5]]
    return tuple(zip(names, *(indices.normalise(part).tolist() for part in parts)))


_HEADS = ("share of the candidates", "share of the weight", "share of the loss", "share of the gradient")


def _sides(table: np.ndarray, log: Mapping[str, np.ndarray], head: str) -> Finding:
    gradient = table[4] + table[5]
    share, row = indices.normalise(gradient), _rows(("background", "objects"), table)
    steps = log[f"{head}.side"].astype(np.float64)
    over = indices.normalise(steps[:, 4] + steps[:, 5])[:, 1].tolist()
    return Finding(
        imbalance=Imbalance.FOREGROUND_BACKGROUND,
        key="driven_foreground",
        value=float(indices.log_ratio_index(*gradient)),
        severity=None,
        measure="gradient of background to that of objects (log ratio)",
        summary=(
            f"Background is {percent(row[0][1])} of the candidates that trained; it sent {percent(share[0])} of the "
            f"gradient, objects {percent(share[1])}."
        ),
        tables=(
            Table("What drove the head: background and objects", ("", *_HEADS), row, "bar"),
            Table(
                "Share of the gradient that objects sent",
                ("step", "share of the gradient"),
                tuple(zip(log["probe.step"].tolist(), over)),
                "line",
            ),
        ),
    )


def _shared(problem: Imbalance, key: str, what: str, names: tuple[str, ...], table: np.ndarray) -> Finding | None:
    """1 - normalised entropy of the gradient's shares; None where there is nothing to share among."""
    gradient = table[4] + table[5]
    if len(names) < 2 or not gradient.any():
        return None
    share = indices.normalise(gradient)
    return Finding(
        imbalance=problem,
        key=key,
        value=float(indices.entropy_index(gradient)),
        severity=None,
        measure=f"gradient of the {what}: 1 - normalised entropy",
        summary=(
            f"Among the {what}, {percent(share.max())} of the head's gradient came from {names[int(share.argmax())]}, "
            f"{percent(share.min())} from {names[int(share.argmin())]}."
        ),
        tables=(Table(f"What drove the head: {what}", (what, *_HEADS), _rows(names, table), "bar"),),
        affected=tuple(name for name, part in zip(names, share) if part < 0.5 / len(names))[:5],
    )


def _places(table: np.ndarray) -> Finding | None:
    """`table` (2, 2, G, G): background and objects, number and weight."""
    counts = table[1, 0]
    if not counts.any():
        return None
    share, cells = indices.normalise(counts.ravel()), counts.shape[0]
    value = indices.total_variation(share, np.full(share.size, 1 / share.size)) / (1 - 1 / share.size)
    maps = (("objects trained", table[1, 1]), ("background trained", table[0, 1]))
    return Finding(
        imbalance=Imbalance.LOCATION,
        key="driven_places",
        value=float(value),
        severity=None,
        measure=f"places of the positives that trained, {cells} x {cells} (total variation)",
        summary=(
            f"A tenth of the image's area holds {percent(np.sort(share)[-max(1, share.size // 10) :].sum())} of the "
            f"positives that trained."
        ),
        tables=tuple(
            Table(
                f"Where {name}",
                ("x", "y", "value"),
                tuple(
                    ((x + 0.5) / cells, (y + 0.5) / cells, float(indices.normalise(weight.ravel())[y * cells + x]))
                    for y in range(cells)
                    for x in range(cells)
                ),
                "heatmap",
                note="Share of the weight by the centre of the candidate, in widths and heights of the image.",
            )
            for name, weight in maps
        ),
    )


def conflict(log: Mapping[str, np.ndarray]) -> Finding | None:
    """Share of the steps and pairs of tasks whose gradients at the shared features point against each other."""
    if "probe.cosine" not in log:
        return None
    cosine = log["probe.cosine"].astype(np.float64)
    tasks = [str(name) for name in log["probe.tasks"][0]]
    pairs = list(combinations(range(len(tasks)), 2))
    if not pairs:
        return None
    curves = {f"{tasks[i]} and {tasks[j]}": cosine[:, i, j] for i, j in pairs}
    against = {name: float((curve < 0).mean()) for name, curve in curves.items()}
    worst = max(against, key=against.get)
    steps = log["probe.step"].tolist()
    return Finding(
        imbalance=Imbalance.OBJECTIVE,
        key="conflict",
        value=float(np.mean(list(against.values()))),
        severity=None,
        measure="share of the steps in which two tasks pull against each other",
        summary=f"{worst} pull against each other at the shared features in {percent(against[worst])} of the steps.",
        tables=(
            Table(
                "Cosine of the angle between the tasks' gradients",
                ("step", *curves),
                tuple(zip(steps, *(curve.tolist() for curve in curves.values()))),
                "line",
                note="Below 0 they pull against each other.",
            ),
        ),
    )
