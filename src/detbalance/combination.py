"""Recipes put together, and taken apart again: `a+b` is both, `a+b-b` is `a`."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from .recipe import Recipe, Stage

__all__ = ["ablation", "combine", "terms"]


def combine(name: str, *recipes: Recipe) -> Recipe:
    """One recipe with the methods of several, each in its own slot; weights of one head multiply.

    A recipe of one stage treats every stage of another's cascade.

    Raises ValueError for two recipes that fill the same slot differently, naming both and the slot.

    >>> from detbalance import recipes
    >>> both = combine("both", recipes.get("balanced_l1", "dense"), recipes.get("balanced_fpn", "dense"))
    >>> both.stages.box_loss
    BalancedL1Loss(alpha=0.5, gamma=1.5, beta=0.11)
    >>> combine("twice", recipes.get("focal", "dense"), recipes.get("ghm", "dense"))
    Traceback (most recent call last):
    ...
    ValueError: 'focal' and 'ghm' both set stages.cls_loss: they cannot be combined
    """
    whole, owners = Recipe(name=name), {}
    for recipe in recipes:
        for field in fields(Recipe):
            present, added = getattr(whole, field.name), getattr(recipe, field.name)
            if field.name == "name":
                continue
            if field.name == "region" and present is not None and added not in (None, present):
                whole = replace(whole, region=(*_tuple(present), *_tuple(added)))
                continue
            merge = _stages if field.name in ("proposals", "stages") else _slot
            whole = replace(whole, **{field.name: merge(present, added, field.name, recipe.name, owners)})
    return whole


def _stages(present: Stage | tuple, added: Stage | tuple, slot: str, name: str, owners: dict) -> Stage | tuple:
    if isinstance(present, tuple) and isinstance(added, tuple):
        raise ValueError(f"{owners[slot]!r} and {name!r} both make a cascade: they cannot be combined")
    if isinstance(present, tuple):
        return tuple(_stage(stage, added, slot, name, dict(owners)) for stage in present)
    if isinstance(added, tuple):
        owners[slot] = name
        return tuple(_stage(present, stage, slot, name, dict(owners)) for stage in added)
    return _stage(present, added, slot, name, owners)


def _stage(present: Stage, added: Stage, path: str, name: str, owners: dict) -> Stage:
    slots = {}
    for field in fields(Stage):
        old, new = getattr(present, field.name), getattr(added, field.name)
        if field.name == "weigh" and old is not None and new is not None:
            slots["weigh"] = (*_tuple(old), *_tuple(new))
        else:
            slots[field.name] = _slot(old, new, f"{path}.{field.name}", name, owners)
    return Stage(**slots)


def _slot(present: Any, added: Any, slot: str, name: str, owners: dict) -> Any:
    if added in (None, ()) or added == present:
        return present
    if present not in (None, ()):  # a recipe without phases has ()
        raise ValueError(f"{owners.get(slot)!r} and {name!r} both set {slot}: they cannot be combined")
    owners[slot] = name
    return added


def _tuple(value: Any) -> tuple:
    return value if isinstance(value, tuple) else (value,)


def terms(expression: str) -> list[tuple[bool, str]]:
    """The parts of `a+b-c`, each with whether it is added; a file's name may hold a minus.

    >>> terms("balanced-focal+my-file.py:mine")
    [(True, 'balanced'), (False, 'focal'), (True, 'my-file.py:mine')]
    """
    found = []
    for piece in expression.split("+"):
        first, *without = [piece] if ".py:" in piece or piece.endswith(".json") else piece.split("-")
        found += [(True, first.strip()), *((False, name.strip()) for name in without)]
    return found


def ablation(name: str, parts: tuple[str, ...]) -> list[str]:
    """What tells which part of a recipe does what: nothing, all, all but one, one alone.

    Raises ValueError for a recipe of less than two parts.

    >>> ablation("both", ("focal", "panet"))
    ['baseline', 'both', 'focal', 'panet']
    >>> ablation("three", ("a", "b", "c"))[2:]
    ['three-a', 'three-b', 'three-c', 'a', 'b', 'c']
    """
    if len(parts) < 2:
        raise ValueError(f"recipe {name!r} has no parts to take away; give one of several, such as `balanced` or `a+b`")
    less = [f"{name}-{part}" for part in parts] if len(parts) > 2 else []
    return ["baseline", name, *less, *parts]
