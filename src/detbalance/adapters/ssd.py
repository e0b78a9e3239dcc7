"""SSD: a softmax with the background in column 0, and hard negative mining of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torchvision.models.detection.ssd import SSD

from ..recipe import Stage
from ..samplers import HardNegativeSampler
from .dense import DenseLoss
from .stage import mean_over_ranks, set_prior
from .torchvision_losses import cross_entropy, smooth_l1

__all__ = ["prepare_ssd"]


class SSDLoss(DenseLoss):
    """The losses of SSD's head. A stage's sampler stands in place of SSD's mining of three negatives a positive.

    Where more than a quarter of an image's boxes are positive, torchvision's formula goes on to count positives twice;
    this takes all negatives and counts nothing twice.
    """

    def average(self, positives: Tensor) -> Tensor:
        """All images together average over the positives of the batch."""
        return (1.0 / mean_over_ranks(positives.sum()).clamp(min=1)).expand(len(positives))


def prepare_ssd(model: SSD, stage: Stage, generator: torch.Generator | None) -> Callable[[], None]:
    """What puts a stage in place of SSD's own losses; the model is touched only when it is called."""
    mining = HardNegativeSampler(ratio=model.neg_to_pos_ratio)
    treatment = SSDLoss(
        replace(stage, sample=mining) if stage.sample is None else stage,
        cls_loss=cross_entropy,
        box_loss=smooth_l1,
        coder=model.box_coder,
        softmax=True,
        generator=generator,
    )

    def install() -> None:
        if stage.prior is not None:
            _set_prior(model.head.classification_head, stage.prior)
        treatment.install(model, stage)
        model.compute_loss = partial(_compute_loss, treatment)

    return install


def _set_prior(head: nn.Module, prior: float) -> None:
    for level in head.module_list:
        last = [layer for layer in level.modules() if isinstance(layer, nn.Conv2d)][-1]  # SSDlite has two
        for bias in last.bias.detach().view(-1, head.num_columns):  # one row for each anchor
            set_prior(bias, prior, softmax=True)


def _compute_loss(treatment: SSDLoss, targets: list, head_outputs: dict, anchors: list, matched_idxs: list) -> dict:
    def match(image: int, overlaps: Tensor) -> Tensor:
        return matched_idxs[image]

    return treatment.losses(targets, head_outputs, anchors, match)
