"""The page of a diagnosis: eight meters whatever is known, and everything that is known below."""

import re
from types import SimpleNamespace

from detbalance import report
from detbalance.diagnosis import diagnose
from detbalance.diagnosis.finding import Finding, Severity, Table
from detbalance.report.beside import side_by_side
from detbalance.report.diagnosis import context_of
from detbalance.taxonomy import Imbalance

PATTERN = re.compile(r'<article class="problem (\w+)(?: blank)?">(.*?)</article>', re.DOTALL)


def test_a_real_diagnosis_fills_the_page(tmp_path, fake_data):
    html = report.diagnosis_page(diagnose(fake_data(tmp_path), bootstrap=20))
    assert len(PATTERN.findall(html)) == 8
    assert html.count('class="figure"') >= 15
    assert "<script>alert" not in html


def test_eight_meters_with_word_icon_and_sentence(diagnosis):
    cards = PATTERN.findall(report.diagnosis_page(diagnosis))
    assert [kind for kind, _ in cards] == ["extreme", "strong", "mild", *["unknown"] * 3, "none", "unknown"]
    words = {"extreme": "Extreme", "strong": "Strong", "mild": "Mild", "none": "None", "unknown": "Not measured yet"}
    for kind, card in cards:
        assert words[kind] in card
        assert '<svg class="icon"' in card
        assert ('role="meter"' in card) == (kind != "unknown")
        assert ("detbalance evaluate" in card) == (kind == "unknown")
    assert 'aria-valuenow="0.960"' in cards[0][1]


def test_links_of_the_contents_lead_somewhere(diagnosis, results):
    for html in (report.diagnosis_page(diagnosis), report.comparison_page(results, diagnosis)):
        ids = re.findall(r'\bid="([^"]+)"', html)
        assert len(ids) == len(set(ids))
        assert set(re.findall(r'href="#([^"]+)"', html)) <= set(ids)


def test_the_lead_counts_what_is_strong(diagnosis):
    assert context_of(diagnosis)["lead"].startswith(
        "2 of 4 measured problems are strong: foreground-background and foreground-foreground. 4 of the eight need"
    )


def test_everything_found_is_on_the_page(diagnosis):
    html = report.diagnosis_page(diagnosis)
    for text in (
        "zero-size box",
        "image without boxes",
        "Most affected",
        "detbalance compare data/bccd",
        "3.2 AP",
        "Collect more",
    ):
        assert text in html
    assert html.count("data:image/jpeg;base64,") == 16


def test_hostile_names_stay_text(diagnosis):
    html = report.diagnosis_page(diagnosis)
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def test_a_diagnosis_of_nothing_has_eight_unknown_meters():
    html = report.diagnosis_page(SimpleNamespace(findings=()))
    assert [kind for kind, _ in PATTERN.findall(html)] == ["unknown"] * 8
    assert "None: every record was read as it stands." in html


def test_values_out_of_range_do_not_leave_their_meter():
    head = Finding(Imbalance.LOCATION, 1.4, Severity.EXTREME, "s", interval=(-0.2, 1.7), headline=True)
    problem = next(
        q for q in context_of(SimpleNamespace(findings=(head,)))["problems"] if q["id"] == "problem-location"
    )
    assert problem["value"] == 1.0
    assert problem["interval"] == (0.0, 1.0)


def test_two_datasets_stand_side_by_side(diagnosis):
    assert 'id="against"' not in report.diagnosis_page(diagnosis)
    other = SimpleNamespace(findings=diagnosis.findings[:-1], dataset={"source": "b/val", "images": 9})
    diagnosis.against = other
    html = report.diagnosis_page(diagnosis)
    assert 'id="against"' in html
    assert "candidates, b/val" in html  # the second series of a chart


def test_side_by_side_keeps_keys_of_both():
    one = Table("t", ("class", "boxes"), (("a", 1), ("b", 2)), "bar", log=True)
    two = Table("t", ("class", "boxes"), (("b", 5), ("c", 6)), "bar")
    (both,) = side_by_side(one, two, ("x", "y"))
    assert both.columns == ("class", "boxes, x", "boxes, y")
    assert both.rows == (("a", 1, None), ("b", 2, 5), ("c", None, 6))
    assert both.log


def test_what_cannot_share_a_chart_gets_two():
    heat = Table("t", ("x", "y", "value"), ((0, 0, 1),), "heatmap")
    assert [t.title for t in side_by_side(heat, heat, ("a", "b"))] == ["t, a", "t, b"]
    assert side_by_side(heat, None, ("a", "b")) == [heat]
    assert side_by_side(heat, Table("t", ("x", "value"), ()), ("a", "b")) == [heat]


def test_splits_of_one_dataset_are_called_by_their_names(diagnosis):
    diagnosis.dataset["splits"] = {"train": 9}
    diagnosis.against = SimpleNamespace(findings=(), dataset={"source": "data/bccd", "splits": {"test": 4}})
    assert context_of(diagnosis)["against"]["names"] == ("bccd train", "bccd test")


def test_datasets_of_one_name_are_told_apart(diagnosis):
    diagnosis.against = SimpleNamespace(findings=(), dataset={"source": "other/bccd"})
    assert context_of(diagnosis)["against"]["names"] == ("data/bccd", "other/bccd")
