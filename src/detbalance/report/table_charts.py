"""The chart that a finding's table asks for: bars, lines or a heat map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from ..diagnosis.finding import Table
from .charts import LABELS, Chart, Series, colour, is_numeric, label, lines, ticks, value_axis
from .wording import number

__all__ = ["from_table"]

NAMED = 16
"""names that get horizontal bars"""


def from_table(table: Table) -> Chart:
    """The chart that a finding's table asks for, with the table behind it."""
    rows = [tuple(row) for row in table.rows]
    numeric = [c for c in range(1, len(table.columns)) if is_numeric([row[c] for row in rows])]
    note = table.note
    if table.chart in ("bar", "line") and table.log and any(row[c] == 0 for row in rows for c in numeric):
        note = f"{note} A logarithmic axis cannot show zero; zeros are in the data table.".strip()
    draw = {"bar": _bars, "line": _curves, "heatmap": _heatmap}.get(table.chart)
    figure = draw(table, rows, numeric) if draw and rows and numeric else None
    return Chart(table.title, tuple(table.columns), rows, figure, note)


def _bars(table: Table, rows: list[tuple], numeric: list[int]) -> dict:
    """A few names get horizontal bars, beside which they can be read; bins and long lists stand side by side."""
    names = [number(row[0]) for row in rows]
    flat = len(names) <= NAMED and not any(name[:1].isdigit() for name in names)
    place, size = ("y", "x") if flat else ("x", "y")
    traces = [
        {
            "type": "bar",
            "orientation": "h" if flat else "v",
            "name": label(table.columns[c]),
            place: list(range(len(rows))),
            size: [row[c] for row in rows],
            "marker": {"color": colour(n)},
            "hovertext": [label(f"{name}: {number(row[c])} {table.columns[c]}", 200) for name, row in zip(names, rows)],
            "hoverinfo": "text",
        }
        for n, c in enumerate(numeric)
    ]
    places = ticks(names, every=1 if flat else math.ceil(len(names) / LABELS))
    places |= {"autorange": "reversed"} if flat else {"title": {"text": label(table.columns[0], 60)}}
    sizes = {
        "title": {"text": label(table.columns[numeric[0]], 60) if len(numeric) == 1 else ""},
        **value_axis(table.log),
    }
    if table.log:
        sizes["range"] = _log_range([row[c] for row in rows for c in numeric])
    layout = {
        f"{place}axis": places,
        f"{size}axis": sizes,
        "barmode": "group",
        "bargap": 0.1 if len(rows) > LABELS else 0.25 if len(rows) > 6 else 0.45,
        "hovermode": "closest",
        "showlegend": len(traces) > 1,
    }
    return {"data": traces, "layout": layout | ({"height": 90 + len(rows) * (10 + 18 * len(traces))} if flat else {})}


def _curves(table: Table, rows: list[tuple], numeric: list[int]) -> dict:
    x = [row[0] for row in rows]
    if not is_numeric(x):
        return _bars(table, rows, numeric)
    positive = [v for v in x if v is not None and v > 0]
    log_x = len(positive) == len(x) >= 5 and max(x) / min(x) >= 300
    series = [Series(table.columns[c], [row[c] for row in rows], colour(n), x=x) for n, c in enumerate(numeric)]
    y_title = table.columns[numeric[0]] if len(numeric) == 1 else ""
    few = len(rows) <= LABELS
    return lines(series, x_title=table.columns[0], y_title=y_title, log_y=table.log, log_x=log_x, dots=few)


def _heatmap(table: Table, rows: list[tuple], numeric: list[int]) -> dict:
    """Columns x, y, value. Rows of names, and of an image, run from the top."""
    xs, ys = (list(dict.fromkeys(row[c] for row in rows)) for c in (0, 1))
    if set(xs) == set(ys):
        ys = xs
    column, line = ({v: i for i, v in enumerate(vs)} for vs in (xs, ys))
    z: list[list[float | None]] = [[None] * len(xs) for _ in ys]
    for row in rows:
        z[line[row[1]]][column[row[0]]] = row[2]
    names = ["" if name in ("x", "y", "value") else name for name in table.columns]
    words = [
        [label(f"{names[0]} {number(x)}, {names[1]} {number(y)}: {number(v)}".strip(), 200) for x, v in zip(xs, r)]
        for y, r in zip(ys, z)
    ]
    if table.log:
        z = [[math.log10(v) if v and v > 0 else None for v in r] for r in z]
    even = _is_even(xs) and _is_even(ys)
    square = even and len(xs) == len(ys)
    from_top = not is_numeric(ys) or table.columns[1] == "y"
    x_axis, y_axis = {"title": {"text": label(names[0], 60)}}, {"title": {"text": label(names[1], 60)}}
    if not even:
        x_axis |= ticks([number(v) for v in xs], every=math.ceil(len(xs) / 24), length=16)
        y_axis |= ticks([number(v) for v in ys], every=math.ceil(len(ys) / 40), length=16)
    bar = {"title": {"text": label(names[2], 60), "side": "right"}, "thickness": 12, "outlinewidth": 0}
    trace = {
        "type": "heatmap",
        **({"x": xs, "y": ys} if even else {}),
        "z": z,
        "hovertext": words,
        "hoverinfo": "text",
        "colorscale": [[0, "var(--heat-0)"], [0.5, "var(--heat-1)"], [1, "var(--heat-2)"]],
        "colorbar": bar | (_decades(z) if table.log else {}),
        "xgap": 1,
        "ygap": 1,
    }
    layout = {
        "height": 420 if square else min(760, 150 + 22 * len(ys)),
        "hovermode": "closest",
        "xaxis": {**x_axis, "showgrid": False, "zeroline": False, "constrain": "domain"},
        "yaxis": {**y_axis, "showgrid": False, "zeroline": False, "constrain": "domain"}
        | ({"autorange": "reversed"} if from_top else {})
        | ({"scaleanchor": "x"} if square else {}),
    }
    return {"data": [trace], "layout": layout}


def _is_even(values: Sequence) -> bool:
    """Are they numbers at equal steps, as the cells of a numeric axis must be?"""
    if not is_numeric(values) or len(values) < 2 or None in values:
        return False
    step = (values[-1] - values[0]) / (len(values) - 1)
    return step > 0 and all(abs(b - a - step) < 1e-3 * step for a, b in pairwise(values))


def _decades(z: list[list[float | None]]) -> dict:
    """The colour bar of a logarithmic heat map is labelled with the values themselves."""
    known = [v for row in z for v in row if v is not None]
    if not known:
        return {}
    low, high = min(known), max(known)
    steps = [float(v) for v in range(math.ceil(low), math.floor(high) + 1)]
    if len(steps) < 2:  # less than a decade: its ends
        steps = sorted({low, high})
    return {"tickmode": "array", "tickvals": steps, "ticktext": [number(float(f"{10**v:.3g}")) for v in steps]}


def _log_range(values: Sequence[float | None]) -> list[float]:
    """Bars on a logarithmic axis stand on a power of ten; counts stand on 1."""
    known = [math.log10(v) for v in values if v is not None and v > 0] or [0.0]
    low = min(0.0, math.floor(min(known))) if min(known) >= 0 else math.floor(min(known))
    return [low, max(known) + 0.05 * (max(known) - low) + 0.02]
