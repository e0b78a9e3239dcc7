"""Every method of the project, found by walking the method folders: nothing is registered, nothing can be forgotten."""

from __future__ import annotations

import importlib
import inspect
from types import ModuleType

from .taxonomy import Imbalance

__all__ = ["FOLDERS", "exported", "folder_of", "methods", "treating"]

FOLDERS = (
    "assigners",
    "samplers",
    "weights",
    "losses",
    "backbones",
    "necks",
    "heads",
    "region_heads",
    "objectives",
    "image_sampling",
    "augment",
    "synthesis",
    "views",
    "looks",
    "box_generators",
    "refinements",
    "suppressions",
)


def exported(folder: str) -> ModuleType:
    """The package of one method folder."""
    return importlib.import_module(f"detbalance.{folder}")


def methods() -> list[type]:
    """Every method class that the method folders export, each with `addresses` and `paper`; sorted by folder, name."""
    found = []
    for folder in FOLDERS:
        package = exported(folder)
        classes = (getattr(package, name) for name in sorted(package.__all__))
        found += [c for c in classes if inspect.isclass(c) and hasattr(c, "addresses") and hasattr(c, "paper")]
    return found


def folder_of(method: type) -> str:
    """The folder a method lies in, which is also how it is called.

    >>> from detbalance.losses import FocalLoss
    >>> folder_of(FocalLoss)
    'losses'
    """
    return method.__module__.split(".")[1]


def treating(problem: Imbalance) -> list[type]:
    """The methods that address one problem."""
    return [method for method in methods() if problem in method.addresses]
