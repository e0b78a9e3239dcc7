"""Did a remedy help? Said in words, by the paired interval of its difference and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .wording import interval, points, signed

__all__ = ["Verdict", "cautions", "summary", "verdict"]

NOTICEABLE = 0.005
"""a gain below half a point is not worth a change of recipe"""


@dataclass(frozen=True)
class Verdict:
    """Did a remedy help? `word` is helped, worse, same or unknown; the sentence says it with the figures."""

    recipe: str
    word: str
    label: str
    sentence: str


def verdict(recipe: str, ap: Mapping[str, Any] | None) -> Verdict:
    """Judge a remedy by the paired interval of its AP difference, and by nothing else.

    >>> verdict("pisa", {"difference": {"mean": 0.021, "low": 0.009, "high": 0.034}}).sentence
    'AP rises by 2.1 points (95 % interval +0.9 to +3.4).'
    >>> verdict("pisa", {"difference": {"mean": 0.007, "low": -0.006, "high": 0.021}}).label
    'Cannot tell'
    """
    found = (ap or {}).get("difference") or {}
    mean, low, high = (found.get(key) for key in ("mean", "low", "high"))
    if None in (mean, low, high):
        reason = "no run of it finished" if not ap else "no finished run pairs with one of the baseline"
        return Verdict(recipe, "unknown", "Cannot tell", f"There is nothing to judge by: {reason}.")
    span = f"95 % interval {interval(low, high)}"
    size = points(abs(mean))
    if low > 0:
        return Verdict(recipe, "helped", "Helped", f"AP rises by {size} points ({span}).")
    if high < 0:
        return Verdict(recipe, "worse", "Did not help", f"AP falls by {size} points ({span}).")
    if high < NOTICEABLE:
        sentence = f"The difference is {signed(mean)} points; a gain of half a point or more is ruled out ({span})."
        return Verdict(recipe, "same", "Did not help", sentence)
    sentence = f"AP differs by {signed(mean)} points, but zero lies inside the {span}."
    return Verdict(recipe, "unknown", "Cannot tell", sentence)


def summary(verdicts: Sequence[Verdict], seeds: int) -> str:
    """The verdicts in one line, which says so where each recipe was trained but once."""
    if not verdicts:
        return "Only the baseline was trained: there is nothing to compare it with."
    helped, not_, unknown = (
        [v.recipe for v in verdicts if v.word in words] for words in (["helped"], ["worse", "same"], ["unknown"])
    )
    parts = [f"{_listed(helped)} helped"] if helped else []
    parts += [f"{_listed(not_)} did not"] if not_ else []
    parts += [f"for {_listed(unknown)} these runs cannot tell"] if unknown else []
    once = seeds == 1
    none = f"{'no' if once else 'No'} remedy is shown to help on this data: "
    return ("In one training of each, " if once else "") + ("" if helped else none) + "; ".join(parts) + "."


def _listed(names: Sequence[str]) -> str:
    if len(names) > 4:
        return f"{', '.join(names[:3])} and {len(names) - 3} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def cautions(results: Mapping[str, Any]) -> list[str]:
    """What limits the verdicts."""
    seeds, found = len(results.get("seeds") or ()), []
    images = ((results.get("dataset") or {}).get("test") or {}).get("images")
    if seeds == 1:
        found.append("Only one seed was run: the intervals know the choice of test images, but not a training's luck.")
    elif seeds == 2:
        found.append("Only two seeds were run: the intervals are rough.")
    if images is not None and images < 50:
        found.append(f"The test set has only {images} images: expect wide intervals, and none for what is rare in it.")
    return found
