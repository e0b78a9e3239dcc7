"""Guided loss: the box loss says how large the class loss may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..common import require, sum_over_ranks
from ..taxonomy import Imbalance
from ._tasks import present_pairs

__all__ = ["GuidedLoss"]

# The losses of one head: (class, box), as each detector calls them.
_PAIRS = (
    ("classification", "bbox_regression"),
    ("loss_classifier", "loss_box_reg"),
    ("loss_objectness", "loss_rpn_box_reg"),
)


@dataclass(frozen=True, kw_only=True)
class GuidedLoss:
    """Scales the class loss to the size of the box loss at every step: the sum of the cross-entropy over all background
    cannot drown the boxes, whatever its size, and needs no sampling to be tamed.

    Chen et al.; review eq. 24: the class loss is multiplied by w L_reg / L_cls, without gradient, since the box loss
    knows objects only. Each head is guided by its own box loss: RetinaNet's, SSD's and FCOS's, and in Faster R-CNN that
    of the proposal network and that of the region head. Other losses pass unchanged. The ratio is of the losses of all
    processes. The authors use w = 1 in RetinaNet and 2 in Faster R-CNN; a later version of their code guides the first
    100 steps only and then learns weights by uncertainty, which is another method.

    A batch without objects has no box loss, and so no class loss: as the authors' code, it teaches nothing.

    Shapes: a dict of losses () -> the same names.

    Checked by: the class loss is w times the box loss, and its gradient has its own direction.

    >>> GuidedLoss()({"classification": torch.tensor(8.0), "bbox_regression": torch.tensor(0.5)})
    {'classification': tensor(0.5000), 'bbox_regression': tensor(0.5000)}
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.OBJECTIVE, Imbalance.FOREGROUND_BACKGROUND)
    paper: ClassVar[str] = (
        "Chen, Liu, Xu, Zhang, Wu, Luo, Peng, Chen, Is Sampling Heuristics Necessary in Training Deep Object "
        "Detectors?, arXiv:1909.04868"
    )

    weight: float = 1.0
    """w: size of the class loss in units of the box loss"""

    def __post_init__(self) -> None:
        require(0 < self.weight < float("inf"), "weight", "greater than 0, and finite", self.weight)

    def __call__(self, losses: dict[str, Float[Tensor, ""]]) -> dict[str, Float[Tensor, ""]]:
        guided = dict(losses)
        for name, guide in present_pairs(_PAIRS, losses):
            guided[name] = losses[name] * self._factor(losses[name], losses[guide])
        return guided

    def _factor(self, loss: Tensor, guide: Tensor) -> Tensor:
        sizes = sum_over_ranks(torch.stack((loss.detach().float(), guide.detach().float())))
        # Below 1e-12 a class loss is left as small as it is.
        return self.weight * sizes[1] / sizes[0].clamp(min=1e-12)
