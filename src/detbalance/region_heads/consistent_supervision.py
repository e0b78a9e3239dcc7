"""Consistent supervision: every lateral map must tell objects by itself, in training."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torchvision.ops import MultiScaleRoIAlign

from ..common import require
from ..taxonomy import Imbalance
from ..types import RegionParts, RegionStep
from ._laterals import Laterals, check_neck
from ._levels import check_pool, pooled_from
from ._losses import plain_losses

__all__ = ["ConsistentSupervision"]


@dataclass(frozen=True, kw_only=True)
class ConsistentSupervision:
    """Trains the pyramid's lateral maps, before they are summed, to tell and place the sampled regions each by itself:
    maps that mean the same add up, where a fine map of edges and a coarse one of meanings would not.

    Guo et al., AugFPN, section 3.1 and equation 1: each region is pooled from every lateral map (the 1x1 convolutions
    of the FPN, before the way down), a second box head with a predictor, shared by all levels, predicts its class and
    box, and the detector's losses of these, `weight` times and summed over the levels (lambda = 0.25, and the sum is
    that of the authors' code), train beside the others. In detection nothing is left of it. The losses are those of the
    plain detector (cross-entropy, smooth L1), whatever the recipe's; masks are not supervised so (the authors' option).

    With others in the slot `region` it comes first. The head it adds lies under `box_roi_pool.auxiliary`. RetinaNet and
    FCOS take it, too, as the authors' code has it: there such a head is made for training alone, `auxiliary`, and sees
    the detector's own detections and the objects, sampled as in Faster R-CNN.

    Shapes: RegionParts -> RegionParts; losses `loss_auxiliary_classifier` and `loss_auxiliary_box_reg` (in one-stage
    detectors `auxiliary_classification` and `auxiliary_bbox_regression`).
    Identity: without gradient to it, `weight=0`, it is the detector as it is.
    Errors: ValueError for a pyramid without lateral layers (`inner_blocks`, which FPN, PANet, BalancedFPN, AugFPN and
    the backbone's hierarchy have), or a pool that is no MultiScaleRoIAlign of several levels.

    >>> from detbalance.detectors import build
    >>> from detbalance import Recipe, attach
    >>> model = attach(build("faster_rcnn", classes=2).train(), Recipe(name="mine", region=ConsistentSupervision()))
    >>> target = {"boxes": torch.tensor([[8.0, 8, 60, 60]]), "labels": torch.tensor([1])}
    >>> sorted(model([torch.rand(3, 96, 128)], [target]))[:2]
    ['loss_auxiliary_box_reg', 'loss_auxiliary_classifier']
    """

    weight: float = 0.25
    """of the losses of each level"""

    one_stage: ClassVar[bool] = True
    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FEATURE_LEVEL,)
    paper: ClassVar[str] = "Guo et al., AugFPN, CVPR 2020, arXiv:1912.05384, sec. 3.1"

    def __post_init__(self) -> None:
        require(0 <= self.weight < float("inf"), "weight", "0 or greater", self.weight)

    def __call__(self, parts: RegionParts) -> RegionParts:
        pool = check_pool(parts.pool, self)
        check_neck(parts.neck, self)
        settings = deepcopy(pool)
        pool.auxiliary = _Auxiliary(parts, settings, self.weight)
        return parts


class _Auxiliary(nn.Module):
    """The second head, and what it sees."""

    def __init__(self, parts: RegionParts, pool: MultiScaleRoIAlign, weight: float) -> None:
        super().__init__()
        self.box_head, self.box_predictor = _afresh(parts.head), _afresh(parts.predictor)
        self.pool, self.weight, self.laterals = pool, weight, Laterals()

    def supervise(self, step: RegionStep) -> dict[str, Tensor]:
        """The losses of all levels."""
        classes, boxes = [], []
        for lateral in self.laterals.take():
            pooled = pooled_from(lateral, step.boxes, step.image_shapes, self.pool)
            samples = step.table(*self.box_predictor(self.box_head(pooled)))
            for losses, loss in zip((classes, boxes), plain_losses(samples)):
                losses.append(loss)
        return {
            "loss_auxiliary_classifier": self.weight * torch.stack(classes).sum(),
            "loss_auxiliary_box_reg": self.weight * torch.stack(boxes).sum(),
        }


def _afresh(module: nn.Module) -> nn.Module:
    """A copy with weights of its own, drawn as each layer draws them."""
    new = deepcopy(module)
    for layer in new.modules():
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    return new
