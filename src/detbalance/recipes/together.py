"""Several problems at once."""

from __future__ import annotations

from dataclasses import replace

from ..combination import combine
from ..recipe import Recipe, Stage
from ._shared import balanced_fpn_part, balanced_l1_part, sigmoid
from .hard_sampling import libra_sampling
from .images import repeat_factor
from .ranking import rank_sort
from .scale import panet

__all__ = ["balanced", "libra"]

_PARTS = (rank_sort, panet, repeat_factor)
BALANCED = tuple(part.__name__ for part in _PARTS)
"""The parts of `balanced`."""


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

    Foreground against background: Rank & Sort loss. Class against class: images of rare classes repeated. Feature
    levels: PANet's second path. Boxes: GIoU loss. Where positives lie: ATSS, in the one-stage detectors. Tasks: the box
    loss scaled to the class loss, each box by its score. Object sizes and IoUs have none of their own. The parts were
    chosen on chess pieces held out of a training set; see docs/evidence.md."""
    sigmoid("balanced", kind)
    return combine("balanced", *(part(kind) for part in _PARTS))
