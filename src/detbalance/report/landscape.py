"""Losses side by side, for reading: value and gradient over each quantity, and what gradient descent makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..diagnosis.finding import Table
from .charts import Chart, Series, colour, lines
from .page import render
from .table_charts import from_table

__all__ = ["build", "charts_of"]

RADIUS = 3.0  # of the disc in which the simulation's anchors lie


def build(views: Sequence[Any], descents: Mapping[str, Any] | None = None) -> str:
    """The whole page.

    Args:
        views: as from `landscape.views`.
        descents: as from `simulation.simulate`, or None.
    """
    sections = charts_of(views, descents)
    names = list(dict.fromkeys(curve.name for view in views for curve in view.curves))
    return render(
        "landscape.html.j2",
        title=names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}",
        sections=sections,
        contents=[(section["id"], section["title"]) for section in sections],
    )


def charts_of(views: Sequence[Any], descents: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """The sections of the page: id, title, note, and their charts. A loss has the same colour in all of them."""
    names = dict.fromkeys(curve.name for view in views for curve in view.curves)
    paint = {name: colour(i) for i, name in enumerate(names)}
    sections = [
        {
            "id": view.key,
            "title": view.title,
            "note": view.note,
            "charts": [_chart(view, "value", paint), _chart(view, "gradient", paint)],
        }
        for view in views
    ]
    return [*sections, _descents(descents, paint)] if descents else sections


def _chart(view: Any, what: str, paint: Mapping[str, str]) -> Chart:
    series = [Series(c.name, getattr(c, what).tolist(), paint[c.name], x=c.x.tolist()) for c in view.curves]
    title = "Loss" if what == "value" else f"Gradient by the {view.slope}"
    return _lines(title, view.x_name, series)


def _lines(title: str, x_name: str, series: Sequence[Series]) -> Chart:
    """A chart, and the table of its numbers. All series have the same axis."""
    rows = list(zip(series[0].x, *(s.values for s in series)))
    figure = lines(series, x_title=x_name, y_title=title)
    return Chart(title, (x_name, *(s.name for s in series)), rows, figure)


def _descents(descents: Mapping[str, Any], paint: Mapping[str, str]) -> dict[str, Any]:
    charts = []
    for title, part in (("Mean error", "error"), ("Mean IoU", "iou")):
        series = [
            Series(name, values, paint[name], x=range(len(values)))
            for name, found in descents.items()
            for values in [getattr(found, part).tolist()]
        ]
        charts.append(_lines(title, "iteration", series))
    for name, found in descents.items():
        cells = found.place.tolist()
        middle = [round(RADIUS * ((2 * i + 1) / len(cells) - 1), 3) for i in range(len(cells))]
        known = [[v if v == v else None for v in row] for row in cells]
        rows = tuple((x, y, v) for y, row in zip(middle, known) for x, v in zip(middle, row))
        note = "By where the anchor began; the target is in the middle."
        table = Table(f"{name}: error at the end", ("x", "y", "value"), rows, "heatmap", note=note)
        charts.append(from_table(table))
    return {
        "id": "simulation",
        "title": "Simulation",
        "note": "Boxes of many places, sizes and shapes are moved by the gradient of the loss alone, 0.1 (2 - IoU) of "
        "it a step and less at the end (Zheng et al., Distance-IoU Loss, algorithm 1). The error is |x| + |y| + |w| + "
        "|h| off; the targets have area 1.",
        "charts": charts,
    }
