"""Consistent supervision of a one-stage detector: a region head upon its lateral maps, in training alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import MultiScaleRoIAlign, batched_nms, clip_boxes_to_image

from ..recipe import Stage
from ..region_heads import ConsistentSupervision
from ..region_heads._laterals import Laterals, check_neck
from ..region_heads._levels import pooled_from
from ..region_heads._losses import plain_losses
from .roi_heads import BalancedRoIHeads

__all__ = ["Auxiliary", "attach_auxiliary"]

_CANDIDATES, _SCORE, _IOU, _PROPOSALS = 2000, 0.01, 0.7, 1000  # the authors': a level's best, detections an image
_SAMPLES, _POSITIVES = 512, 0.25


class Auxiliary(nn.Module):
    """The region head, and what it trains on: as the authors' code has it, the detector's own present detections (score
    above 0.01, suppressed at an IoU of 0.7, 1000 an image) and the objects, assigned at an IoU of 0.5, of which 512 an
    image are drawn, a quarter of them positive. 7 x 7 cells of every lateral map, two layers of four times the
    pyramid's channels (256: 1024)."""

    def __init__(self, model: nn.Module, neck: nn.Module | None, supervision: ConsistentSupervision) -> None:
        super().__init__()
        check_neck(neck, supervision)
        channels, classes = model.backbone.out_channels, model.head.classification_head.num_classes
        pool = MultiScaleRoIAlign([str(i) for i in range(len(neck.inner_blocks))], 7, 2)
        head, predictor = TwoMLPHead(49 * channels, 4 * channels), FastRCNNPredictor(4 * channels, classes)
        heads = RoIHeads(pool, head, predictor, 0.5, 0.5, _SAMPLES, _POSITIVES, None, 0.05, 0.5, 100)
        self.heads, self.laterals, self.weight = (
            BalancedRoIHeads.of(heads, Stage(), None),
            Laterals(),
            supervision.weight,
        )
        self._sizes: list[tuple[int, int]] = []

    def forward(
        self, detections: Callable[[int], tuple[Tensor, Tensor]], level: Tensor, targets: list[dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """The losses. `detections(image)` gives (N, C) scores and (N, 4) boxes of all anchors, `level` is theirs."""
        proposals = [_proposals(*detections(i), level, size) for i, size in enumerate(self._sizes)]
        heads = self.heads
        boxes, *_ = heads.select_training_samples(proposals, targets)
        chosen = heads.__dict__.pop("_chosen")
        del chosen["added"]
        classes, codes = [], []
        for lateral in self.laterals.take():
            pooled = heads.box_head(pooled_from(lateral, boxes, self._sizes, heads.box_roi_pool))
            samples = heads._table(*heads.box_predictor(pooled), pooled, **chosen)
            for losses, loss in zip((classes, codes), plain_losses(samples)):
                losses.append(loss)
        return {
            "auxiliary_classification": self.weight * torch.stack(classes).sum(),
            "auxiliary_bbox_regression": self.weight * torch.stack(codes).sum(),
        }


def attach_auxiliary(model: nn.Module, auxiliary: Auxiliary) -> None:
    """Let a one-stage detector train with it from now on."""
    model.auxiliary = auxiliary
    auxiliary.laterals.watch(model)
    model.transform.register_forward_hook(partial(_keep_sizes, auxiliary))
    model.treatment.auxiliaries.append(auxiliary)


def _keep_sizes(auxiliary: Auxiliary, transform: nn.Module, inputs: tuple, output: tuple) -> None:
    auxiliary._sizes = list(output[0].image_sizes)


@torch.no_grad()
def _proposals(scores: Tensor, boxes: Tensor, level: Tensor, size: tuple[int, int]) -> Tensor:
    """One image's present detections."""
    best, label = scores.max(1)
    rows = []
    for i in level.unique():
        own = ((level == i) & (best > _SCORE)).nonzero().squeeze(1)
        rows.append(own[best[own].topk(min(_CANDIDATES, len(own))).indices])
    rows = torch.cat(rows)
    boxes = clip_boxes_to_image(boxes[rows], size)
    return boxes[batched_nms(boxes, best[rows], label[rows], _IOU)[:_PROPOSALS]]
