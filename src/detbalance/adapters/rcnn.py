"""Two-stage detectors: the proposal network and the RoI head give way to subclasses that share their parameters."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from ..recipe import Stage
from .cascade import CascadeRoIHeads, filled
from .region import classifiers_of, with_region
from .roi_heads import BalancedRoIHeads
from .rpn import BalancedRPN
from .stage import objectness_biases, set_prior

__all__ = ["prepare_rcnn"]


def prepare_rcnn(
    model: GeneralizedRCNN,
    proposals: Stage,
    stages: Stage | tuple[Stage, ...],
    generator: torch.Generator | None,
    region: Callable | tuple[Callable, ...] | None = None,
    neck: nn.Module | None = None,
) -> Callable[[], None]:
    """What puts stages in place of both heads' losses; the model is touched only when it is called.

    Several stages make a cascade; in a detector that is a cascade already, one stage treats all of its heads alike.
    `region` makes other parts of the region head; `neck` is the pyramid that the model will have, if not its own.
    """
    rpn = BalancedRPN.of(model.rpn, proposals, generator)
    stages = filled(model.roi_heads, stages)
    old = model.roi_heads
    if region is not None:
        neck = getattr(model.backbone, "fpn", None) if neck is None else neck
        softmax = bool(getattr(stages[0].cls_loss, "softmax", True))
        old = with_region(old, region, model.backbone.out_channels, neck, softmax)
    if len(stages) == 1:
        heads = BalancedRoIHeads.of(old, stages[0], generator)
    else:
        heads = CascadeRoIHeads.of_stages(old, stages, generator)

    def install() -> None:
        rpn.head, rpn.anchor_generator = model.rpn.head, model.rpn.anchor_generator  # a recipe may have replaced them
        if proposals.prior is not None:
            for bias in objectness_biases(rpn.head):
                set_prior(bias, proposals.prior, softmax=False)
        for head, stage in zip((heads, *getattr(heads, "later", ())), stages):
            if stage.prior is not None:
                for classifier in classifiers_of(head.box_predictor):
                    set_prior(classifier.bias, stage.prior, softmax=head.treatment.softmax)
        if proposals.score_threshold is not None:
            rpn.score_thresh = proposals.score_threshold
        if proposals.limit is not None:
            rpn._post_nms_top_n = {mode: min(n, proposals.limit) for mode, n in rpn._post_nms_top_n.items()}
        if stages[-1].score_threshold is not None:
            heads.score_thresh = stages[-1].score_threshold
        model.rpn, model.roi_heads = rpn, heads

    return install
