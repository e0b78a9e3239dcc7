"""Class against class."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..heads import ClassHierarchy
from ..image_sampling import ClassAwareSampling, UnderSampling
from ..losses import (
    BalancedGroupSoftmax,
    CrossEntropyLoss,
    EQLv2Loss,
    EqualisedFocalLoss,
    EquilibriumLoss,
    FederatedLoss,
    FocalLoss,
    LogitAdjustment,
    SeesawLoss,
)
from ..recipe import Phase, Recipe, Stage
from ..region_heads import RegionClassHierarchy
from ..weights import ClassBalancedWeights
from ._shared import check_kind, two_stages, weighed

__all__ = [
    "balanced_finetuning",
    "class_balanced",
    "decoupled",
    "effective_number",
    "eqlv2",
    "equalised_focal",
    "federated",
    "group_softmax",
    "hierarchical_finetuning",
    "loce",
    "logit_adjustment",
    "seesaw",
]


def class_balanced(kind: str) -> Recipe:
    """The class loss of objects weighed by the inverse frequency of their class."""
    return weighed("class_balanced", kind, ClassBalancedWeights(counts=None))


def effective_number(kind: str) -> Recipe:
    """The class loss of objects weighed by the inverse effective number of objects of their class."""
    return weighed("effective_number", kind, ClassBalancedWeights(counts=None, beta=0.999))


def seesaw(kind: str) -> Recipe:
    """Seesaw loss, in the detectors with a softmax."""
    return _classified("seesaw", kind, softmax=SeesawLoss())


def loce(kind: str) -> Recipe:
    """LOCE's equilibrium loss, in the detectors with a softmax."""
    return _classified("loce", kind, softmax=EquilibriumLoss())


def eqlv2(kind: str) -> Recipe:
    """Equalization loss v2 over every anchor; in R-CNN in the region head, which then has one sigmoid a class, as in
    the paper, without the paper's objectness beside them. SSD has a softmax."""
    return _classified("eqlv2", kind, sigmoid=EQLv2Loss())


def equalised_focal(kind: str) -> Recipe:
    """Equalised focal loss, with one sigmoid a class: not for SSD."""
    return _classified("equalised_focal", kind, sigmoid=EqualisedFocalLoss())


def federated(kind: str) -> Recipe:
    """The class loss over 50 classes a step. Data of no more classes are trained as in the baseline."""
    entropy = CrossEntropyLoss(softmax=True)
    losses = {base.softmax: FederatedLoss(counts=None, base=base) for base in (entropy, FocalLoss())}
    return _classified("federated", kind, softmax=losses[True], sigmoid=losses[False])


def logit_adjustment(kind: str) -> Recipe:
    """Logits raised by the logarithm of their class's frequency in training, so that rare classes win by a margin."""
    entropy = CrossEntropyLoss(softmax=True)
    losses = {base.softmax: LogitAdjustment(counts=None, base=base) for base in (entropy, FocalLoss())}
    return _classified("logit_adjustment", kind, softmax=losses[True], sigmoid=losses[False])


def group_softmax(kind: str) -> Recipe:
    """Balanced group softmax: classes compete with those of like frequency alone; two stages only."""
    two_stages("group_softmax", kind)
    return Recipe(name="group_softmax", stages=Stage(cls_loss=BalancedGroupSoftmax(counts=None)))


def decoupled(kind: str) -> Recipe:
    """Classifier re-training (Kang et al. 2020): everything on all images for three quarters of the epochs, then the
    last layer of the classifier, started anew, on images drawn evenly over the classes."""
    if check_kind(kind) == "yolo":
        raise ValueError("recipe 'decoupled' trains the classifier alone; YOLOv2 ('yolo') predicts all with one layer")
    second = Phase(share=1, images=ClassAwareSampling(), trains="classifier", restart=True)
    return Recipe(name="decoupled", phases=(Phase(share=3), second))


def balanced_finetuning(kind: str) -> Recipe:
    """Transfer: everything on all images for three quarters of the epochs, then at a tenth of the learning rate on a
    subset in which the classes are balanced."""
    check_kind(kind)
    second = Phase(share=1, images=UnderSampling(), learning_rate=0.1)
    return Recipe(name="balanced_finetuning", phases=(Phase(share=3), second))


def hierarchical_finetuning(kind: str) -> Recipe:
    """Ouyang et al.: everything on all classes for two thirds of the epochs, then a classifier for each of two groups
    of classes that look alike, then for each of four, each started from the one above it."""
    if check_kind(kind) not in ("dense", "rcnn"):
        raise ValueError(f"recipe 'hierarchical_finetuning' needs RetinaNet's head or a region head, not {kind!r}")
    level = Phase(share=1, images=ClassAwareSampling(), trains="nodes", learning_rate=0.3)
    slot = {"region": RegionClassHierarchy()} if kind == "rcnn" else {"head": partial(ClassHierarchy, groups=(2, 4))}
    return Recipe(name="hierarchical_finetuning", phases=(Phase(share=4), level, level), **slot)


def _classified(name: str, kind: str, *, softmax: Callable | None = None, sigmoid: Callable | None = None) -> Recipe:
    """Another class loss in the detector's own place, the sampling as it is."""
    if check_kind(kind) == "yolo":
        raise ValueError(f"recipe {name!r} does not know the objectness that YOLOv2 ('yolo') learns with its classes")
    loss = sigmoid if kind == "dense" else softmax
    if loss is None and kind == "rcnn":  # the region head follows its loss
        return Recipe(name=name, stages=Stage(cls_loss=sigmoid, prior=0.01))
    if loss is None:
        has, needs = ("one sigmoid a class", "a softmax") if kind == "dense" else ("a softmax", "one sigmoid a class")
        raise ValueError(f"recipe {name!r} needs {needs}; {kind!r} detectors have {has}")
    return Recipe(name=name, stages=Stage(cls_loss=loss))
