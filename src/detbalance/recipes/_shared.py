"""What the recipes share: the kinds of detector, and what several of them are made of."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from ..anchor_settings import AnchorSettings
from ..losses import BalancedL1Loss, CrossEntropyLoss
from ..necks import BalancedFPN
from ..recipe import Recipe, Stage

__all__ = [
    "KINDS",
    "balanced_fpn_part",
    "balanced_l1_part",
    "check_kind",
    "mined",
    "not_yolo",
    "sigmoid",
    "two_stages",
    "weighed",
    "with_anchors",
]

KINDS = ("dense", "ssd", "yolo", "rcnn")


def with_anchors(path: Path, kind: str) -> Recipe:
    """The anchors that `detbalance anchors` wrote to a file."""
    anchors = AnchorSettings.load(path)
    wanted = {"retinanet": "dense", "ssd": "ssd"}.get(anchors.detector, "rcnn")
    if kind != wanted:
        raise ValueError(f"{path} has anchors for {anchors.detector}, of kind {wanted!r}, not {kind!r}")
    return Recipe(name=path.stem, anchors=anchors)


def check_kind(kind: str) -> str:
    """The kind, if there is such a one."""
    if kind not in KINDS:
        raise ValueError(f"expected kind {', '.join(map(repr, KINDS))} but got {kind!r}")
    return kind


def not_yolo(name: str, kind: str) -> str:
    """Refuse the kind whose objects have one positive element each: there is nothing to choose or rank among."""
    if check_kind(kind) == "yolo":
        raise ValueError(f"recipe {name!r} needs several positives for each object; YOLOv2 ('yolo') has one")
    return kind


def two_stages(name: str, kind: str) -> None:
    """Refuse the kinds without proposals."""
    if check_kind(kind) != "rcnn":
        raise ValueError(f"recipe {name!r} works on proposals: it needs a two-stage detector ('rcnn')")


def weighed(name: str, kind: str, weights: Callable) -> Recipe:
    """Weights of the classes; in R-CNN in the region head, which alone knows classes."""
    check_kind(kind)
    return Recipe(name=name, stages=Stage(weigh=weights))


def sigmoid(name: str, kind: str) -> None:
    """Refuse the kinds whose classes share a softmax."""
    if check_kind(kind) in ("ssd", "yolo"):
        raise ValueError(f"recipe {name!r} needs one sigmoid a class; {kind!r} detectors have a softmax")


def mined(sampler: Callable, kind: str) -> Stage:
    """Hard sampling in a one-stage detector: cross-entropy over the sampled anchors. With the background so reduced
    the classifier starts from even odds of one positive in four. YOLOv2 keeps its losses: it learns an IoU."""
    if kind == "yolo":
        return Stage(sample=sampler)
    return Stage(sample=sampler, cls_loss=CrossEntropyLoss(softmax=kind == "ssd"), prior=0.1)


def balanced_l1_part(kind: str) -> Callable:
    """Libra's box loss."""
    # beta as each detector's own smooth L1; 0.11 is Libra's for RetinaNet.
    return BalancedL1Loss(beta=0.11 if check_kind(kind) == "dense" else 1.0)


def balanced_fpn_part(kind: str) -> Callable:
    """Libra's pyramid."""
    if check_kind(kind) in ("ssd", "yolo"):
        raise ValueError(f"Libra's pyramid stands on a feature pyramid, and {kind!r} detectors have none")
    # The level at which all meet, as Libra's: 1 in RetinaNet, the middle one (2 of 5) in Faster R-CNN.
    return partial(BalancedFPN, refine_level=1 if check_kind(kind) == "dense" else None, refine="nonlocal")
