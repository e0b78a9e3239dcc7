"""What a measure returns: an index of imbalance, how bad it is, and the numbers behind it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

from ..taxonomy import Imbalance

__all__ = ["Finding", "Severity", "Table"]


class Severity(IntEnum):
    """How bad an imbalance is; ordered, so that `finding.severity >= Severity.STRONG` can be asked.

    >>> Severity["STRONG"] > Severity.MILD
    True
    """

    NONE = 0
    MILD = 1
    STRONG = 2
    EXTREME = 3


@dataclass(frozen=True)
class Table:
    """Numbers behind a finding, and how they are best drawn. Column 0 is the axis, the others are series.

    A heat map has the columns ("x", "y", "value").
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple, ...]
    chart: Literal["bar", "line", "heatmap", "none"] = "none"
    log: bool = False
    """draw the values on a logarithmic axis"""
    note: str = ""
    """what to see in it, in one sentence"""


@dataclass(frozen=True)
class Finding:
    """One measure of one imbalance."""

    imbalance: Imbalance
    value: float | None
    """index in [0, 1], 0 is balanced; None where what it needs is missing (see `needs`)"""
    severity: Severity | None
    summary: str
    """one sentence for a reader who does not know the literature, with the numbers that matter"""
    tables: tuple[Table, ...] = ()
    needs: str = ""
    """what is missing for a value, and the command that provides it; "" when nothing is"""
    key: str = ""
    """short stable name, such as "classes": the key of thresholds and targets, and of the JSON"""
    measure: str = ""
    """name of the index, such as "classes: 1 - normalised entropy" """
    interval: tuple[float, float] | None = None
    """95 % bootstrap interval over images"""
    affected: tuple[str, ...] = ()
    """classes or sizes that suffer most"""
    headline: bool = False
    """is this the finding that stands for its imbalance at the top of the report?"""
