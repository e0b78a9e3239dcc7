"""Heads: modules with the contract of the head that they replace. Built as head(old head), whose parts they keep.

A head that learns something of its own adds to the predictions of training, and has a method `supervise(predictions,
matched, labels, norm) -> (matched, losses)`: which candidates the losses of classes and boxes see, and its own losses;
it may change the predictions that these see. One that moves the anchors first adds `first_regression`, and has
`moved(predictions)`, the code that they are moved by, and `screen(predictions, matched)`, which of the moved ones
train: the other losses are taken of these. One that changes with the phases of training has `enter_phase(phase,
first)`, called when an epoch begins.

A head with anchors of its own has a method `anchors(generator)`, which gives what takes the place of the detector's
anchor generator: a module, called as torchvision's after the head with (images, features), that gives the anchors of
each image in the order of the predictions. If it has a method `losses(targets)`, the detector learns these as well.
"""

from ._guidance import Guidance
from .cascaded_refinement import CascadedRefinement
from .class_adaptive_threshold import ClassAdaptiveThreshold
from .class_hierarchy import ClassHierarchy
from .guided_anchoring import GuidedAnchoring, GuidedProposals
from .hierarchical_shot import HierarchicalShot
from .meta_anchor import MetaAnchor
from .objectness_branch import ObjectnessBranch
from .objectness_module import ObjectnessModule
from .residual_objectness import ResidualObjectness
from .separate_heads import SeparateHeads

__all__ = [
    "CascadedRefinement",
    "ClassAdaptiveThreshold",
    "ClassHierarchy",
    "Guidance",
    "GuidedAnchoring",
    "GuidedProposals",
    "HierarchicalShot",
    "MetaAnchor",
    "ObjectnessBranch",
    "ObjectnessModule",
    "ResidualObjectness",
    "SeparateHeads",
]
