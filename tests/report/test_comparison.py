"""What the comparison's page says follows from its numbers."""

import re

import pytest

from detbalance import report
from detbalance.report.comparison import _forest
from detbalance.report.comparison_charts import CURVE_POINTS, comparison_charts
from detbalance.report.verdicts import verdict


def text_of(html: str) -> str:
    """The words of a page, without scripts and tags."""
    html = re.sub(r"<(script|style)\b.*?</\1>", " ", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


@pytest.mark.parametrize(
    ("low", "mean", "high", "word"),
    [
        (0.001, 0.02, 0.04, "helped"),
        (0.0, 0.02, 0.04, "unknown"),  # zero belongs to the interval
        (-0.01, 0.02, 0.05, "unknown"),
        (-0.01, -0.002, 0.0049, "same"),  # a gain of half a point is ruled out
        (-0.01, -0.002, 0.005, "unknown"),
        (-0.03, -0.02, -0.001, "worse"),
        (-0.03, -0.02, 0.0, "same"),
    ],
)
def test_verdict_follows_from_the_interval_alone(low, mean, high, word):
    assert verdict("x", {"mean": 0.9, "difference": {"mean": mean, "low": low, "high": high}}).word == word


@pytest.mark.parametrize("ap", [None, {}, {"mean": 0.5}, {"mean": 0.5, "difference": None}])
def test_without_an_interval_nothing_is_claimed(ap):
    assert verdict("x", ap).word == "unknown"


def test_the_page_names_what_helped_first(results):
    words = text_of(report.comparison_page(results))
    assert "libra helped; for pisa these runs cannot tell." in words
    assert words.index("Cannot tell") < words.index("AP by class")
    ap = results["recipes"]["libra"]["metrics"]["AP"]
    assert f"{100 * ap['mean']:.1f} ± {100 * ap['spread']:.1f}" in words


def test_a_failed_run_is_shown_with_its_error(results):
    html = report.comparison_page(results)
    assert "1 run did not finish" in html
    assert "loss became &lt;nan&gt; at step 120" in html
    assert "2 of 3" in text_of(html)


def test_when_every_run_failed_the_page_still_tells(results):
    for recipe in results["recipes"].values():
        for run in recipe["runs"]:
            run.update(status="failed", error="out of memory", metrics=None, curves=None)
        for part in ("metrics", "by_class", "by_size", "tide", "score_by_iou", "false_positives"):
            recipe[part] = {}
    words = text_of(report.comparison_page(results))
    assert "9 runs did not finish" in words
    assert "no run of it finished" in words
    assert "No remedy is shown to help on this data: for libra and pisa these runs cannot tell." in words


def test_hostile_names_stay_text(results):
    results["dataset"]["source"] = "data/<img src=x onerror=alert(1)>"
    results["recipes"]["</script><b>"] = results["recipes"].pop("pisa")
    html = report.comparison_page(results)
    for raw in ("<script>alert(1)", "<img src=x", "</script><b>", "<nan>"):
        assert raw not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def test_each_missing_part_leaves_out_its_section_only(results):
    for key in list(results):
        report.comparison_page({k: v for k, v in results.items() if k != key})
    for key in list(results["recipes"]["libra"]):
        recipes = {n: {k: v for k, v in r.items() if k != key} for n, r in results["recipes"].items()}
        html = report.comparison_page(results | {"recipes": recipes})
        assert ('id="classes"' in html) == (key != "by_class")
        assert ('id="errors"' in html) == (key != "tide")
    for nothing in ({}, {"recipes": {}}, {"recipes": {"baseline": {}}}, {"recipes": {"baseline": None, "a": None}}):
        report.comparison_page(nothing)


def test_metrics_that_are_null_leave_gaps(results):
    for recipe in results["recipes"].values():
        recipe["metrics"]["AP_small"] = {"mean": None, "spread": None, "values": [None] * 3, "difference": None}
        recipe["by_size"]["small"] = {"mean": None, "spread": None, "values": [], "difference": None}
    html = report.comparison_page(results)
    assert "AP small" not in text_of(html)


def test_one_seed_is_called_what_it_is(results):
    one, several = (text_of(report.comparison_page(results | {"seeds": seeds})) for seeds in ([0], [0, 1, 2]))
    for sign in ("Only one seed was run", "In one training of each, libra helped"):
        assert sign in one
        assert sign not in several


def test_forest_places_dots_in_proportion(results):
    forest = _forest(list(results["recipes"]), results["recipes"])
    d = {n: results["recipes"][n]["metrics"]["AP"]["difference"] for n in ("libra", "pisa")}
    scale = (forest["marks"]["libra"]["mean"] - forest["zero"]) / d["libra"]["mean"]
    for name, marks in forest["marks"].items():
        for end in ("low", "mean", "high"):
            assert marks[end] == pytest.approx(forest["zero"] + scale * d[name][end], abs=0.02)
            assert 0 <= marks[end] <= 100
    assert set(forest["marks"]) == {"libra", "pisa"}
    assert 2 <= len(forest["ticks"]) <= 7


def charts_of(results):
    names = list(results["recipes"])
    return comparison_charts(names, results["recipes"], "baseline", dict.fromkeys(names, "var(--series-1)"))


def test_differences_carry_their_interval_and_fade_where_it_spans_zero(results):
    trace = charts_of(results)["classes"][0].figure["data"][0]
    assert trace["name"] == "libra"
    for i, cls in enumerate(("RBC", "WBC", "Platelets")):
        d = results["recipes"]["libra"]["by_class"][cls]["difference"]
        assert trace["x"][i] == pytest.approx(100 * d["mean"], abs=1e-3)
        assert trace["x"][i] + trace["error_x"]["array"][i] == pytest.approx(100 * d["high"], abs=2e-3)
        assert trace["x"][i] - trace["error_x"]["arrayminus"][i] == pytest.approx(100 * d["low"], abs=2e-3)
        assert trace["marker"]["opacity"][i] == (1 if d["low"] > 0 or d["high"] < 0 else 0.38)


def test_lower_is_better_is_said_of_tide_and_only_there(results):
    charts = charts_of(results)
    assert all("lower is better" in c.title for c in charts["errors"])
    assert not any("lower is better" in c.title + c.note for c in charts["classes"] + charts["sizes"])


def test_the_baseline_alone_has_no_differences(results):
    results["recipes"] = {"baseline": results["recipes"]["baseline"]}
    assert [c.short for c in charts_of(results)["sizes"]] == ["By size: each recipe", "By frequency: each recipe"]
    assert "Only the baseline was trained" in report.comparison_page(results)


def test_many_classes_become_dots_over_their_number(results):
    for recipe in results["recipes"].values():
        recipe["by_class"] = {f"class {i}": dict(recipe["by_class"]["RBC"], train_boxes=i) for i in range(1, 81)}
    difference, absolute = charts_of(results)["classes"]
    assert difference.figure["data"][0]["mode"] == "markers"
    assert sorted(difference.figure["data"][0]["x"]) == list(range(1, 81))
    assert absolute.figure is None
    assert len(absolute.rows) == 80


def test_curves_are_means_of_their_steps(results):
    raw = results["recipes"]["baseline"]["runs"][0]["curves"]
    raw["step"] = list(range(1000))
    raw["loss"] = {"total": [float(i) for i in range(1000)]}
    raw["lr"] = []
    (chart,) = charts_of({"recipes": {"baseline": {"runs": [{"curves": raw}]}}})["curves"]
    trace = chart.figure["data"][0]
    assert len(trace["x"]) <= CURVE_POINTS
    assert trace["y"][0] == pytest.approx(3.0)  # of the steps 0 to 6
    assert trace["x"][0] == 6
    assert trace["x"][-1] == 999


def test_the_diagnosis_opens_the_page(results, diagnosis):
    html = report.comparison_page(results, diagnosis)
    assert html.index('id="meters"') < html.index('id="verdict"') < html.index('id="problem-object-scale"')
    assert html.count('class="problem ') == 8


def test_what_drove_the_runs_stands_beside_each_other(results):
    entry = {"problem": "objective", "key": "tasks", "measure": "log ratio", "value": 0.25, "severity": "mild"}
    results["recipes"]["baseline"]["drove"] = [{**entry, "summary": "The box loss is small."}]
    results["recipes"]["pisa"]["drove"] = [{**entry, "value": 0.5, "severity": None, "summary": "It is not."}]
    html = report.comparison_page(results)
    section = html[html.index('id="drove"') :].partition("</section>")[0]
    assert "width:25.0%" in section
    assert "width:50.0%" in section
    assert "The box loss is small." in section
    assert "It is not." not in section
    assert section.count("<td>-</td>") == 1  # libra was not probed
    assert 'id="drove"' not in report.comparison_page({**results, "recipes": {}})


def test_remedies_that_were_tried_bear_their_verdict(results, diagnosis):
    page = text_of(report.comparison_page(results, diagnosis))
    told = page[page.index("What to try Most promising") :]
    tried = verdict("pisa", results["recipes"]["pisa"]["metrics"]["AP"])
    assert f"Tried here. {tried.sentence} {tried.label}" in told
    assert told.count("Tried here.") == 1  # focal was not
    assert "baseline,pisa" not in told
    alone = text_of(report.diagnosis_page(diagnosis))
    assert "Tried here." not in alone
    assert "baseline,pisa" in alone


def test_the_page_says_whose_candidates_were_counted(results, diagnosis):
    assert "usual anchors" not in report.comparison_page(results, diagnosis)
    diagnosis.settings = {"anchors": "RetinaNet", "training_size": (800, 1333)}
    said = (
        "Candidates are counted under RetinaNet's usual anchors at 800 × 1333 pixels, whatever the runs below train at."
    )
    assert said in text_of(report.comparison_page(results, diagnosis)).replace("&#39;", "'")
