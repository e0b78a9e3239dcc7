"""FCOS: its own assignment stays in torchvision's hands, the recipe takes the place of its head's losses."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection import FCOS

from ..recipe import Stage
from ..types import IGNORED, Samples
from .dense import DenseLoss
from .stage import in_float32, mean_over_ranks, set_prior
from .torchvision_losses import BOX_LOSSES, focal

__all__ = ["prepare_fcos"]


class FCOSLoss(DenseLoss):
    """The losses of a head that predicts at points, and how central each point is in its object.

    A point counts as torchvision's anchor of one stride's width and height about it: that is `boxes`, and `iou` is what
    that little box and an object share, not what the assignment goes by. The centre-ness loss is always the detector's
    own, over the positives that the assigner and the sampler leave.
    """

    def encode(self, truth: Tensor, boxes: Tensor) -> Tensor:
        """Distances to the four sides, in sizes of the anchor."""
        return self.coder.encode(boxes, truth)

    def decode(self, deltas: Tensor, boxes: Tensor) -> Tensor:
        """The boxes with sides at those distances."""
        return self.coder.decode(deltas, boxes)

    def average(self, positives: Tensor) -> Tensor:
        """All images together average over the positives of the batch."""
        return (1.0 / mean_over_ranks(positives.sum()).clamp(min=1)).expand(len(positives))

    def take(self, outputs, anchors, targets, matched: Tensor, iou: Tensor, level: Tensor) -> dict[str, Tensor]:
        """Class, box and centre-ness."""
        samples = self.table(outputs, anchors, targets, matched, iou, level)
        logits = outputs["bbox_ctrness"].squeeze(2)[matched != IGNORED]  # the rows of the table, in its order
        return {**self(samples), "bbox_ctrness": self._centerness(samples, logits)}

    def _centerness(self, samples: Samples, logits: Tensor) -> Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            samples, rows = in_float32(samples), samples.positive
            # An assigner of one's own may match points outside of their object: those are not central at all.
            sides = samples.codes[rows].clamp(min=0).reshape(-1, 2, 2)
            smaller, larger = sides.amin(1), sides.amax(1)
            target = (smaller / larger.clamp(min=1e-12)).prod(1).sqrt()
            loss = F.binary_cross_entropy_with_logits(logits[rows].to(target.dtype), target, reduction="none")
            return (loss * samples.norm[rows]).sum()


def prepare_fcos(model: FCOS, stage: Stage, generator: torch.Generator | None) -> Callable[[], None]:
    """What puts a stage in place of FCOS's own losses; the model is touched only when it is called."""
    if getattr(stage.box_loss, "anchors_only", False):
        raise ValueError(f"{stage.box_loss!r} reads the box code of anchors, but FCOS predicts distances to the sides")
    treatment = FCOSLoss(
        stage,
        cls_loss=focal,
        box_loss=BOX_LOSSES["giou"],
        coder=model.head.box_coder,
        generator=generator,
    )

    def install() -> None:
        if stage.prior is not None:
            set_prior(model.head.classification_head.cls_logits.bias, stage.prior, softmax=False)
        treatment.install(model, stage)
        # The model's compute_loss assigns and then asks its head for the losses.
        model.head.compute_loss = partial(_compute_loss, treatment)

    return install


def _compute_loss(treatment: FCOSLoss, targets: list, head_outputs: dict, anchors: list, matched_idxs: list) -> dict:
    def match(image: int, overlaps: Tensor) -> Tensor:
        return matched_idxs[image]

    return treatment.losses(targets, head_outputs, anchors, match)
