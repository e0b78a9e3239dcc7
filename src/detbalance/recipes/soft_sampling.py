"""Foreground against background: how much each candidate counts."""

from __future__ import annotations

from collections.abc import Callable

from ..losses import CrossEntropyLoss, GHMCLoss, GHMRLoss, GIoULoss, IoUBalancedLoss, QualityFocalLoss, VarifocalLoss
from ..recipe import Recipe, Stage
from ..samplers import AllSampler
from ..weights import ClassificationAwareWeights, ConstantWeights, IoUBalancedWeights, PrimeSampleWeights
from ._shared import not_yolo, sigmoid
from .hard_sampling import isr_n

__all__ = ["carl", "constant_weights", "ghm", "iou_balanced_loss", "isr", "isr_p", "pisa", "quality_focal", "varifocal"]


def isr_p(kind: str) -> Recipe:
    """PISA's importance-based reweighting of the positives."""
    not_yolo("isr_p", kind)
    return Recipe(name="isr_p", stages=Stage(weigh=PrimeSampleWeights(negative=False)))


def isr(kind: str) -> Recipe:
    """PISA's importance-based reweighting (of the positives alone in a one-stage detector)."""
    if not_yolo("isr", kind) != "rcnn":
        return Recipe(name="isr", stages=isr_p(kind).stages)
    return Recipe(name="isr", stages=Stage(sample=isr_n(kind).stages.sample, weigh=PrimeSampleWeights()))


def carl(kind: str) -> Recipe:
    """PISA's classification-aware regression loss."""
    not_yolo("carl", kind)
    return Recipe(name="carl", stages=Stage(weigh=ClassificationAwareWeights()))


def pisa(kind: str) -> Recipe:
    """Prime sample attention (Cao et al. 2020): importance-based reweighting and classification-aware regression."""
    stage = isr(kind).stages
    weigh = (stage.weigh, ClassificationAwareWeights())
    return Recipe(name="pisa", stages=Stage(sample=stage.sample, weigh=weigh))


def constant_weights(kind: str) -> Recipe:
    """YOLO's constants: background counts half, boxes five times; cross-entropy over every candidate."""
    if not_yolo("constant_weights", kind) == "rcnn":
        stage = Stage(sample=AllSampler(), weigh=ConstantWeights(), box_weight=5.0, prior=0.01)
        return Recipe(name="constant_weights", proposals=stage)
    loss = CrossEntropyLoss(softmax=kind == "ssd")
    stage = Stage(sample=AllSampler(), cls_loss=loss, weigh=ConstantWeights(), box_weight=5.0, prior=0.01)
    return Recipe(name="constant_weights", stages=stage)


def ghm(kind: str) -> Recipe:
    """Gradient harmonising: 30 bins for classes, 10 for boxes; in R-CNN the classes of the proposal network."""
    sigmoid("ghm", kind)
    if kind == "rcnn":
        return Recipe(name="ghm", proposals=Stage(sample=AllSampler(), cls_loss=GHMCLoss(), prior=0.01))
    # The authors multiply the mean over the coordinates by 10; here it is the sum over four.
    return Recipe(name="ghm", stages=Stage(cls_loss=GHMCLoss(), box_loss=GHMRLoss(), box_weight=2.5, prior=0.01))


def quality_focal(kind: str) -> Recipe:
    """Quality focal loss with GIoU loss at weight 2; in R-CNN the quality focal loss of the proposal network."""
    return _quality("quality_focal", kind, QualityFocalLoss(), 2.0)


def varifocal(kind: str) -> Recipe:
    """Varifocal loss with GIoU loss at weight 1.5; in R-CNN the varifocal loss of the proposal network."""
    return _quality("varifocal", kind, VarifocalLoss(), 1.5)


def iou_balanced_loss(kind: str) -> Recipe:
    """IoU-balanced classification and localisation loss. The box loss reads the code of anchors: not for FCOS."""
    if not_yolo("iou_balanced_loss", kind) == "dense":
        loss = IoUBalancedLoss(beta=0.11)
    else:
        loss = IoUBalancedLoss(weights=(10.0, 10.0, 5.0, 5.0))
    return Recipe(name="iou_balanced_loss", stages=Stage(weigh=IoUBalancedWeights(), box_loss=loss))


def _quality(name: str, kind: str, loss: Callable, box_weight: float) -> Recipe:
    """A loss that learns IoUs, with the box loss of its paper."""
    sigmoid(name, kind)
    if kind == "rcnn":
        return Recipe(name=name, proposals=Stage(sample=AllSampler(), cls_loss=loss, prior=0.01))
    return Recipe(name=name, stages=Stage(cls_loss=loss, box_loss=GIoULoss(), box_weight=box_weight, prior=0.01))
