"""The figures are what plotly accepts, and draw the numbers that they are given."""

import json
import math

import pytest

from detbalance.diagnosis.finding import Table
from detbalance.report.charts import LABELS, Series, label, lines, whisker_bars
from detbalance.report.table_charts import NAMED, from_table


def check(figure: dict) -> None:
    """plotly itself raises for a property or a value that it does not know."""
    go = pytest.importorskip("plotly.graph_objects")
    text = json.dumps(figure).replace('"var(--', '"#123456 (').split('"')
    go.Figure(json.loads('"'.join("#123456" if part.startswith("#123456 (") else part for part in text)))


BARS = Table("t", ("class", "boxes", "images"), (("cat", 100, 7), ("dog", 10, None)), "bar")
LINE = Table("t", ("iou", "count"), ((0.1, 5), (0.2, 3)), "line")
HEAT = Table("t", ("x", "y", "value"), ((0.1, 0.1, 1.0), (0.9, 0.1, 100.0), (0.1, 0.9, 0)), "heatmap")


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("table", [BARS, LINE, HEAT], ids=["bar", "line", "heatmap"])
def test_every_kind_of_table_is_a_valid_figure(table, log):
    check(from_table(Table(table.title, table.columns, table.rows, table.chart, log)).figure)


def test_every_kind_of_comparison_is_a_valid_figure():
    series = [Series("a", [1.0, None], "var(--series-1)", low=[0.5, None], high=[2, None], faint=[True, False])]
    check(whisker_bars(["x", "y"], series, title="points"))
    check(whisker_bars(["x", "y"], [Series("a", [1.0, 2.0], "var(--baseline)", hover=["p", "q"])], title="points"))
    check(lines([Series("a", [1.0, 2], "var(--ink)", x=[0, 1])] * 2, x_title="x", y_title="y", log_y=True, dots=True))


def test_bars_keep_names_apart_that_are_alike():
    names = ("1", "1.0", "2020-01-01", "1")
    figure = from_table(Table("t", ("class", "n"), tuple((n, i) for i, n in enumerate(names)), "bar")).figure
    axis = figure["layout"]["xaxis"]
    assert axis["ticktext"] == list(names)
    assert axis["tickvals"] == figure["data"][0]["x"] == [0, 1, 2, 3]


def test_few_names_lie_beside_their_bars_and_bins_stand():
    few = from_table(Table("t", ("class", "n"), tuple((f"c{i}", 1) for i in range(NAMED)), "bar")).figure
    many = from_table(Table("t", ("class", "n"), tuple((f"c{i}", 1) for i in range(NAMED + 1)), "bar")).figure
    bins = from_table(Table("t", ("size", "n"), (("0 to 1", 2), ("1 to 2", 3)), "bar")).figure
    assert [f["data"][0]["orientation"] for f in (few, many, bins)] == ["h", "v", "v"]


def test_long_axes_are_thinned_but_no_bar_is_lost():
    figure = from_table(Table("t", ("class", "n"), tuple((f"c{i}", i) for i in range(1203)), "bar")).figure
    assert len(figure["layout"]["xaxis"]["tickvals"]) <= LABELS
    assert len(figure["data"][0]["y"]) == 1203


def test_bars_on_a_logarithmic_axis_stand_on_a_power_of_ten():
    def low(*values):
        rows = tuple((f"c{i}", v) for i, v in enumerate(values))
        return from_table(Table("t", ("c", "n"), rows, "bar", log=True)).figure["layout"]["xaxis"]["range"][0]

    assert low(3, 70000) == 0
    assert low(0.004, 2) == -3
    assert low(0, 5) == 0
    assert low(0, 0) == 0


def test_zeros_on_a_logarithmic_axis_are_mentioned():
    assert "cannot show zero" in from_table(Table("t", ("c", "n"), (("a", 0), ("b", 5)), "bar", log=True)).note
    assert "cannot show zero" not in from_table(Table("t", ("c", "n"), (("a", 1), ("b", 5)), "bar", log=True)).note
    assert "cannot show zero" not in from_table(Table("t", ("c", "n"), (("a", 0), ("b", 5)), "bar")).note


def test_heat_map_puts_each_value_in_its_place():
    figure = from_table(HEAT).figure
    assert figure["data"][0]["z"] == [[1.0, 100.0], [0, None]]
    assert figure["layout"]["yaxis"]["autorange"] == "reversed"  # y of an image runs down
    logarithmic = from_table(Table("t", HEAT.columns, HEAT.rows, "heatmap", log=True)).figure["data"][0]
    assert logarithmic["z"] == [[0.0, 2.0], [None, None]]
    assert logarithmic["colorbar"]["ticktext"] == ["1", "10", "100"]
    narrow = Table("t", HEAT.columns, ((0, 0, 198), (1, 0, 344)), "heatmap", log=True)
    assert from_table(narrow).figure["data"][0]["colorbar"]["ticktext"] == ["198", "344"]


def test_a_wide_range_of_x_is_drawn_logarithmically():
    def kind(*xs):
        return (
            from_table(Table("t", ("x", "n"), tuple((x, 1) for x in xs), "line")).figure["layout"]["xaxis"].get("type")
        )

    assert kind(1e-4, 1e-3, 1e-2, 0.1, 1) == "log"
    assert kind(0, 1e-3, 1e-2, 0.1, 1) is None
    assert kind(1, 2, 3, 4, 5) is None


@pytest.mark.parametrize("rows", [(), (("a", None),), (("a", "text"),)])
def test_what_cannot_be_drawn_stays_a_table(rows):
    chart = from_table(Table("t", ("class", "n"), rows, "bar"))
    assert chart.figure is None
    assert chart.rows == list(rows)


def test_labels_stay_text_and_short():
    assert label("<b>a</b> & <i>") == "&lt;b&gt;a&lt;/b&gt; &amp; &lt;i&gt;"
    assert label("x" * 50) == "x" * 19 + "…" + "x" * 8
    names = [t["name"] for t in from_table(Table("t", ("c", "<script>"), (("<b>", 1),), "bar")).figure["data"]]
    assert names == ["&lt;script&gt;"]


def test_whiskers_are_distances_from_the_value():
    bar = whisker_bars(["x"], [Series("a", [1.0], "c", low=[-0.5], high=[4.0])], title="t")["data"][0]
    assert (bar["error_x"]["array"], bar["error_x"]["arrayminus"]) == ([3.0], [1.5])
    assert not math.isnan(bar["error_x"]["array"][0])
