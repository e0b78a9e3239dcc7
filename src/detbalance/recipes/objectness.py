"""Foreground against background: objectness beside the classes, and training without sampling."""

from __future__ import annotations

from functools import partial

from ..heads import ClassAdaptiveThreshold, ObjectnessBranch, ObjectnessModule, ResidualObjectness
from ..losses import CrossEntropyLoss
from ..objectives import GuidedLoss
from ..recipe import Recipe, Stage
from ..samplers import AllSampler, HardNegativeSampler, NegativeAnchorFilter, ObjectnessPrior
from ._shared import check_kind, mined

__all__ = [
    "negative_anchor_filter",
    "objectness_branch",
    "objectness_module",
    "objectness_prior",
    "residual_objectness",
    "sampling_free",
]


def objectness_prior(kind: str) -> Recipe:
    """RON: an objectness branch, which multiplies the scores, and classes that are learnt where it sees an object."""
    _retinanet("objectness_prior", kind)
    head = partial(ObjectnessBranch, prior=0.1, weight=1.0, ratio=3.0, classes_on="all", class_prior=0.1)
    return Recipe(name="objectness_prior", head=head, stages=mined(ObjectnessPrior(), kind))


def negative_anchor_filter(kind: str) -> Recipe:
    """RefineDet: anchors that a binary classifier finds to be background beyond doubt take no part, of the other
    negatives the hardest train."""
    _retinanet("negative_anchor_filter", kind)
    head = partial(ObjectnessModule, guide=False)
    return Recipe(name="negative_anchor_filter", head=head, stages=mined(NegativeAnchorFilter(), kind))


def objectness_module(kind: str) -> Recipe:
    """EFGRNet: an objectness module before each prediction layer filters the easy anchors and guides the features."""
    _retinanet("objectness_module", kind)
    return Recipe(name="objectness_module", head=ObjectnessModule, stages=mined(HardNegativeSampler(), kind))


def objectness_branch(kind: str) -> Recipe:
    """Classes learnt from objects alone, beside an objectness learnt from all anchors; cross-entropy, no sampling."""
    _retinanet("objectness_branch", kind)
    return Recipe(name="objectness_branch", head=ObjectnessBranch, stages=_decoupled())


def residual_objectness(kind: str) -> Recipe:
    """Residual objectness: as `objectness_branch`, and the objectness is refined in a second step."""
    _retinanet("residual_objectness", kind)
    return Recipe(name="residual_objectness", head=ResidualObjectness, stages=_decoupled())


def sampling_free(kind: str) -> Recipe:
    """Cross-entropy over every candidate, tamed by a bias from the data, guided loss, and a threshold for each class.

    In R-CNN the proposal network and the region head train on all; the threshold is the authors' lower one.
    """
    if check_kind(kind) == "rcnn":
        stages = Stage(sample=AllSampler(), score_threshold=0.001)
        proposals = Stage(sample=AllSampler(), prior="data")
        return Recipe(name="sampling_free", proposals=proposals, stages=stages, objective=GuidedLoss(weight=2.0))
    _retinanet("sampling_free", kind)
    stages = Stage(cls_loss=CrossEntropyLoss(), prior="data", score_threshold=1e-6)
    return Recipe(name="sampling_free", head=ClassAdaptiveThreshold, stages=stages, objective=GuidedLoss())


def _retinanet(name: str, kind: str) -> None:
    """Refuse the kinds without RetinaNet's head. In two stages the proposal network is the objectness."""
    if check_kind(kind) != "dense":
        raise ValueError(f"recipe {name!r} adds to RetinaNet's head: it needs a one-stage detector of kind 'dense'")


def _decoupled() -> Stage:
    """Classes from positives alone: cross-entropy over ten times the positives, as the authors of residual objectness
    have it. Scores are products, so they are smaller."""
    return Stage(cls_loss=CrossEntropyLoss(), cls_weight=0.1, score_threshold=0.01)
