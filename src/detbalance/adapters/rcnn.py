"""Two-stage detectors: the proposal network and the RoI head give way to subclasses that share their parameters."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from ..recipe import Stage
from .cascade import CascadeRoIHeads, filled
from .roi_heads import BalancedRoIHeads
from .rpn import BalancedRPN
from .stage import set_prior

__all__ = ["prepare_rcnn"]


def prepare_rcnn(
    model: GeneralizedRCNN, proposals: Stage, stages: Stage | tuple[Stage, ...], generator: torch.Generator | None
) -> Callable[[], None]:
    """What puts stages in place of both heads' losses; the model is touched only when it is called.

    Several stages make a cascade; in a detector that is a cascade already, one stage treats all of its heads alike.
    """
    rpn = BalancedRPN.of(model.rpn, proposals, generator)
    stages = filled(model.roi_heads, stages)
    if len(stages) == 1:
        heads = BalancedRoIHeads.of(model.roi_heads, stages[0], generator)
    else:
        heads = CascadeRoIHeads.of_stages(model.roi_heads, stages, generator)

    def install() -> None:
        if proposals.prior is not None:
            set_prior(rpn.head.cls_logits.bias, proposals.prior, softmax=False)
        for head, stage in zip((heads, *getattr(heads, "later", ())), stages):
            if stage.prior is not None:
                set_prior(head.box_predictor.cls_score.bias, stage.prior, softmax=True)
        if proposals.score_threshold is not None:
            rpn.score_thresh = proposals.score_threshold
        if stages[-1].score_threshold is not None:
            heads.score_thresh = stages[-1].score_threshold
        model.rpn, model.roi_heads = rpn, heads

    return install
