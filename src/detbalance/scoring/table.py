"""One run on one test set as arrays: all that AP, oLRP and TIDE depend on, ready to be resampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..data.annotations import Annotations
from ..detections import Predictions, load_predictions
from .matching import AREAS, ClassMatches, matches_of
from .tide import repaired

__all__ = ["MatchTable"]


@dataclass(frozen=True, eq=False)
class MatchTable:
    """The matches of every class, by size of the objects and with each of TIDE's errors repaired."""

    classes: tuple[str, ...]
    images: int
    areas: dict[str, tuple[ClassMatches, ...]]
    """"all", "small", "medium", "large" -> one entry a class"""
    repaired: dict[str, tuple[ClassMatches, ...]]
    """TIDE error -> one entry a class, at IoU .5 alone"""

    @classmethod
    def build(cls, annotations: Annotations, predictions: Sequence[dict] | str | Path | Predictions) -> MatchTable:
        """Match predictions with annotations under COCO's rules (LVIS's where the annotations are LVIS's)."""
        found = load_predictions(predictions, annotations)
        areas = matches_of(annotations, found, areas=tuple(AREAS))
        return cls(annotations.classes, len(annotations), areas, repaired(annotations, found, areas["all"]))
