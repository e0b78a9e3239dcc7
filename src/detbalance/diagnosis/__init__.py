"""Measures of imbalance, by the review's taxonomy. Numpy only: torch is never imported here."""

from .driver import diagnose, training_findings
from .finding import Finding, Severity, Table
from .result import Diagnosis

__all__ = ["Diagnosis", "Finding", "Severity", "Table", "diagnose", "training_findings"]
