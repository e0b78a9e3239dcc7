"""Prescriptions: rules that name what exists, ranked, with commands that can be typed."""

from dataclasses import replace

import pytest

from detbalance import recipes
from detbalance.catalog import treating
from detbalance.detectors import DETECTORS
from detbalance.diagnosis.finding import Finding, Severity
from detbalance.diagnosis.prescribe import prescribe
from detbalance.diagnosis.rules import RULES, UNTREATED
from detbalance.diagnosis.severity import THRESHOLDS
from detbalance.taxonomy import Imbalance


def finding(key, severity, imbalance=Imbalance.IOU_DISTRIBUTION):
    return Finding(imbalance=imbalance, value=0.5, severity=severity, summary="", key=key)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.recipe}-{rule.kind}-{rule.key}")
def test_every_rule_names_what_exists(rule):
    assert rule.recipe in recipes.names()
    assert rule.kind in recipes.kinds(rule.recipe)
    assert rule.key in THRESHOLDS
    assert treating(rule.imbalance), "nothing in the catalogue treats it: there may be no rule"
    assert rule.why.endswith(".")
    assert "arXiv" in rule.source
    assert rule.gain
    assert rule.cost


def test_no_rule_stands_twice():
    assert len({(r.recipe, r.kind, r.key) for r in RULES}) == len(RULES)


def test_what_is_untreated_is_a_finding():
    assert set(UNTREATED) <= set(THRESHOLDS)


def test_worse_findings_first_then_larger_gains():
    found = [finding("positive_ious", Severity.STRONG), finding("level_positives", Severity.EXTREME)]
    order = [remedy.recipe for remedy in prescribe(found, kind="rcnn").remedies]
    assert order == ["libra", "balanced_fpn", "pisa", "isr_p"]
    swapped = [replace(f, severity=s) for f, s in zip(found, (Severity.EXTREME, Severity.STRONG))]
    assert [r.recipe for r in prescribe(swapped, kind="rcnn").remedies] == ["pisa", "isr_p", "libra", "balanced_fpn"]


def test_mild_and_missing_findings_call_for_nothing():
    found = [finding("positive_ious", Severity.MILD), replace(finding("outliers", None), value=None)]
    nothing = prescribe(found)
    assert nothing.remedies == nothing.untreated == ()
    assert nothing.command == ""


def test_a_recipe_against_two_imbalances_stands_once():
    found = [finding("foreground", Severity.STRONG), finding("level_positives", Severity.STRONG)]
    libra = [r for r in prescribe(found, kind="rcnn").remedies if r.recipe == "libra"]
    assert len(libra) == 1
    assert set(libra[0].addresses) == {Imbalance.FOREGROUND_BACKGROUND, Imbalance.FEATURE_LEVEL}


def test_a_problem_measured_twice_is_named_once():
    found = [finding("positive_ious", Severity.STRONG), finding("degraded", Severity.STRONG)]
    twice = next(r for r in prescribe(found).remedies if r.recipe == "isr_p")
    assert twice.addresses == (Imbalance.IOU_DISTRIBUTION,)
    assert twice.reason.count(".") == 2


def test_what_the_detector_has_comes_last_and_is_not_compared():
    found = [finding("foreground", Severity.EXTREME), finding("positive_ious", Severity.STRONG)]
    told = prescribe(found, kind="dense")
    assert [r.built_in for r in told.remedies] == [False, False, False, True]
    assert told.remedies[-1].recipe == "focal"
    assert "focal" not in told.command


def test_what_nothing_treats_is_said():
    told = prescribe([finding("centres", Severity.EXTREME, Imbalance.LOCATION)])
    assert not told.remedies
    assert [(u.key, u.severity) for u in told.untreated] == [("centres", Severity.EXTREME)]
    assert not prescribe([finding("centres", Severity.MILD)]).untreated


@pytest.mark.parametrize("kind", ["dense", "rcnn"])
def test_rare_classes_are_treated(kind):
    told = prescribe([finding("classes", Severity.EXTREME, Imbalance.FOREGROUND_FOREGROUND)], kind=kind)
    assert "repeat_factor" in [remedy.recipe for remedy in told.remedies]
    assert not told.untreated


@pytest.mark.parametrize("kind", ["dense", "rcnn"])
def test_commands_can_be_typed(kind):
    import shlex

    everything = [finding(key, Severity.EXTREME) for key in THRESHOLDS]
    told = prescribe(everything, source="my data/it's", kind=kind)
    for command in (told.command, *(r.command for r in told.remedies)):
        words = shlex.split(command)
        assert words[:4] == ["detbalance", "compare", "my data/it's", "--recipes"]
        first, *others = words[4].split(",")
        assert first == "baseline"
        assert others
        assert all(kind in recipes.kinds(name) for name in others)
        assert words[5:] in ([], ["--detector", "faster_rcnn"])
        assert kind == "dense" or words[6] in DETECTORS
    assert len(told.command.split(",")) == 4
    assert prescribe(everything).command.startswith("detbalance compare DATASET ")
