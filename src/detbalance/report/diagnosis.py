"""A diagnosis for reading: the eight problems as meters, the numbers behind each, what to try, what is dirty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..diagnosis.finding import Finding, Severity
from ..diagnosis.prescribe import Remedy
from ..taxonomy import Imbalance
from .beside import names_of, partner, side_by_side
from .page import render
from .pictures import galleries
from .table_charts import from_table
from .wording import number

__all__ = ["build", "context_of", "sections_of"]

WORDS = {
    Severity.NONE: ("none", "None"),
    Severity.MILD: ("mild", "Mild"),
    Severity.STRONG: ("strong", "Strong"),
    Severity.EXTREME: ("extreme", "Extreme"),
}
DETECTORS = {"dense": "one-stage, such as RetinaNet", "rcnn": "two-stage, such as Faster R-CNN"}
FACTS = {
    "form": "Form",
    "images": "Images",
    "boxes": "Boxes",
    "classes": "Classes",
    "boxes_per_image": "Boxes an image",
    "images_without_boxes": "Images without boxes",
    "median_image_size": "Median image",
    "anchors": "Anchors of",
    "fingerprint": "Fingerprint",
}


def build(diagnosis: Any) -> str:
    """The whole page."""
    context = context_of(diagnosis)
    return render(
        "diagnosis.html.j2",
        title=f"{context['name']}: what is imbalanced",
        diagnosis=context,
        contents=[("meters", "Overview"), *sections_of(context), ("reading", "Glossary")],
    )


def sections_of(context: dict[str, Any]) -> list[tuple[str, str]]:
    """The entries of the table of contents that belong to a diagnosis."""
    entries = [("against", "Side by side")] if context["against"] else []
    entries += [("try", "What to try")] if context["remedies"] or context["untreated"] else []
    return [*entries, *((q["id"], q["title"]) for q in context["problems"]), ("data", "Data problems")]


def context_of(diagnosis: Any) -> dict[str, Any]:
    """What the templates need of a diagnosis. Parts that it lacks are left out."""
    against = getattr(diagnosis, "against", None)
    prescription = getattr(diagnosis, "prescription", None)
    remedies = [_remedy(r) for r in prescription.remedies] if prescription else []
    data = getattr(diagnosis, "data", None)
    shown = galleries(data) if data is not None else []
    names = names_of(diagnosis, against)
    problems = [_problem(problem, diagnosis, against, names, shown, remedies) for problem in Imbalance]
    return {
        "name": names[0],
        "lead": _lead(problems),
        "facts": _facts(
            {**(getattr(diagnosis, "settings", None) or {}), **(getattr(diagnosis, "dataset", None) or {})}
        ),
        "problems": problems,
        "remedies": remedies,
        "tried": {},
        "usual": _usual(getattr(diagnosis, "settings", None) or {}),
        "untreated": [(u.imbalance.value, u.text) for u in prescription.untreated] if prescription else [],
        "command": prescription.command if prescription and len(remedies) > 1 else "",
        "dirt": sorted(getattr(diagnosis, "problems", ()), key=lambda p: (p.action == "noted", -p.count)),
        "against": _against(diagnosis, against, names) if against is not None else None,
    }


def _facts(dataset: dict[str, Any]) -> list[tuple[str, Any]]:
    facts = [(words, dataset[key]) for key, words in FACTS.items() if dataset.get(key) not in (None, "")]
    return [
        (w, " × ".join(number(v) for v in value) if isinstance(value, (list, tuple)) else value) for w, value in facts
    ]


def _usual(settings: dict[str, Any]) -> str:
    """Which candidates were counted, for a page of runs that have their own."""
    anchors, size = settings.get("anchors"), settings.get("training_size")
    if not anchors or not size:
        return ""
    sides = " × ".join(str(side) for side in size)
    return (
        f"Candidates are counted under {anchors}'s usual anchors at {sides} pixels, whatever the runs below train at."
    )


def _lead(problems: Sequence[dict]) -> str:
    measured = [q for q in problems if q["value"] is not None]
    bad = [q["name"] for q in measured if q["kind"] in ("strong", "extreme")]
    unmeasured = len(problems) - len(measured)
    rest = f" {unmeasured} of the eight need a model or a training log to be measured." if unmeasured else ""
    if not bad:
        return "None of the problems that could be measured is strong." + rest
    listed = bad[0] if len(bad) == 1 else f"{', '.join(bad[:-1])} and {bad[-1]}"
    return (
        f"{len(bad)} of {len(measured)} measured problems {'is' if len(bad) == 1 else 'are'} strong: {listed}." + rest
    )


def _problem(
    problem: Imbalance, diagnosis: Any, against: Any, names: tuple[str, str], shown: Sequence, remedies: Sequence[dict]
) -> dict[str, Any]:
    findings = [f for f in diagnosis.findings if f.imbalance == problem]
    others = [f for f in against.findings if f.imbalance == problem] if against is not None else []
    head = next((f for f in findings if f.headline), findings[0] if findings else None)
    needs = _needs(head) or "Nothing of what was given measures this problem."
    return {
        "id": "problem-" + problem.name.lower().replace("_", "-"),
        "name": problem.value,
        "title": problem.value[0].upper() + problem.value[1:],
        "family": problem.family.value,
        "section": problem.section,
        "question": problem.question,
        **_state(head),
        "summary": head.summary if head else "",
        "needs": needs,
        "findings": [_finding(f, partner(f, others), names) for f in findings],
        "pictures": [g for g in shown if g.imbalance == problem],
        "recipes": list(dict.fromkeys(r["recipe"] for r in remedies if problem in r["addresses"])),
    }


def _state(finding: Finding | None) -> dict[str, Any]:
    """Value, interval and severity in the words and colours of the page."""
    if finding is None or finding.value is None:
        return {"value": None, "interval": None, "kind": "unknown", "word": "Not measured yet"}
    kind, word = WORDS.get(finding.severity, ("unknown", ""))
    low, high = (min(max(float(v), 0.0), 1.0) for v in finding.interval or (0, 0))
    return {
        "value": min(max(float(finding.value), 0.0), 1.0),
        "interval": (low, high) if finding.interval else None,
        "kind": kind,
        "word": word,
    }


def _finding(finding: Finding, other: Finding | None, names: tuple[str, str]) -> dict[str, Any]:
    beside = {table.title: table for table in other.tables} if other else {}
    return {
        **_state(finding),
        "measure": finding.measure,
        "headline": finding.headline,
        "summary": finding.summary,
        "needs": _needs(finding),
        "affected": finding.affected,
        "charts": [
            from_table(t) for table in finding.tables for t in side_by_side(table, beside.get(table.title), names)
        ],
    }


def _needs(finding: Finding | None) -> str:
    """What is missing, as a sentence."""
    text = finding.needs if finding else ""
    return f"Needs {text}" if text and not text[0].isupper() else text


def _against(diagnosis: Any, against: Any, names: tuple[str, str]) -> dict[str, Any]:
    """The headlines of two datasets, row by row."""
    rows = []
    for problem in Imbalance:
        states = [
            _state(next((f for f in d.findings if f.imbalance == problem and f.headline), None))
            for d in (diagnosis, against)
        ]
        values = [state["value"] for state in states]
        change = None if None in values else values[1] - values[0]
        rows.append({"title": problem.value, "states": states, "change": change})
    facts = dict(_facts(getattr(diagnosis, "dataset", None) or {})), dict(_facts(against.dataset or {}))
    both = [(key, facts[0].get(key), facts[1].get(key)) for key in dict.fromkeys((*facts[0], *facts[1]))]
    return {"names": names, "rows": rows, "facts": both}


def _remedy(remedy: Remedy) -> dict[str, Any]:
    """A remedy with its parts as text."""
    return {
        **vars(remedy),
        "problems": " and ".join(problem.value for problem in remedy.addresses),
        "detectors": DETECTORS.get(remedy.detectors, remedy.detectors),
    }
