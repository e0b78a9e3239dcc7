"""Numbers as the page writes them: a figure of detection is given in points out of 100 everywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from pathlib import PurePath
from typing import Any

from jinja2 import Undefined

__all__ = ["average", "dataset_name", "interval", "number", "points", "seconds", "signed"]

NOTHING = "–"
"""stands where there is no number"""


def dataset_name(source: Any) -> str:
    """A short name for where a dataset lies.

    >>> dataset_name("sets/bccd"), dataset_name("sets/demo/data"), dataset_name("")
    ('bccd', 'demo/data', '')
    """
    path = PurePath(str(source or ""))
    plain = path.stem.lower() in ("data", "dataset", "images", "annotations", "train", "val", "valid", "test")
    return f"{path.parent.name}/{path.name}" if plain and path.parent.name else path.name


def points(value: float | None) -> str:
    """A figure in [0, 1] as points out of 100, one decimal.

    >>> points(0.5234), points(None)
    ('52.3', '–')
    """
    return NOTHING if _missing(value) else f"{100 * value:.1f}".replace("-", "−")


def average(entry: Mapping[str, float | None] | None) -> str:
    """A metric over the seeds: its mean, and its spread where there are several.

    >>> average({"mean": 0.5234, "spread": 0.002})
    '52.3 ± 0.2'
    """
    mean, spread = (entry.get(key) if entry else None for key in ("mean", "spread"))
    return points(mean) if _missing(spread) else f"{points(mean)} ± {points(spread)}"


def signed(value: float | None) -> str:
    """A difference of two figures in [0, 1], in points and with its sign.

    >>> signed(0.021), signed(-0.0004)
    ('+2.1', '0.0')
    """
    if _missing(value):
        return NOTHING
    text = f"{100 * value:+.1f}".replace("-", "−")
    return "0.0" if text[1:] == "0.0" else text


def interval(low: float | None, high: float | None) -> str:
    """The ends of an interval of differences.

    >>> interval(-0.005, 0.021)
    '−0.5 to +2.1'
    """
    return NOTHING if _missing(low) or _missing(high) else f"{signed(low)} to {signed(high)}"


def number(value: Any) -> str:
    """A number as people write it; anything else as it is.

    >>> number(36781), number(0.03125), number(1234.5), number("cat"), number(None)
    ('36,781', '0.0312', '1,234', 'cat', '–')
    """
    value = value.item() if hasattr(value, "item") else value
    if _missing(value):
        return NOTHING
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}".replace("-", "−")
    text = f"{value:.3g}"
    return (format(Decimal(text), "f") if abs(value) > 1e-8 else text).replace("-", "−")


def seconds(value: float | None) -> str:
    """A duration.

    >>> seconds(8.24), seconds(75), seconds(7260)
    ('8.2 s', '1 min 15 s', '2 h 1 min')
    """
    if _missing(value):
        return NOTHING
    if value < 59.95:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _missing(value: Any) -> bool:
    return value is None or isinstance(value, Undefined) or (isinstance(value, float) and not math.isfinite(value))
