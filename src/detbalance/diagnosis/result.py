"""A whole diagnosis: the findings, what to try, the data's own problems; as JSON and as a page."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..atomic import write_bytes
from ..data.annotations import Annotations, Problem
from ..taxonomy import Imbalance
from .finding import Finding, Severity, Table
from .prescribe import Prescription, prescribe

__all__ = ["SCHEMA", "Diagnosis"]

SCHEMA = "detbalance.diagnosis/1"
"""name of the JSON's form; the number rises when a field changes its meaning or goes"""


@dataclass(frozen=True, eq=False, kw_only=True)
class Diagnosis:
    """What `diagnose` returns. Iterate over `findings`, or ask for one: `diagnosis[Imbalance.OBJECT_SCALE]`."""

    data: Annotations
    findings: tuple[Finding, ...]
    """every measure, in the order of the taxonomy; the first of each imbalance is its headline"""
    dataset: dict[str, Any]
    """plain facts: source, form, numbers of images, boxes and classes, ..."""
    settings: dict[str, Any] = field(default_factory=dict)
    """what the numbers depend on: anchors, training size, bootstrap repeats, seed"""
    against: Diagnosis | None = None
    """the same measures of the dataset compared with"""

    def __getitem__(self, key: Imbalance | str) -> Finding:
        """The headline finding of an imbalance, or the finding of a key such as "size_bins"."""
        for finding in self.findings:
            if (finding.imbalance == key and finding.headline) if isinstance(key, Imbalance) else finding.key == key:
                return finding
        raise KeyError(f"{key!r}; expected an Imbalance or one of {', '.join(f.key for f in self.findings)}")

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What was repaired, excluded or noted while reading."""
        return self.data.problems

    @property
    def worst(self) -> Severity:
        """The highest severity among the headlines, for a check in continuous integration."""
        return max((f.severity for f in self.findings if f.headline and f.severity is not None), default=Severity.NONE)

    @property
    def prescription(self) -> Prescription:
        """What to try, ranked, for the kind of detector whose anchors were counted."""
        return prescribe(self.findings, source=self.data.source, kind=self.settings.get("kind", "dense"))

    def with_log(self, log: Mapping[str, np.ndarray] | str | Path) -> Diagnosis:
        """The same diagnosis with what a training log tells besides (see `diagnose(log=...)`)."""
        from .driver import training_findings

        added = training_findings(log, self.data.classes, thresholds=self.settings.get("thresholds"))
        told = {finding.key for finding in added}
        findings = [*(finding for finding in self.findings if finding.key not in told), *added]
        rank = {problem: i for i, problem in enumerate(Imbalance)}
        findings.sort(key=lambda finding: (rank[finding.imbalance], not finding.headline))
        return replace(self, findings=tuple(findings))

    def to_dict(self) -> dict[str, Any]:
        """Every number as plain Python values; the schema is in docs/diagnosis.md."""
        return _plain(
            {
                "schema": SCHEMA,
                "version": __version__,
                "dataset": self.dataset,
                "settings": self.settings,
                "worst": self.worst.name.lower(),
                "findings": [_finding(f) for f in self.findings],
                "prescription": _prescription(self.prescription),
                "problems": [vars(p) for p in self.problems],
                "against": None if self.against is None else self.against.to_dict(),
            }
        )

    def to_json(self) -> str:
        """The diagnosis as JSON text: no NaN, no infinity, keys in a fixed order."""
        return json.dumps(self.to_dict(), allow_nan=False, ensure_ascii=False, indent=1)

    def save(self, path: str | Path) -> Path:
        """Write the page (.html) or the numbers (.json). Raises ValueError for another suffix."""
        path = Path(path)
        if path.suffix == ".json":
            text = self.to_json()
        elif path.suffix in (".html", ".htm"):
            from ..report import diagnosis_page

            text = diagnosis_page(self)
        else:
            raise ValueError(f"expected a path that ends in .html or .json but got {str(path)!r}")
        return write_bytes(path, text.encode())


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "key": finding.key,
        "imbalance": finding.imbalance.value,
        "family": finding.imbalance.family.value,
        "headline": finding.headline,
        "value": finding.value,
        "interval": finding.interval,
        "severity": None if finding.severity is None else finding.severity.name.lower(),
        "measure": finding.measure,
        "summary": finding.summary,
        "needs": finding.needs,
        "affected": finding.affected,
        "tables": [_table(table) for table in finding.tables],
    }


def _table(table: Table) -> dict[str, Any]:
    return {"title": table.title, "columns": table.columns, "rows": table.rows, "note": table.note}


def _prescription(prescription: Prescription) -> dict[str, Any]:
    def plain(record: Any) -> dict[str, Any]:
        return {**vars(record), "severity": record.severity.name.lower()}

    return {
        "remedies": [
            {**plain(r), "addresses": [problem.value for problem in r.addresses]} for r in prescription.remedies
        ],
        "untreated": [{**plain(u), "imbalance": u.imbalance.value} for u in prescription.untreated],
        "command": prescription.command,
    }


def _plain(value: Any) -> Any:
    """Nested values as JSON knows them; what is not finite becomes null."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
