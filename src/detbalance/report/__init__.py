"""Self-contained HTML reports: one file that opens from disk and asks nothing of the network.

Nothing heavy is imported until a page is made, and torch never is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["comparison_page", "diagnosis_page", "interplay_page", "landscape_page", "save"]


def comparison_page(results: Mapping[str, Any], diagnosis: Any = None) -> str:
    """The page of a comparison: what helped, by how much, how surely; where, and what the detector sees.

    Args:
        results: what `compare` writes to results.json. Parts that are missing leave out their section.
        diagnosis: the dataset's diagnosis; its meters then open the page and its sections close it.
    """
    from .comparison import build

    return build(results, diagnosis)


def diagnosis_page(diagnosis: Any) -> str:
    """The page of a diagnosis: the eight problems as meters, the numbers behind each, and what to try."""
    from .diagnosis import build

    return build(diagnosis)


def interplay_page(plays: Sequence[Any], scene: Any, measures: Mapping[str, str]) -> str:
    """The page of a scene in which one candidate moves, and what every index and loss makes of it under each recipe."""
    from .interplay import build

    return build(plays, scene, measures)


def landscape_page(views: Sequence[Any], descents: Mapping[str, Any] | None = None) -> str:
    """The page of losses side by side: value and gradient over each quantity, and the simulation if there is one."""
    from .landscape import build

    return build(views, descents)


def save(html: str, path: str | Path) -> Path:
    """Write a page, whole or not at all; missing folders are made. Returns the path."""
    from .page import save

    return save(html, path)
