"""What a user may ask for, checked so that measures can rely on it: anchors by name, and desired distributions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from . import anchors
from .anchors import AnchorPreset
from .classes import class_target
from .spatial import GRID

__all__ = ["TARGETS", "anchor_preset", "checked_targets"]

_PRESETS = ("RETINANET", "FASTER_RCNN", "SSD300", "YOLOV2", "YOLOV3")


def anchor_preset(anchors_: AnchorPreset | str | None) -> AnchorPreset:
    """A preset itself, or by name; RetinaNet's for None.

    >>> anchor_preset("yolov3").strides
    (8, 16, 32)
    """
    if isinstance(anchors_, AnchorPreset):
        return anchors_
    names = {name.lower(): name for name in _PRESETS}
    if anchors_ is not None and str(anchors_).lower() not in names:
        raise ValueError(f"expected anchors to be one of {', '.join(names)} or an AnchorPreset but got {anchors_!r}")
    return getattr(anchors, names[str(anchors_ or "retinanet").lower()])


def _weights(number: int | None) -> Callable[[str, Any], np.ndarray]:
    def check(key: str, value: Any) -> np.ndarray:
        weights = np.asarray(value, np.float64).ravel()
        if (number and len(weights) != number) or not (np.isfinite(weights).all() and (weights > 0).all()):
            raise ValueError(f"target of {key!r}: expected {number or 'some'} positive weights but got {value!r:.80}")
        return weights

    return check


def _sample(key: str, value: Any) -> np.ndarray:
    sample = np.asarray(value, np.float64).ravel()
    if not len(sample) or not ((sample >= 0) & (sample <= 1)).all():
        raise ValueError(f"target of {key!r}: expected a sample of numbers in [0, 1] but got {value!r:.80}")
    return sample


def _ratio(key: str, value: Any) -> float:
    if not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise ValueError(f"target of {key!r}: expected a positive number (negatives to one positive) but got {value!r}")
    return float(value)


TARGETS: dict[str, Callable[[str, Any], Any]] = {
    "foreground": _ratio,
    "object_size": _sample,
    "size_bins": _weights(3),
    "level_positives": _weights(None),
    "roi_levels": _weights(4),
    "positive_ious": _sample,
    "centres": _weights(GRID * GRID),
    "aspect": _sample,
    "tasks": _weights(None),
}
"""findings besides "classes" whose balanced distribution can be replaced, and how it is checked"""


def checked_targets(targets: Mapping[str, Any] | None, classes: Sequence[str]) -> dict[str, Any]:
    """A user's targets as the measures take them. Raises ValueError for unknown keys and unusable values."""
    wanted = {}
    for key, value in (targets or {}).items():
        if key == "classes":
            wanted[key] = class_target(classes, value)
        elif key in TARGETS:
            wanted[key] = TARGETS[key](key, value)
        else:
            raise ValueError(f"expected a target for one of classes, {', '.join(TARGETS)} but got {key!r}")
    return wanted
