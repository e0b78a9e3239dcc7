"""Two datasets side by side: their names, and their tables in one chart where that can be read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from ..diagnosis.finding import Finding, Table
from .wording import dataset_name

__all__ = ["names_of", "partner", "side_by_side"]


def names_of(diagnosis: Any, against: Any) -> tuple[str, str]:
    """Short names of the dataset and of the one that stands beside it; distinct."""
    facts = [getattr(d, "dataset", None) or {} for d in (diagnosis, against)]
    splits = [" ".join(f.get("splits") or ()) if len(f.get("splits") or ()) == 1 else "" for f in facts]
    names = [f"{dataset_name(f.get('source')) or 'Dataset'} {split}".strip() for f, split in zip(facts, splits)]
    if against is not None and names[0] == names[1]:
        names = [f"{PurePath(str(f.get('source', ''))).parent.name}/{name}" for f, name in zip(facts, names)]
    return names[0], names[1] if names[0] != names[1] else f"{names[1]} (other)"


def partner(finding: Finding, others: Iterable[Finding]) -> Finding | None:
    """The same measure of the other dataset."""
    return next(
        (f for f in others if (f.key, f.measure, f.headline) == (finding.key, finding.measure, finding.headline)), None
    )


def side_by_side(table: Table, other: Table | None, names: tuple[str, str]) -> list[Table]:
    """The tables of two datasets: as one where each has a single series, else one after the other."""
    if other is None or table.columns != other.columns:
        return [table]
    if table.chart not in ("bar", "line") or len(table.columns) != 2:
        return [replace(t, title=f"{t.title}, {name}") for t, name in zip((table, other), names)]
    here, there = dict(table.rows), dict(other.rows)
    rows = tuple((key, here.get(key), there.get(key)) for key in dict.fromkeys((*here, *there)))
    return [replace(table, columns=(table.columns[0], *(f"{table.columns[1]}, {name}" for name in names)), rows=rows)]
