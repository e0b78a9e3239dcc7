"""Several problems at once."""

from __future__ import annotations

from dataclasses import replace

from ..recipe import Recipe, Stage
from ._shared import balanced_fpn_part, balanced_l1_part
from .hard_sampling import libra_sampling

__all__ = ["libra"]


def libra(kind: str) -> Recipe:
    """Libra R-CNN (Pang et al. 2019): balanced sampling, pyramid and box loss. RetinaNet and FCOS sample nothing, so
    there it is the pyramid and the box loss, as in the paper; SSD has no pyramid, so there it is the other two."""
    loss = balanced_l1_part(kind)
    if kind == "dense":
        return Recipe(name="libra", neck=balanced_fpn_part(kind), stages=Stage(box_loss=loss))
    stage = replace(libra_sampling(kind).stages, box_loss=loss)
    return Recipe(name="libra", neck=None if kind == "ssd" else balanced_fpn_part(kind), stages=stage)
