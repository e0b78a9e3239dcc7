"""What `detbalance methods` prints: the review's taxonomy with what is available under each problem."""

from __future__ import annotations

import inspect
import json
import math
import re
from pathlib import Path
from typing import Any

from . import recipes
from .catalog import exported, folder_of, methods, treating
from .neck_costs import STATED, neck_cost
from .taxonomy import Family, Imbalance

__all__ = ["details", "tree"]

EVIDENCE = Path(__file__).resolve().parents[2] / "docs" / "evidence"
"""measured comparisons, where the package is used from its source tree"""


def tree() -> Any:
    """The families, their problems, and the methods that address each (the review's figure 2)."""
    from rich.tree import Tree

    root = Tree("[bold]imbalance problems in object detection[/] (Oksuz et al., arXiv 1909.00169)")
    for family in Family:
        branch = root.add(f"[bold]{family.value}[/]")
        for problem in (p for p in Imbalance if p.family is family):
            leaf = branch.add(f"[bold]{problem.value}[/] (section {problem.section}): [dim]{problem.question}[/]")
            found = treating(problem)
            for folder in dict.fromkeys(folder_of(method) for method in found):
                names = ", ".join(_named(m) for m in found if folder_of(m) == folder)
                leaf.add(f"[cyan]{folder}[/]: {names}")
            if not found:
                leaf.add("[dim]nothing yet[/]")
    named = root.add("[bold]recipes[/] for --recipe and --recipes, with the kinds of detector that take them")
    for group in recipes.GROUPS:
        branch = named.add(f"[bold]{_first(group)}[/]")
        for name in recipes.in_group(group):
            branch.add(f"[cyan]{name}[/] ({', '.join(recipes.kinds(name))}): {_first(getattr(recipes, name))}")
    root.add(f"[dim]necks: parameters, floating-point operations on {STATED}[/]")
    root.add("[dim]detbalance methods NAME shows one of them[/]")
    return root


def details(name: str) -> Any:
    """One method or recipe: what it does, paper, defaults, which detectors take it, and the evidence so far."""
    from rich.console import Group
    from rich.text import Text

    found = {method.__name__: method for method in methods()}
    if name in found:
        return Group(*(Text(line) for line in _method(found[name])))
    if name in recipes.names():
        return Group(*(Text(line) for line in _recipe(name)))
    known = ", ".join(sorted(found)) + "; recipes: " + ", ".join(recipes.names())
    raise ValueError(f"no method or recipe {name!r}; there are {known}")


def _method(method: type) -> list[str]:
    whole = re.compile(rf"\b{method.__name__}\b")  # SNIP is not in SNIPER
    users = [name for name in recipes.names() if whole.search(_parts(name))]
    folder = folder_of(method)
    return [
        f"{method.__name__}{inspect.signature(method)}".replace(" -> None", ""),
        f"from detbalance.{folder} import {method.__name__}",
        "",
        *_paragraphs(method),
        "",
        f"addresses: {', '.join(problem.value for problem in method.addresses)}",
        f"paper: {method.paper}",
        *_bounds(method),
        *_cost(method),
        f"recipes: {', '.join(users) or 'none yet'}",
        *(line for name in users for line in _evidence(name)),
    ]


def _paragraphs(documented: Any) -> list[str]:
    """The docstring with each paragraph as one line, for a terminal of any width to break; lists, formulas and examples
    keep their lines.

    >>> class Mine:
    ...     __doc__ = "One\\ntwo.\\n\\nShapes: a\\n  -> b"
    >>> _paragraphs(Mine)
    ['One two.', '', 'Shapes: a', '  -> b']
    """
    lines: list[str] = []
    for line in (inspect.getdoc(documented) or "").splitlines():
        own = not line or line[0] in " >-|" or re.match(r"[A-Z][a-z]+( by)?:", line)
        if own or not lines or not lines[-1] or lines[-1][0] in " >|" or lines[-1].startswith("Args:"):
            lines.append(line)
        else:
            lines[-1] += f" {line}"
    return lines


def _named(method: type) -> str:
    """The name; with a neck what it costs."""
    if folder_of(method) != "necks":
        return method.__name__
    cost = neck_cost(method)
    return f"{method.__name__} ({cost.parameters / 1e6:.3g} M, {cost.flops / 1e9:.3g} G)"


def _cost(method: type) -> list[str]:
    """What a neck costs, and in FPNs."""
    if folder_of(method) != "necks":
        return []
    mine, plain = neck_cost(method), neck_cost(exported("necks").FPN)
    ratio = f"{mine.parameters / plain.parameters:.2f} and {mine.flops / plain.flops:.2f} times FPN's"
    return [f"cost: {mine}, {ratio}, on {STATED}"]


def _bounds(method: type) -> list[str]:
    """The range of a loss: bounded and unbounded ones do not balance by themselves (review, section 7.2)."""
    if not hasattr(method, "bounds"):
        return []
    low, high = method.bounds
    end = "without end (unbounded)" if math.isinf(high) else f"to {high:g} (bounded)"
    return [f"range: from {low:g} {end}, for a candidate or a ranked set, at the default settings"]


def _recipe(name: str) -> list[str]:
    made = [f"{kind}: {recipes.get(name, kind)!r}" for kind in recipes.kinds(name)]
    return [*_paragraphs(getattr(recipes, name)), "", *made, *_evidence(name)]


def _parts(name: str) -> str:
    return " ".join(repr(recipes.get(name, kind)) for kind in recipes.kinds(name))


def _evidence(name: str) -> list[str]:
    """What the stored comparisons say of a recipe, a line each."""
    lines = []
    for path in sorted(EVIDENCE.glob("*.json")):
        record = json.loads(path.read_text())
        mine = record["recipes"].get(name)
        gap = mine and mine["metrics"]["AP"]["difference"]
        if gap:
            low, mean, high = (100 * gap[k] for k in ("low", "mean", "high"))
            lines.append(
                f"evidence, {name} on {path.stem}: {mean:+.1f} AP [{low:+.1f}, {high:+.1f}], "
                f"{len(record['seeds'])} seeds"
            )
    return lines


def _first(function: Any) -> str:
    text = " ".join((inspect.getdoc(function) or "").split())
    # A full stop within a number, or after "et al", ends no sentence.
    return re.split(r"(?<!et al)\.(?:\s|$)", text)[0]
