"""What the remedies are measured by."""

from __future__ import annotations

from collections.abc import Callable

from ..losses import CrossEntropyLoss, FocalLoss
from ..recipe import Recipe, Stage
from ..samplers import AllSampler, RandomSampler
from ._shared import check_kind, mined

__all__ = ["baseline", "cross_entropy", "focal", "random_sampling"]


def baseline(kind: str) -> Recipe:
    """The detector as it is."""
    check_kind(kind)
    return Recipe(name="baseline")


def cross_entropy(kind: str) -> Recipe:
    """No remedy at all: cross-entropy over every candidate, nothing sampled and nothing weighed.

    In R-CNN the RoI head keeps its random sampling and the proposal network trains on every anchor.
    """
    if check_kind(kind) == "dense":
        return Recipe(name="cross_entropy", stages=Stage(cls_loss=CrossEntropyLoss()))
    if kind != "rcnn":
        return Recipe(name="cross_entropy", stages=_softmax_over_all(CrossEntropyLoss(softmax=True)))
    return Recipe(name="cross_entropy", proposals=Stage(sample=AllSampler(), cls_loss=CrossEntropyLoss(), prior=0.01))


def focal(kind: str) -> Recipe:
    """Focal loss over every candidate (in R-CNN: every anchor of the proposal network) instead of sampling."""
    if check_kind(kind) == "dense":
        return Recipe(name="focal", stages=Stage(cls_loss=FocalLoss(), prior=0.01))
    if kind != "rcnn":
        return Recipe(name="focal", stages=_softmax_over_all(FocalLoss(softmax=True)))
    return Recipe(name="focal", proposals=Stage(sample=AllSampler(), cls_loss=FocalLoss(), prior=0.01))


def random_sampling(kind: str) -> Recipe:
    """Random sampling at the ratios of Faster R-CNN, with cross-entropy."""
    if check_kind(kind) != "rcnn":
        return Recipe(name="random_sampling", stages=mined(RandomSampler(count=256, positive_fraction=0.5), kind))
    return Recipe(name="random_sampling", stages=Stage(sample=RandomSampler(count=None, positive_fraction=None)))


def _softmax_over_all(loss: Callable) -> Stage:
    """A loss over every candidate of a one-stage detector with a softmax, in place of mining."""
    return Stage(sample=AllSampler(), cls_loss=loss, prior=0.01)
