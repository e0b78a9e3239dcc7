"""Boxes: their losses, their IoUs, where they lie."""

from __future__ import annotations

from ..assigners import DynamicAssigner
from ..detectors.cascade_rcnn import STAGES
from ..heads import HierarchicalShot
from ..losses import CombinedBoxLoss, DynamicSmoothL1Loss, KLLoss
from ..recipe import Recipe, Stage
from ..refinements import IterativeRefinement
from ..suppressions import DIoUSuppression, VarianceVoting
from ..weights import CoverageBalancedWeights, PositionBalancedWeights
from ._shared import balanced_l1_part, check_kind, two_stages, weighed

__all__ = [
    "balanced_l1",
    "cascade",
    "combined_box_loss",
    "coverage_balanced",
    "diou_nms",
    "dynamic_rcnn",
    "hsd",
    "iterative_refinement",
    "kl_loss",
    "position_balanced",
]


def balanced_l1(kind: str) -> Recipe:
    """Libra's box loss: inliers gain gradient, outliers are capped."""
    return Recipe(name="balanced_l1", stages=Stage(box_loss=balanced_l1_part(kind)))


def combined_box_loss(kind: str) -> Recipe:
    """Inliers, ambiguity and overlap in one box loss; in R-CNN with a variance of each box, and voting by it. It reads
    the code of anchors: not for FCOS and YOLOv2."""
    if check_kind(kind) == "yolo":
        raise ValueError("recipe 'combined_box_loss' reads the box code of anchors, which YOLOv2 ('yolo') has not")
    beta = balanced_l1_part(kind).beta
    if kind == "rcnn":
        stage = Stage(
            box_loss=CombinedBoxLoss(variance="box", beta=beta, weights=(10.0,) * 4), suppress=VarianceVoting()
        )
    else:
        weights = (1.0, 1.0, 1.0, 1.0) if kind == "dense" else (10.0, 10.0, 5.0, 5.0)
        stage = Stage(box_loss=CombinedBoxLoss(beta=beta, weights=weights))
    return Recipe(name="combined_box_loss", stages=stage)


def kl_loss(kind: str) -> Recipe:
    """KL loss: the head learns how sure each side of a box is, and detections vote by it; not in YOLOv2."""
    if check_kind(kind) == "yolo":
        raise ValueError("recipe 'kl_loss' learns the variance of a code by sides, which YOLOv2 ('yolo') has not")
    return Recipe(name="kl_loss", stages=Stage(box_loss=KLLoss(), suppress=VarianceVoting()))


def diou_nms(kind: str) -> Recipe:
    """Detections suppressed by distance IoU, which spares neighbours whose middles lie apart."""
    check_kind(kind)
    return Recipe(name="diou_nms", stages=Stage(suppress=DIoUSuppression()))


def dynamic_rcnn(kind: str) -> Recipe:
    """Dynamic R-CNN: the region head's IoU threshold and the beta of its smooth L1 loss follow the proposals as these
    get better; two stages only."""
    two_stages("dynamic_rcnn", kind)
    return Recipe(name="dynamic_rcnn", stages=Stage(assign=DynamicAssigner(), box_loss=DynamicSmoothL1Loss()))


def iterative_refinement(kind: str) -> Recipe:
    """The region head regresses its own boxes a second time in detection; training is the baseline's. Two stages only.
    What a cascade is measured by."""
    two_stages("iterative_refinement", kind)
    return Recipe(name="iterative_refinement", stages=Stage(refine=IterativeRefinement()))


def cascade(kind: str) -> Recipe:
    """Cascade R-CNN (Cai and Vasconcelos 2018): three region heads in a row, each stricter about what an object is and
    each fed with the boxes of the one before; two stages only. `cascade_rcnn` is the detector that has them unasked."""
    two_stages("cascade", kind)
    return Recipe(name="cascade", stages=STAGES)


def hsd(kind: str) -> Recipe:
    """Hierarchical shot detector: boxes are regressed before they are classified, twice, each part trained on the boxes
    that it sees in detection. A cascade in one stage: RetinaNet's."""
    if check_kind(kind) != "dense":
        raise ValueError("recipe 'hsd' takes the place of RetinaNet's head: it needs a detector of kind 'dense'")
    return Recipe(name="hsd", head=HierarchicalShot)


def position_balanced(kind: str) -> Recipe:
    """Positives weighed so that all places about their objects count alike; in R-CNN those of the region head."""
    return weighed("position_balanced", kind, PositionBalancedWeights())


def coverage_balanced(kind: str) -> Recipe:
    """Samples weighed so that every covered place of an image counts alike; in R-CNN those of the region head."""
    return weighed("coverage_balanced", kind, CoverageBalancedWeights())
