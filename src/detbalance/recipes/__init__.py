"""The named recipes: functions of the detector's kind, "dense" (one stage, a sigmoid a class: RetinaNet, FCOS), "ssd"
(one stage, a softmax: SSD), "yolo" (YOLOv2) or "rcnn" (two stages).

Each sets all that its paper needs, so that naming it is enough. A recipe of your own is a function of the same shape in
a file of your own: `--recipe my_file.py:my_recipe`.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from ..combination import combine, terms
from ..recipe import Recipe
from . import (
    assignment,
    boxes,
    classes,
    generative,
    hard_sampling,
    images,
    objectives,
    objectness,
    plain,
    ranking,
    regression,
    scale,
    soft_sampling,
    synthesised,
    together,
)
from ._shared import KINDS, with_anchors
from .assignment import *  # noqa: F403
from .boxes import *  # noqa: F403
from .classes import *  # noqa: F403
from .generative import *  # noqa: F403
from .hard_sampling import *  # noqa: F403
from .images import *  # noqa: F403
from .objectives import *  # noqa: F403
from .objectness import *  # noqa: F403
from .plain import *  # noqa: F403
from .ranking import *  # noqa: F403
from .regression import *  # noqa: F403
from .scale import *  # noqa: F403
from .soft_sampling import *  # noqa: F403
from .synthesised import *  # noqa: F403
from .together import *  # noqa: F403
from .together import COMBINED

__all__ = ["COMBINED", "GROUPS", "get", "in_group", "kinds", "names", "parts"]

GROUPS = (
    plain,
    hard_sampling,
    soft_sampling,
    objectness,
    ranking,
    images,
    generative,
    synthesised,
    classes,
    scale,
    boxes,
    regression,
    assignment,
    objectives,
    together,
)
"""The modules of the recipes, by what they are against; each says it in its first line."""


def names() -> list[str]:
    """Every named recipe, group after group.

    >>> names()[:3]
    ['baseline', 'cross_entropy', 'focal']
    """
    return [name for group in GROUPS for name in in_group(group)]


def in_group(group: ModuleType) -> list[str]:
    """The recipes of one of `GROUPS`, in the order of its file.

    >>> in_group(ranking)
    ['ap_loss', 'alrp', 'rank_sort', 'dr_loss']
    """
    return sorted(group.__all__, key=lambda name: getattr(group, name).__code__.co_firstlineno)


def kinds(name: str) -> tuple[str, ...]:
    """The kinds of detector that take a recipe.

    >>> kinds("isr_n")
    ('rcnn',)
    """
    taken = []
    for kind in KINDS:
        try:
            get(name, kind)
        except ValueError:
            continue
        taken.append(kind)
    return tuple(taken)


def get(name: str, kind: str) -> Recipe:
    """A recipe by name, `file.py:function` for one of your own, `anchors.json` for anchors that `detbalance anchors`
    found, or several put together: `a+b`; `c-a` is `c` without its part `a`.

    Raises ValueError for a name that is none of them, listing those there are; for recipes that fill the same slot.

    >>> get("focal", "dense").stages.cls_loss
    FocalLoss(gamma=2.0, alpha=0.25, softmax=False)
    >>> get("focal+balanced_l1", "dense").stages.box_loss
    BalancedL1Loss(alpha=0.5, gamma=1.5, beta=0.11)
    """
    chosen = parts(name, kind)
    if chosen == (name,):
        return _named(name, kind)
    return combine(name, *(_named(part, kind) for part in chosen))


def parts(name: str, kind: str) -> tuple[str, ...]:
    """The names that a recipe is put together from; itself alone, where it is one method.

    >>> parts("focal+balanced_l1", "dense")
    ('focal', 'balanced_l1')
    """
    chosen: list[str] = []
    for added, part in terms(name):
        if added:
            chosen += COMBINED.get(part, {}).get(kind, (part,))
        elif part in chosen:
            chosen.remove(part)
        else:
            raise ValueError(f"{part!r} is no part of {name.partition('-')[0]!r}, which has {', '.join(chosen)}")
    if not chosen:
        raise ValueError(f"nothing is left of recipe {name!r}")
    return tuple(chosen)


def _named(name: str, kind: str) -> Recipe:
    path, colon, function = name.rpartition(":")
    if colon and path.endswith(".py"):
        return _from_file(Path(path), function, kind)
    if name.endswith(".json"):
        return with_anchors(Path(name), kind)
    if name not in names():
        raise ValueError(
            f"no recipe {name!r}; there are {', '.join(names())}, `file.py:function` for your own, "
            "`anchors.json` of `detbalance anchors`, `a+b` for several"
        )
    return globals()[name](kind)


def _from_file(path: Path, function: str, kind: str) -> Recipe:
    if not path.is_file():
        raise ValueError(f"recipe file {str(path)!r} does not exist")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    made = getattr(module, function, None)
    recipe = made(kind) if callable(made) else made
    if not isinstance(recipe, Recipe):
        raise ValueError(
            f"{path}: expected {function!r} to be a Recipe or a function kind -> Recipe but got {recipe!r}"
        )
    return recipe
