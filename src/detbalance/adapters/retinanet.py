"""RetinaNet: the recipe takes the place of the model's own `compute_loss`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torchvision.models.detection import RetinaNet

from ..heads import HierarchicalShot
from ..recipe import Stage
from .dense import DenseLoss
from .hierarchical import hierarchical_losses
from .stage import objectness_biases, set_prior
from .torchvision_losses import BOX_LOSSES, focal

__all__ = ["prepare_retinanet"]


def prepare_retinanet(model: RetinaNet, stage: Stage, generator: torch.Generator | None) -> Callable[[], None]:
    """What puts a stage in place of RetinaNet's own losses; the model is touched only when it is called."""
    head = model.head.regression_head
    treatment = DenseLoss(
        stage,
        cls_loss=focal,
        box_loss=BOX_LOSSES[head._loss_type],
        coder=head.box_coder,
        generator=generator,
    )

    def install() -> None:
        if stage.prior is not None:
            for bias in objectness_biases(model.head):
                set_prior(bias, stage.prior, softmax=False)
        treatment.install(model, stage)
        # A partial and not a method: a method of no class could not be pickled, nor sent to another process.
        model.compute_loss = partial(_compute_loss, model)

    return install


def _compute_loss(model, targets: list, head_outputs: dict[str, Tensor], anchors: list[Tensor]) -> dict[str, Tensor]:
    def match(image: int, overlaps: Tensor) -> Tensor:
        return model.proposal_matcher(overlaps)

    if isinstance(model.head, HierarchicalShot):
        return hierarchical_losses(model.treatment, model.head, targets, head_outputs, anchors, match)
    head = model.head if hasattr(model.head, "supervise") else None
    losses = model.treatment.losses(targets, head_outputs, anchors, match, head)
    learn = getattr(model.anchor_generator, "losses", None)
    return losses if learn is None else losses | learn(targets)
