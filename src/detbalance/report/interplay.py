"""The page on which one candidate is slid, and every index and every loss answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ..taxonomy import Imbalance
from .charts import Chart, Series, colour, lines
from .page import render

__all__ = ["build"]

SHOWN = "class share"
"""the measure that the chart starts with"""


def build(plays: Sequence[Any], scene: Any, measures: Mapping[str, str]) -> str:
    """The whole page.

    Args:
        plays: as from `interplay.play`, one a recipe, all over the same states.
        scene: what they were played on.
        measures: of `interplay.MEASURES`.
    """
    first = plays[0]
    start = {name: len(getattr(first, name)) // 2 for name in ("shifts", "scales", "scores")}
    return render(
        "interplay.html.j2",
        script="interplay.js",
        title="The interplay of the imbalances",
        contents=[("scene", "The scene"), ("slide", "Along the slide")],
        recipes=[play.recipe for play in plays],
        colours=[colour(i) for i in range(len(plays))],
        problems=[(f"index {problem.value}", problem) for problem in Imbalance],
        losses=[(name, measures[name]) for name in ("class loss", "box loss", "class share", "box share")],
        numbers=[(name, measures[name]) for name in ("positives", "negatives")],
        measures=measures,
        shown=SHOWN,
        axes={name: len(getattr(first, name)) - 1 for name in start},
        start=start,
        chart=_chart(plays, start, measures),
        data={
            "scene": asdict(scene),
            "background": scene.background().tolist(),
            "shifts": first.shifts,
            "scales": first.scales,
            "labels": first.labels,
            "scores": first.scores,
            "measures": dict(measures),
            "recipes": [
                {
                    "name": play.recipe,
                    "colour": colour(i),
                    "values": {name: np.round(table.astype(float), 4).ravel() for name, table in play.values.items()},
                }
                for i, play in enumerate(plays)
            ],
        },
    )


def _chart(plays: Sequence[Any], start: Mapping[str, int], measures: Mapping[str, str]) -> Chart:
    """The measure over the shift, as the page opens; the script redraws it."""
    place = (slice(None), start["scales"], 0, start["scores"])
    series = [
        Series(play.recipe, np.round(play.values[SHOWN][place].astype(float), 4).tolist(), colour(i), x=play.shifts)
        for i, play in enumerate(plays)
    ]
    return Chart(
        title="One measure over the whole slide",
        columns=("shift", *(s.name for s in series)),
        rows=list(zip(plays[0].shifts, *(s.values for s in series))),
        figure=lines(series, x_title="shift to the right, widths of the object", y_title=measures[SHOWN]),
        note="Size, class and score as set above; the dotted line is where the candidate stands. The table below the "
        "chart holds what the page opened with.",
    )
