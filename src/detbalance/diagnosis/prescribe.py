"""From findings to remedies worth trying, by the rules of rules.py."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ..taxonomy import Imbalance
from .finding import Finding, Severity
from .rules import RULES, UNTREATED, Rule

__all__ = ["Prescription", "Remedy", "Untreated", "prescribe"]

_SHOWN = 3  # recipes in the joint command: each costs a training for every seed


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """A recipe worth trying on this dataset."""

    recipe: str
    addresses: tuple[Imbalance, ...]
    severity: Severity
    """of the worst finding that it answers"""
    reason: str
    gain: str
    source: str
    cost: str
    detectors: str
    """"dense" or "rcnn" """
    built_in: bool
    command: str
    """what to type to try it against the baseline"""


@dataclass(frozen=True)
class Untreated:
    """A finding that no recipe answers, and what else can be done."""

    imbalance: Imbalance
    key: str
    severity: Severity
    text: str


@dataclass(frozen=True)
class Prescription:
    """What to try, most promising first; what nothing in the catalogue treats; and one command for the best."""

    remedies: tuple[Remedy, ...]
    untreated: tuple[Untreated, ...]
    command: str
    """compares the baseline with the first remedies; "" where there is none"""


def prescribe(
    findings: Iterable[Finding], *, source: str = "", kind: str = "dense", rules: tuple[Rule, ...] = RULES
) -> Prescription:
    """Findings of strong or extreme severity -> remedies for a kind of detector, by severity, then by reported gain.

    What the detector has already comes last and stays out of the commands.
    """
    called = {f.key: f for f in findings if f.severity is not None and f.severity >= Severity.STRONG}
    chosen: dict[str, Remedy] = {}
    dataset = shlex.quote(source) if source else "DATASET"
    order = sorted(
        (rule for rule in rules if rule.kind == kind and rule.key in called),
        key=lambda rule: (rule.built_in, -called[rule.key].severity, -rule.points),
    )
    for rule in order:
        if (known := chosen.get(rule.recipe)) is not None:
            addresses = tuple(dict.fromkeys((*known.addresses, rule.imbalance)))
            more = {"addresses": addresses, "reason": f"{known.reason} {rule.why}"}
            chosen[rule.recipe] = replace(known, **more)
            continue
        chosen[rule.recipe] = Remedy(
            recipe=rule.recipe,
            addresses=(rule.imbalance,),
            severity=called[rule.key].severity,
            reason=rule.why,
            gain=rule.gain,
            source=rule.source,
            cost=rule.cost,
            detectors=rule.kind,
            built_in=rule.built_in,
            command=_command(dataset, kind, (rule.recipe,)),
        )
    answered = {rule.key for rule in order}
    untreated = tuple(
        Untreated(f.imbalance, key, f.severity, UNTREATED[key])
        for key, f in called.items()
        if key in UNTREATED and key not in answered
    )
    best = tuple(remedy.recipe for remedy in chosen.values() if not remedy.built_in)[:_SHOWN]
    return Prescription(tuple(chosen.values()), untreated, _command(dataset, kind, best) if best else "")


def _command(dataset: str, kind: str, recipes: tuple[str, ...]) -> str:
    detector = "" if kind == "dense" else " --detector faster_rcnn"
    return f"detbalance compare {dataset} --recipes {','.join(('baseline', *recipes))}{detector}"
