"""How bad is an index? One table of thresholds, justified in docs/diagnosis.md by where public datasets lie."""

from __future__ import annotations

from collections.abc import Mapping

from .finding import Severity

__all__ = ["THRESHOLDS", "judge", "merged"]

THRESHOLDS: dict[str, tuple[float, float, float]] = {}
"""key of a finding -> from which value on it is mild, strong, extreme"""


def judge(
    key: str, value: float | None, thresholds: Mapping[str, tuple[float, float, float]] = THRESHOLDS
) -> Severity | None:
    """The severity of a value; None where there is no value or no threshold.

    >>> judge("x", 0.5, {"x": (0.2, 0.4, 0.6)})
    <Severity.STRONG: 2>
    """
    if value is None or key not in thresholds:
        return None
    return Severity(sum(value >= limit for limit in thresholds[key]))


def merged(own: Mapping[str, tuple[float, float, float]] | None) -> dict[str, tuple[float, float, float]]:
    """The table with a user's own thresholds in place of the standard ones. Raises ValueError for senseless ones."""
    table = dict(THRESHOLDS)
    for key, limits in (own or {}).items():
        if key not in THRESHOLDS:
            raise ValueError(f"expected thresholds for one of {', '.join(sorted(THRESHOLDS))} but got {key!r}")
        values = tuple(float(v) for v in limits)
        if len(values) != 3 or not 0 <= values[0] <= values[1] <= values[2]:
            raise ValueError(
                f"thresholds of {key!r}: expected ascending values for mild, strong and extreme but got {limits!r}"
            )
        table[key] = values
    return table
