"""Two-stage detectors: the proposal network and the RoI head give way to subclasses that share their parameters."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from ..recipe import Stage
from .roi_heads import BalancedRoIHeads
from .rpn import BalancedRPN
from .stage import set_prior

__all__ = ["prepare_rcnn"]


def prepare_rcnn(
    model: GeneralizedRCNN, proposals: Stage, stage: Stage, generator: torch.Generator | None
) -> Callable[[], None]:
    """What puts stages in place of both heads' losses; the model is touched only when it is called."""
    rpn = BalancedRPN.of(model.rpn, proposals, generator)
    heads = BalancedRoIHeads.of(model.roi_heads, stage, generator)

    def install() -> None:
        if proposals.prior is not None:
            set_prior(rpn.head.cls_logits.bias, proposals.prior, softmax=False)
        if stage.prior is not None:
            set_prior(heads.box_predictor.cls_score.bias, stage.prior, softmax=True)
        if proposals.score_threshold is not None:
            rpn.score_thresh = proposals.score_threshold
        if stage.score_threshold is not None:
            heads.score_thresh = stage.score_threshold
        model.rpn, model.roi_heads = rpn, heads

    return install
