"""Heads: modules with the contract of the head that they replace. Built as head(old head), whose parts they keep.

A head that learns something of its own adds to the predictions of training, and has a method `supervise(predictions,
matched, labels, norm) -> (matched, losses)`: which candidates the losses of classes and boxes see, and its own losses.
"""

from .class_adaptive_threshold import ClassAdaptiveThreshold
from .hierarchical_shot import HierarchicalShot
from .objectness_branch import ObjectnessBranch
from .objectness_module import ObjectnessModule
from .residual_objectness import ResidualObjectness

__all__ = [
    "ClassAdaptiveThreshold",
    "HierarchicalShot",
    "ObjectnessBranch",
    "ObjectnessModule",
    "ResidualObjectness",
]
