"""Foreground against background: which candidates train."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..box_generators import IoUUniformJitter, PositiveRoIGenerator
from ..recipe import Recipe, Stage
from ..samplers import (
    BootstrappedSampler,
    CombinedSampler,
    ForegroundBalancedSampler,
    HardNegativeSampler,
    InstanceBalancedSampler,
    IoUBalancedSampler,
    IoULowerBound,
    LossRankMining,
    OHEMSampler,
    OverlapSampler,
    RandomSampler,
    ScoreHLRSampler,
    SemiHardSampler,
)
from ..weights import PrimeSampleWeights
from ._shared import check_kind, mined, not_yolo, two_stages

__all__ = [
    "bootstrapping",
    "foreground_balanced",
    "hard_negatives",
    "instance_balanced",
    "iou_balanced",
    "iou_lower_bound",
    "iou_uniform",
    "isr_n",
    "libra_sampling",
    "lrm",
    "ohem",
    "overlap_sampling",
    "proi",
    "semi_hard",
    "ssd_mining",
]


def ohem(kind: str) -> Recipe:
    """Online hard example mining: the candidates of the highest loss train."""
    if check_kind(kind) != "rcnn":
        return Recipe(name="ohem", stages=mined(OHEMSampler(count=256), kind))
    return Recipe(name="ohem", stages=Stage(sample=OHEMSampler(count=64)))


def hard_negatives(kind: str) -> Recipe:
    """SSD's mining: all positives, and three times as many negatives, those of the highest loss. SSD itself does it
    unasked: there it changes nothing."""
    if check_kind(kind) == "dense":
        return Recipe(name="hard_negatives", stages=mined(HardNegativeSampler(), kind))
    return Recipe(name="hard_negatives", stages=Stage(sample=HardNegativeSampler()))


def ssd_mining(kind: str) -> Recipe:
    """The same as `hard_negatives`, by the name of the detector that brought it."""
    return replace(hard_negatives(kind), name="ssd_mining")


def iou_balanced(kind: str) -> Recipe:
    """Libra's negatives: drawn evenly over their IoU with the objects."""
    return _sampled("iou_balanced", kind, negative=IoUBalancedSampler())


def instance_balanced(kind: str) -> Recipe:
    """Libra's positives: drawn evenly over the objects."""
    return _sampled("instance_balanced", kind, positive=InstanceBalancedSampler())


def libra_sampling(kind: str) -> Recipe:
    """Libra's sampling, positives and negatives."""
    return _sampled("libra_sampling", kind, positive=InstanceBalancedSampler(), negative=IoUBalancedSampler())


def isr_n(kind: str) -> Recipe:
    """PISA's selection and reweighting of the negatives by the score-hierarchical local rank; two stages only."""
    if check_kind(kind) != "rcnn":
        raise ValueError("recipe 'isr_n' selects among proposals: it needs a two-stage detector ('rcnn')")
    sample = _combined(positive=RandomSampler(), negative=ScoreHLRSampler())
    return Recipe(name="isr_n", stages=Stage(sample=sample, weigh=PrimeSampleWeights(positive=False)))


def lrm(kind: str) -> Recipe:
    """Loss rank mining: of the final map only the elements of the highest loss train, with the detector's own losses.

    How many the paper keeps is not known; 256 are as many as the other samplers of this file draw.
    """
    if check_kind(kind) == "rcnn":
        raise ValueError("recipe 'lrm' mines the final map of a one-stage detector; for two stages there is 'ohem'")
    return Recipe(name="lrm", stages=Stage(sample=LossRankMining(keep=256)))


def iou_lower_bound(kind: str) -> Recipe:
    """Fast R-CNN's negatives: those that overlap an object by 0.1 to 0.5."""
    return _sampled("iou_lower_bound", kind, negative=IoULowerBound())


def overlap_sampling(kind: str) -> Recipe:
    """Negatives drawn evenly from those that overlap the sampled positives much and little."""
    return _sampled("overlap_sampling", kind, negative=OverlapSampler())


def semi_hard(kind: str) -> Recipe:
    """Negatives that score just below an object, as in metric learning."""
    return _sampled("semi_hard", kind, negative=SemiHardSampler())


def bootstrapping(kind: str) -> Recipe:
    """Negatives on which an earlier model failed, and others at random. `bootstrapping.bootstrap` trains the models and
    finds the negatives; trained by itself it is random sampling."""
    return _sampled("bootstrapping", kind, negative=BootstrappedSampler())


def foreground_balanced(kind: str) -> Recipe:
    """Positives drawn evenly over the classes of the image."""
    return _sampled("foreground_balanced", kind, positive=ForegroundBalancedSampler())


def proi(kind: str) -> Recipe:
    """The region head's positives generated: evenly over the classes of the image and over IoUs; two stages only."""
    two_stages("proi", kind)
    return Recipe(name="proi", stages=Stage(box_generator=PositiveRoIGenerator()))


def iou_uniform(kind: str) -> Recipe:
    """Jittered objects, evenly over IoUs, train the region head's boxes; its classes train on the proposals as before.
    Two stages only."""
    two_stages("iou_uniform", kind)
    return Recipe(name="iou_uniform", stages=Stage(box_generator=IoUUniformJitter()))


def _combined(**parts: Callable) -> CombinedSampler:
    """As many rows, and as many positives among them, as the detector's own sampler: the only difference is which."""
    return CombinedSampler(count=None, positive_fraction=None, **parts)


def _sampled(name: str, kind: str, **parts: Callable) -> Recipe:
    parts = {"positive": RandomSampler(), "negative": RandomSampler(), **parts}
    if not_yolo(name, kind) != "rcnn":
        return Recipe(name=name, stages=mined(CombinedSampler(count=256, positive_fraction=0.5, **parts), kind))
    return Recipe(name=name, stages=Stage(sample=_combined(**parts)))
