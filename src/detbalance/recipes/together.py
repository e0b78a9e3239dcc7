"""Several problems at once."""

from __future__ import annotations

from dataclasses import replace

from ..combination import combine
from ..recipe import Recipe, Stage
from ._shared import balanced_fpn_part, balanced_l1_part, check_kind
from .boxes import cascade
from .hard_sampling import libra_sampling
from .images import copy_paste, mosaic, repeat_factor
from .ranking import rank_sort
from .scale import reconfigured_fpn

__all__ = ["balanced", "libra", "long_tail", "small_objects", "tight_boxes"]

_PARTS = {
    "balanced": dict.fromkeys(("dense", "rcnn"), (rank_sort, repeat_factor)),
    "long_tail": dict.fromkeys(("dense", "rcnn"), (rank_sort, repeat_factor, copy_paste)),
    "small_objects": dict.fromkeys(("dense", "rcnn"), (rank_sort, reconfigured_fpn)),
    "tight_boxes": {"dense": (rank_sort, reconfigured_fpn, mosaic), "rcnn": (cascade,)},
}
COMBINED = {
    name: {kind: tuple(part.__name__ for part in parts) for kind, parts in kinds.items()}
    for name, kinds in _PARTS.items()
}
"""The parts of each recipe that has several, for each kind of detector that takes it."""


def libra(kind: str) -> Recipe:
    """Libra R-CNN (Pang et al. 2019): balanced sampling, pyramid and box loss. RetinaNet and FCOS sample nothing, so
    there it is the pyramid and the box loss, as in the paper; SSD has no pyramid, so there it is the other two."""
    loss = balanced_l1_part(kind)
    if kind == "dense":
        return Recipe(name="libra", neck=balanced_fpn_part(kind), stages=Stage(box_loss=loss))
    stage = replace(libra_sampling(kind).stages, box_loss=loss)
    return Recipe(name="libra", neck=None if kind == "ssd" else balanced_fpn_part(kind), stages=stage)


def balanced(kind: str) -> Recipe:
    """One method or none for each of the eight problems, chosen to work together.

    Foreground against background: Rank & Sort loss. Class against class: images of rare classes repeated. Boxes: GIoU
    loss. Where positives lie: ATSS, in the one-stage detectors. Tasks: the box loss scaled to the class loss, each box
    by its score. Object sizes, levels and IoUs have none of their own. The parts were chosen on images held out of the
    training sets of blood cells, face masks and chess pieces; see docs/evidence.md."""
    return _together("balanced", kind)


def long_tail(kind: str) -> Recipe:
    """For classes of which one has a hundred times the objects of another: Rank & Sort loss, images of rare classes
    repeated, and objects of all classes as often pasted into others' images. Chosen in RetinaNet, on images held out of
    the training sets; where the data are not that skewed, or objects fill their boxes badly, leave copy_paste out."""
    return _together("long_tail", kind)


def small_objects(kind: str) -> Recipe:
    """For objects of a few pixels: Rank & Sort loss, whose ATSS gives small objects as many positives as large ones,
    and the reconfigured pyramid, in which the finest level too chooses from all maps. Chosen in RetinaNet, on images
    held out of the training sets."""
    return _together("small_objects", kind)


def tight_boxes(kind: str) -> Recipe:
    """For boxes that fit: in one stage Rank & Sort loss, which ranks objects by their IoU, with GIoU loss on ATSS, the
    reconfigured pyramid, and mosaics; in two stages Cascade R-CNN. Chosen on images held out of the training sets."""
    return _together("tight_boxes", kind)


def _together(name: str, kind: str) -> Recipe:
    parts = _PARTS[name].get(check_kind(kind))
    if parts is None:
        raise ValueError(f"recipe {name!r} is for detectors of kind {', '.join(map(repr, _PARTS[name]))}, not {kind!r}")
    return combine(name, *(part(kind) for part in parts))
