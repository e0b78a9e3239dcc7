"""Numbers as they stand in sentences."""

from __future__ import annotations

__all__ = ["count", "percent", "times"]


def percent(share: float) -> str:
    """A share as a percentage, with a decimal only where it is small.

    >>> percent(0.853), percent(0.0213), percent(0.00002), percent(0.0), percent(0.9995)
    ('85 %', '2.1 %', 'under 0.1 %', '0 %', 'over 99.9 %')
    """
    value = 100 * float(share)
    if 0 < value < 0.1:
        return "under 0.1 %"
    if 99.9 < value < 100:
        return "over 99.9 %"
    return f"{value:.1f} %" if 0 < value < 9.95 or 99 < value < 100 else f"{value:.0f} %"


def count(number: float, noun: str = "", plural: str = "") -> str:
    """A number with thousands set apart, and its noun in the right number.

    >>> count(36781, "box", "boxes"), count(1, "class", "classes"), count(2, "image")
    ('36,781 boxes', '1 class', '2 images')
    """
    text = f"{number:,.0f}"
    if not noun:
        return text
    return f"{text} {noun if text == '1' else plural or noun + 's'}"


def times(ratio: float) -> str:
    """A ratio, with as many digits as it deserves.

    >>> times(11.53), times(1.24), times(12345.6)
    ('12', '1.2', '12,346')
    """
    return f"{ratio:,.1f}" if ratio < 9.95 else f"{ratio:,.0f}"
