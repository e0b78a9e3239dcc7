"""Charts as plain dictionaries that the inlined plotly.js draws: plotly itself need not be imported for them.

Colours are names of the style sheet, "var(--series-1)", which the page's script resolves: light and dark lie in one
place.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Chart", "Series", "colour", "is_numeric", "label", "lines", "ticks", "value_axis", "whisker_bars"]

COLOURS = 8
"""series colours in the style sheet"""
CROWDED = 24
"""bars that need the whole width of the page"""
LABELS = 40
"""labels that fit below a chart; with more, every second or third is written"""


@dataclass(frozen=True)
class Chart:
    """What the page shows of one set of numbers: a figure, or only the table when there is nothing to draw."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence]
    figure: dict | None = None
    note: str = ""
    """what to see in it"""
    short: str = ""
    """what a button says that chooses it among others"""

    @property
    def wide(self) -> bool:
        """Does it need the whole width of the page?"""
        if self.figure is None:
            return len(self.columns) > 5
        if not self.figure["data"]:
            return False
        first = self.figure["data"][0]
        return first["type"] == "bar" and first["orientation"] == "v" and len(first["x"]) > CROWDED


@dataclass(frozen=True)
class Series:
    """One colour of a chart. `low` and `high` are the ends of the intervals, where there are any."""

    name: str
    values: Sequence[float | None]
    colour: str
    x: Sequence[float] = ()
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()
    faint: Sequence[bool] = ()
    hover: Sequence[str] = field(default=())
    width: float = 2


def colour(index: int) -> str:
    """The colour of the index-th series; they repeat after eight."""
    return f"var(--series-{index % COLOURS + 1})"


def whisker_bars(names: Sequence[str], series: Sequence[Series], *, title: str) -> dict:
    """Groups of horizontal bars, one group a name, with intervals; values in points. Faint bars may be chance."""
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": label(s.name),
            "y": list(range(len(names))),
            "x": list(s.values),
            "marker": {"color": s.colour, "opacity": [0.38 if f else 1 for f in s.faint] or 1},
            "error_x": _whiskers(s),
            "hovertext": [label(text, 200) for text in s.hover],
            "hoverinfo": "text",
        }
        for s in series
    ]
    rows = len(names) * (len(series) * 13 + 12)
    return {
        "data": traces,
        "layout": {
            "barmode": "group",
            "bargap": 0.3,
            "height": 110 + rows,
            "hovermode": "closest",
            "xaxis": {"title": {"text": label(title, 60)}, "zeroline": True},
            "yaxis": {**ticks(names, every=1), "autorange": "reversed"},
            "showlegend": len(series) > 1,
        },
    }


def _whiskers(series: Series) -> dict:
    if not series.low:
        return {"visible": False}
    ends = list(zip(series.values, series.low, series.high))
    return {
        "type": "data",
        "symmetric": False,
        "array": [None if None in e else e[2] - e[0] for e in ends],
        "arrayminus": [None if None in e else e[0] - e[1] for e in ends],
        "thickness": 1.5,
        "width": 3,
        "color": "var(--ink)",
    }


def lines(
    series: Sequence[Series],
    *,
    x_title: str,
    y_title: str,
    log_y: bool = False,
    log_x: bool = False,
    dots: bool = False,
) -> dict:
    """Lines over a numeric axis; series of one name share their entry in the legend."""
    named: set[str] = set()
    traces = []
    for s in series:
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers" if dots else "lines",
                "name": label(s.name),
                "legendgroup": label(s.name),
                "showlegend": s.name not in named,
                "x": list(s.x),
                "y": [None if log_y and v == 0 else v for v in s.values],
                "line": {"color": s.colour, "width": s.width},
                "opacity": 1 if s.width >= 2 else 0.55,
                "marker": {"size": 6, "color": s.colour},
                **({"hovertext": [label(t, 200) for t in s.hover], "hoverinfo": "text"} if s.hover else {}),
            }
        )
        named.add(s.name)
    return {
        "data": traces,
        "layout": {
            "xaxis": {"title": {"text": label(x_title, 60)}, **({"type": "log", "dtick": 1} if log_x else {})},
            "yaxis": {"title": {"text": label(y_title, 60)}, **value_axis(log_y)},
            "showlegend": len(named) > 1,
        },
    }


def ticks(names: Sequence[str], *, every: int, length: int = 28) -> dict:
    """Names along an axis of positions: as a category axis they would be read as numbers or dates, and merged."""
    kept = range(0, len(names), max(1, every))
    texts = [label(names[i], length) for i in kept]
    return {"tickmode": "array", "tickvals": list(kept), "ticktext": texts, "zeroline": False, "showgrid": False}


def value_axis(log: bool) -> dict:
    """An axis of values: from zero, or logarithmic."""
    return {"type": "log", "dtick": 1} if log else {"rangemode": "tozero"}


def is_numeric(values: Sequence[Any]) -> bool:
    """Are all that are known numbers?"""
    known = [v for v in values if v is not None]
    return bool(known) and all(not isinstance(v, (str, bool)) and hasattr(v, "__float__") for v in known)


def label(text: Any, length: int = 28) -> str:
    """Text for Plotly, which reads some HTML in labels: it stays the text that it is. Long text loses its middle.

    >>> label("<script>"), label("a very long name of a class (4,155)", 20)
    ('&lt;script&gt;', 'a very long… (4,155)')
    """
    text = str(text)
    return html.escape(text if len(text) <= length else f"{text[: length - 9]}…{text[-8:]}", quote=False)
