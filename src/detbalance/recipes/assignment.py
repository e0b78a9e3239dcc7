"""Which candidate shows which object, and where candidates are."""

from __future__ import annotations

from collections.abc import Callable

from ..assigners import ATSSAssigner, MaxIoUAssigner, PAAAssigner, SimOTAAssigner, TaskAlignedAssigner
from ..heads import GuidedAnchoring, GuidedProposals, MetaAnchor
from ..losses import CrossEntropyLoss, FocalLoss, FreeAnchorLoss, GIoULoss, QualityFocalLoss, SoftLabelLoss
from ..recipe import Recipe, Stage
from ._shared import check_kind, not_yolo

__all__ = [
    "atss",
    "free_anchor",
    "guided_anchoring",
    "meta_anchor",
    "paa",
    "sim_ota",
    "soft_labels",
    "task_aligned",
]


def atss(kind: str) -> Recipe:
    """ATSS: each object's threshold from the candidates near it, with the paper's GIoU loss; SSD keeps its losses."""
    if not_yolo("atss", kind) == "ssd":
        return Recipe(name="atss", stages=Stage(assign=ATSSAssigner()))
    return _assigned("atss", kind, ATSSAssigner())


def sim_ota(kind: str) -> Recipe:
    """SimOTA: the candidates near an object on which the detector's loss is lowest, with focal and GIoU loss."""
    return _assigned("sim_ota", kind, SimOTAAssigner())


def task_aligned(kind: str) -> Recipe:
    """Task-aligned assignment with quality focal loss, which learns the IoU that the assignment asks for, and GIoU."""
    return _assigned("task_aligned", kind, TaskAlignedAssigner(), cls_loss=QualityFocalLoss())


def paa(kind: str) -> Recipe:
    """Probabilistic anchor assignment with the focal loss and GIoU loss of its paper."""
    return _assigned("paa", kind, PAAAssigner(), box_weight=1.3)


def free_anchor(kind: str) -> Recipe:
    """FreeAnchor: each object learns which of its fifty best anchors shows it. Made for anchors: RetinaNet's."""
    if check_kind(kind) != "dense":
        raise ValueError("recipe 'free_anchor' needs all anchors of a one-stage detector with sigmoids ('dense')")
    # The assigner only sees to it that no anchor is ignored.
    stage = Stage(assign=MaxIoUAssigner(positive=0.5, negative=0.5), joint_loss=FreeAnchorLoss(), prior=0.02)
    return Recipe(name="free_anchor", stages=stage)


def soft_labels(kind: str) -> Recipe:
    """Candidates with an IoU from 0.4 to 0.6 are objects in part, the more the higher, in place of a threshold between
    them; in R-CNN in the region head. Made for anchors and proposals: not for FCOS and YOLOv2."""
    not_yolo("soft_labels", kind)
    base = FocalLoss() if kind == "dense" else CrossEntropyLoss(softmax=True)
    loss = SoftLabelLoss(threshold=0.5, width=0.2, base=base)
    assign = MaxIoUAssigner(positive=0.4, negative=0.4, low_quality=kind != "rcnn")
    return Recipe(name="soft_labels", stages=Stage(assign=assign, cls_loss=loss))


def guided_anchoring(kind: str) -> Recipe:
    """Anchors where the network sees objects, of the shape that it sees: RetinaNet's, or those of the proposal network.

    As the authors have it, RetinaNet ignores no anchor, and the region head gets 300 proposals, trains on those of an
    IoU of 0.6 and has a finer box code. How many it draws is left to the detector.
    """
    if check_kind(kind) == "rcnn":
        stages = Stage(
            assign=MaxIoUAssigner(positive=0.6, negative=0.6, low_quality=False), code_weights=(20.0, 20.0, 10.0, 10.0)
        )
        return Recipe(name="guided_anchoring", proposal_head=GuidedProposals, proposals=Stage(limit=300), stages=stages)
    if kind != "dense":
        raise ValueError("recipe 'guided_anchoring' is for RetinaNet ('dense') and for two-stage detectors ('rcnn')")
    stages = Stage(assign=MaxIoUAssigner(positive=0.5, negative=0.5))
    return Recipe(name="guided_anchoring", head=GuidedAnchoring, stages=stages)


def meta_anchor(kind: str) -> Recipe:
    """MetaAnchor: the last layers of RetinaNet made from the shape of the anchor that they are for."""
    if check_kind(kind) != "dense":
        raise ValueError("recipe 'meta_anchor' is for RetinaNet's head: it needs a one-stage detector of kind 'dense'")
    return Recipe(name="meta_anchor", head=MetaAnchor)


def _assigned(
    name: str, kind: str, assigner: Callable, *, cls_loss: Callable | None = None, box_weight: float = 2.0
) -> Recipe:
    """An assigner of anchors, with the losses of its paper; focal loss unless another is given."""
    if check_kind(kind) != "dense":
        raise ValueError(f"recipe {name!r} assigns the anchors of a one-stage detector with sigmoids ('dense')")
    stage = Stage(
        assign=assigner, cls_loss=cls_loss or FocalLoss(), box_loss=GIoULoss(), box_weight=box_weight, prior=0.01
    )
    return Recipe(name=name, stages=stage)
