"""Diagnose, treat and prove: imbalance in object detection.

Names are loaded when first used, so that importing detbalance imports neither torch nor numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "Annotations": "data.annotations",
    "DataError": "data.annotations",
    "Imbalance": "taxonomy",
    "Family": "taxonomy",
    "Phase": "recipe",
    "Recipe": "recipe",
    "Stage": "recipe",
    "attach": "adapters",
    "compare": "comparison",
    "diagnose": "diagnosis",
    "read": "data.readers",
}
__all__ = [*sorted(_HOME), "recipes"]

if TYPE_CHECKING:
    from . import recipes
    from .adapters import attach
    from .comparison import compare
    from .data.annotations import Annotations, DataError
    from .data.readers import read
    from .diagnosis import diagnose
    from .recipe import Phase, Recipe, Stage
    from .taxonomy import Family, Imbalance


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    if name == "recipes":
        return importlib.import_module(".recipes", __name__)
    raise AttributeError(f"module 'detbalance' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
