"""Recipes of evidence.py without a name of their own: tried for the named ones, and anchors of a dataset."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from detbalance.anchor_settings import AnchorSettings
from detbalance.assigners import ATSSAssigner
from detbalance.combination import combine
from detbalance.losses import AlphaIoULoss, DIoULoss, GIoULoss, QualityFocalLoss, SIoULoss, VarifocalLoss
from detbalance.necks import MLFPN, NASFPN, DynamicHead
from detbalance.recipe import Recipe, Stage
from detbalance.recipes import get


def atss_quality(kind: str) -> Recipe:
    """ATSS with quality focal loss and GIoU loss."""
    return _dense("atss_quality", Stage(cls_loss=QualityFocalLoss(), box_loss=GIoULoss(), box_weight=2.0))


def atss_quality_alpha(kind: str) -> Recipe:
    """ATSS with quality focal loss and alpha-IoU loss."""
    return _dense("atss_quality_alpha", Stage(cls_loss=QualityFocalLoss(), box_loss=AlphaIoULoss(), box_weight=2.0))


def atss_varifocal(kind: str) -> Recipe:
    """ATSS with varifocal loss and GIoU loss."""
    return _dense("atss_varifocal", Stage(cls_loss=VarifocalLoss(), box_loss=GIoULoss(), box_weight=2.0))


def rank_sort_alpha(kind: str) -> Recipe:
    """Rank & Sort with alpha-IoU loss."""
    return _ranked("rank_sort_alpha", kind, AlphaIoULoss())


def rank_sort_diou(kind: str) -> Recipe:
    """Rank & Sort with DIoU loss."""
    return _ranked("rank_sort_diou", kind, DIoULoss())


def rank_sort_mosaic_siou(kind: str) -> Recipe:
    """Rank & Sort and mosaics with SIoU loss."""
    return combine("rank_sort_mosaic_siou", _ranked("rank_sort_siou", kind, SIoULoss()), get("mosaic", kind))


def nas_fpn_of_one_cell(kind: str) -> Recipe:
    """NAS-FPN's cell once, not seven times."""
    return Recipe(name="nas_fpn_of_one_cell", neck=partial(NASFPN, repeats=1))


def mlfpn_of_two_modules(kind: str) -> Recipe:
    """MLFPN of two U-shapes, not eight."""
    return Recipe(name="mlfpn_of_two_modules", neck=partial(MLFPN, modules=2))


def dynamic_head_of_one_block(kind: str) -> Recipe:
    """The dynamic head's block once, not six times."""
    return Recipe(name="dynamic_head_of_one_block", neck=partial(DynamicHead, blocks=1))


def designed_anchors_bccd(kind: str) -> Recipe:
    """What `detbalance anchors bccd` finds from the training images for the nano RetinaNet."""
    return _anchors(sizes=((14, 17, 22), (24, 31, 40), (52, 66, 85)), ratios=(0.63, 1.0, 2.23))


def designed_anchors_deeppcb(kind: str) -> Recipe:
    """What `detbalance anchors deeppcb --image-size 256x256` finds from the training images for the nano RetinaNet."""
    return _anchors(sizes=((12, 15, 22), (14, 18, 26), (97, 119, 173)), ratios=(0.57, 1.12, 1.54))


def _anchors(**settings) -> Recipe:
    return Recipe(name="designed_anchors", anchors=AnchorSettings(detector="retinanet", **settings))


def _dense(name: str, stage: Stage) -> Recipe:
    return Recipe(name=name, stages=replace(stage, assign=ATSSAssigner(), prior=0.01))


def _ranked(name: str, kind: str, loss) -> Recipe:
    recipe = get("rank_sort", kind)
    return replace(recipe, name=name, stages=replace(recipe.stages, box_loss=loss))
