"""Boxes: another loss of the box alone, all else as the detector has it."""

from __future__ import annotations

from collections.abc import Callable

from ..losses import (
    AlphaIoULoss,
    BoundedIoULoss,
    CIoULoss,
    DIoULoss,
    EIoULoss,
    FocalEIoULoss,
    GHMRLoss,
    GIoULoss,
    IoULoss,
    L1Loss,
    L2Loss,
    NWDLoss,
    SIoULoss,
    SmoothL1Loss,
    WIoULoss,
)
from ..recipe import Recipe, Stage
from ._shared import check_kind

__all__ = [
    "alpha_iou",
    "bounded_iou",
    "ciou",
    "diou",
    "eiou",
    "focal_eiou",
    "ghm_r",
    "giou",
    "iou_loss",
    "l1",
    "l2",
    "nwd_loss",
    "siou",
    "smooth_l1",
    "wise_iou",
]

_BETA = {"dense": 1 / 9, "ssd": 1.0, "yolo": 1.0, "rcnn": 1.0}
_OVERLAP = {"dense": 2.0, "ssd": 10.0, "yolo": 1.0, "rcnn": 10.0}
"""Weight of a loss of the IoU family beside the class loss: GIoU's authors take 10 in Faster R-CNN, whose own code is
scaled by 10; ATSS and those after it 2 in RetinaNet. YOLOv2's box loss is a sum over the image, as its class loss."""


def l1(kind: str) -> Recipe:
    """The absolute error of the box code: every box pulls alike. RetinaNet's own."""
    return _code("l1", kind, L1Loss())


def l2(kind: str) -> Recipe:
    """The squared error of the box code: outliers own the gradient. What the others are measured by."""
    return _code("l2", kind, L2Loss())


def smooth_l1(kind: str) -> Recipe:
    """Squared below beta, absolute above: outliers pull no more than others. Beta as the detectors' papers have it."""
    return _code("smooth_l1", kind, SmoothL1Loss(beta=_BETA[check_kind(kind)]))


def ghm_r(kind: str) -> Recipe:
    """GHM's box loss: every gradient norm counts alike, however many boxes have it."""
    check_kind(kind)
    # The authors multiply the mean over the coordinates by 10; here it is the sum over four.
    return Recipe(name="ghm_r", stages=Stage(box_loss=GHMRLoss(), box_weight=2.5))


def iou_loss(kind: str) -> Recipe:
    """UnitBox: minus the logarithm of the IoU."""
    return _overlap("iou_loss", kind, IoULoss())


def bounded_iou(kind: str) -> Recipe:
    """The IoU that each side of a box can still reach at best."""
    return _overlap("bounded_iou", kind, BoundedIoULoss())


def giou(kind: str) -> Recipe:
    """IoU, and the empty part of the hull, so that boxes apart are drawn together."""
    return _overlap("giou", kind, GIoULoss())


def diou(kind: str) -> Recipe:
    """IoU, and the distance of the middles."""
    return _overlap("diou", kind, DIoULoss())


def ciou(kind: str) -> Recipe:
    """IoU, the distance of the middles, and the aspect ratio."""
    return _overlap("ciou", kind, CIoULoss())


def eiou(kind: str) -> Recipe:
    """IoU, the distance of the middles, and width and height each for itself."""
    return _overlap("eiou", kind, EIoULoss())


def focal_eiou(kind: str) -> Recipe:
    """EIoU weighed by a power of the IoU: the good boxes get better first."""
    return _overlap("focal_eiou", kind, FocalEIoULoss())


def siou(kind: str) -> Recipe:
    """IoU, and distance and shape by the angle between the middles."""
    return _overlap("siou", kind, SIoULoss())


def alpha_iou(kind: str) -> Recipe:
    """CIoU with its terms raised to the third power: well placed boxes pull more."""
    return _overlap("alpha_iou", kind, AlphaIoULoss())


def wise_iou(kind: str) -> Recipe:
    """IoU weighed by the distance of the middles, and by how far a box is from the present mean: outliers and the best
    pull less."""
    return _overlap("wise_iou", kind, WIoULoss())


def nwd_loss(kind: str) -> Recipe:
    """Boxes as normal distributions, for tiny objects; the loss alone, the assignment as it is (`nwd` has both)."""
    return _overlap("nwd_loss", kind, NWDLoss(constant=None))


def _code(name: str, kind: str, loss: Callable) -> Recipe:
    """A loss of the box code, which the detector's own weighs."""
    check_kind(kind)
    return Recipe(name=name, stages=Stage(box_loss=loss))


def _overlap(name: str, kind: str, loss: Callable) -> Recipe:
    """A loss of the boxes themselves; in R-CNN in the region head."""
    return Recipe(name=name, stages=Stage(box_loss=loss, box_weight=_OVERLAP[check_kind(kind)]))
