"""New images made in the training step, against the detector."""

from __future__ import annotations

from ..recipe import Recipe
from ..synthesis import TaskAwareSynthesis
from ._shared import check_kind

__all__ = ["task_aware_synthesis"]


def task_aware_synthesis(kind: str) -> Recipe:
    """Objects pasted by a network that learns where and how they look real and are hard to detect."""
    check_kind(kind)
    return Recipe(name="task_aware_synthesis", synthesis=TaskAwareSynthesis())
