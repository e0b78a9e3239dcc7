"""Examples that no image shows, made while the detector learns."""

from __future__ import annotations

from ..recipe import Recipe
from ..region_heads import AdversarialExamples
from ._shared import two_stages

__all__ = ["adversarial", "adversarial_dropout", "adversarial_transformer"]


def adversarial_dropout(kind: str) -> Recipe:
    """A-Fast-RCNN's spatial dropout: an opponent learns which part of an object to hide from the head; two stages
    only."""
    return _opposed("adversarial_dropout", kind, AdversarialExamples(turn=False))


def adversarial_transformer(kind: str) -> Recipe:
    """A-Fast-RCNN's spatial transformer: an opponent learns how to turn an object's features; two stages only."""
    return _opposed("adversarial_transformer", kind, AdversarialExamples(hide=False))


def adversarial(kind: str) -> Recipe:
    """A-Fast-RCNN: an opponent turns an object's features, and hides a part of them; two stages only."""
    return _opposed("adversarial", kind, AdversarialExamples())


def _opposed(name: str, kind: str, region: AdversarialExamples) -> Recipe:
    two_stages(name, kind)
    return Recipe(name=name, region=region)
