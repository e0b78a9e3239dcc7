"""Foreground against background: losses that rank."""

from __future__ import annotations

from dataclasses import replace

from ..assigners import ATSSAssigner, MaxIoUAssigner
from ..losses import ALRPLoss, APLoss, DRLoss, GIoULoss, RankSortLoss
from ..objectives import SelfBalancing
from ..recipe import Recipe, Stage
from ..samplers import AllSampler
from ..weights import ScoreWeights
from ._shared import sigmoid

__all__ = ["alrp", "ap_loss", "dr_loss", "rank_sort"]


def ap_loss(kind: str) -> Recipe:
    """AP loss over every candidate, the detector's own box loss; in R-CNN the anchors of the proposal network."""
    return _ranked("ap_loss", kind, Stage(cls_loss=APLoss(), prior=0.01, score_threshold=0.01))


def alrp(kind: str) -> Recipe:
    """aLRP loss, class and box together; in R-CNN the anchors of the proposal network."""
    return _ranked("alrp", kind, Stage(joint_loss=ALRPLoss(), prior=0.01, score_threshold=0.001))


def rank_sort(kind: str) -> Recipe:
    """Rank & Sort loss on ATSS, with GIoU loss weighed by the scores, and the box loss scaled to the class loss; in
    R-CNN in both heads, with their own assignment, and one sigmoid a class in the region head, as in the paper.

    A score that only ranks is no probability: the authors' threshold of 0.05 cuts most detections off after a short
    training (bccd's val, 8 epochs, IoU thresholds: AP 50.0 at 0.001 and at 0.01, 21.8 at 0.05; with ATSS 52.3)."""
    stage = Stage(cls_loss=RankSortLoss(), box_loss=GIoULoss(), weigh=ScoreWeights(), prior=0.01, score_threshold=0.001)
    if kind != "rcnn":
        stage = replace(stage, assign=ATSSAssigner())
    recipe = replace(_ranked("rank_sort", kind, stage), objective=SelfBalancing())
    return replace(recipe, stages=stage) if kind == "rcnn" else recipe


def dr_loss(kind: str) -> Recipe:
    """Distributional ranking within each image, from even odds, with one threshold at IoU 0.5 between object and
    background; in R-CNN on the anchors of the proposal network, which keeps its thresholds."""
    if kind == "rcnn":
        return _ranked("dr_loss", kind, Stage(cls_loss=DRLoss(), prior=0.5))
    assign = MaxIoUAssigner(positive=0.5, negative=0.5)
    return _ranked("dr_loss", kind, Stage(assign=assign, cls_loss=DRLoss(), prior=0.5, score_threshold=0.2))


def _ranked(name: str, kind: str, stage: Stage) -> Recipe:
    """A loss that ranks all candidates: nothing is sampled."""
    sigmoid(name, kind)
    if kind == "rcnn":
        return Recipe(name=name, proposals=replace(stage, sample=AllSampler(), score_threshold=None))
    return Recipe(name=name, stages=stage)
