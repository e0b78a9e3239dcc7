"""Task against task."""

from __future__ import annotations

from ..objectives import (
    DynamicTaskPrioritisation,
    DynamicWeightAveraging,
    GradNorm,
    SelfPacedTaskWeighting,
    UncertaintyWeighting,
)
from ..recipe import Recipe
from ._shared import check_kind

__all__ = ["dtp", "dwa", "gradnorm", "self_paced", "uncertainty"]


def uncertainty(kind: str) -> Recipe:
    """Each task learns how noisy it is, and weighs the less."""
    check_kind(kind)
    return Recipe(name="uncertainty", objective=UncertaintyWeighting())


def gradnorm(kind: str) -> Recipe:
    """GradNorm: the gradients of the tasks at the shared layers keep a common size, larger where a task lags behind."""
    check_kind(kind)
    return Recipe(name="gradnorm", objective=GradNorm())


def dwa(kind: str) -> Recipe:
    """Dynamic weight averaging: tasks whose loss fell slowly over the last epochs gain weight."""
    check_kind(kind)
    return Recipe(name="dwa", objective=DynamicWeightAveraging())


def dtp(kind: str) -> Recipe:
    """Dynamic task prioritisation by true-class probability and IoU; the sum of the weights stays."""
    check_kind(kind)
    return Recipe(name="dtp", objective=DynamicTaskPrioritisation(normalise=True))


def self_paced(kind: str) -> Recipe:
    """Self-paced tasks: those that have come down furthest from their first loss count most, at last all alike."""
    check_kind(kind)
    return Recipe(name="self_paced", objective=SelfPacedTaskWeighting(relative=True))
