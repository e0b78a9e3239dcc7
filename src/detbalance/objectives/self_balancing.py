"""Self-balancing of the box loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..common import sum_over_ranks, world_size
from ..taxonomy import Imbalance
from ._tasks import present_pairs

_NOTHING = 1e-6


@dataclass(frozen=True, kw_only=True)
class SelfBalancing:
    """Scales each box loss to the value of the class loss beside it, in every step, so that neither task drowns the
    other and no weight between them has to be tuned.

    Oksuz et al., Rank & Sort loss: the box loss is multiplied by (class loss / box loss), held fixed. Pairs
    of which a detector has only one or neither are left alone, as are all other losses. A box loss below 1e-6 counts as
    1e-6, so that its gradient stays bounded. Over several processes both losses are averaged first.

    Shapes: dict of () -> dict of (). Identity: the losses of a pair have the same value. Errors: none.

    >>> losses = {"classification": torch.tensor(0.5), "bbox_regression": torch.tensor(2.0)}
    >>> SelfBalancing()(losses)
    {'classification': tensor(0.5000), 'bbox_regression': tensor(0.5000)}
    """

    pairs: tuple[tuple[str, str], ...] = (
        ("classification", "bbox_regression"),
        ("loss_classifier", "loss_box_reg"),
        ("loss_objectness", "loss_rpn_box_reg"),
    )
    """the names of the class loss and of the box loss"""

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.OBJECTIVE,)
    paper: ClassVar[str] = (
        "Oksuz et al., Rank & Sort Loss for Object Detection and Instance Segmentation, ICCV 2021, arXiv:2107.11669"
    )

    def __call__(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        balanced = dict(losses)
        for task, box in present_pairs(self.pairs, losses):
            present = torch.stack((losses[task].detach(), losses[box].detach()))
            task_value, box_value = sum_over_ranks(present) / world_size()
            balanced[box] = losses[box] * (task_value / box_value.clamp(min=_NOTHING))
        return balanced
