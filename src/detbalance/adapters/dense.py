"""One-stage detectors: the recipe takes the place of the model's own `compute_loss`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet
from torchvision.ops import (
    box_iou,
    complete_box_iou_loss,
    distance_box_iou_loss,
    generalized_box_iou_loss,
    sigmoid_focal_loss,
)

from ..recipe import Stage
from ..types import BACKGROUND, IGNORED, Candidates, Samples
from .stage import StageLoss, best_iou, check_matched, labels_of, set_prior, truth_of

__all__ = ["prepare_retinanet"]


class DenseLoss(StageLoss):
    """The losses of a head that predicts at every anchor of every level."""

    def __init__(self, model: RetinaNet, stage: Stage, generator: torch.Generator | None) -> None:
        head = model.head.regression_head
        super().__init__(
            stage,
            cls_loss=_focal,
            box_loss=_BOX_LOSSES[head._loss_type],
            softmax=False,
            names=("classification", "bbox_regression"),
            generator=generator,
        )
        self.coder = head.box_coder
        self._level_sizes: list[int] = []

    def remember_levels(self, head: nn.Module, inputs: tuple, output: dict[str, Tensor]) -> None:
        sizes = [feature.shape[-2] * feature.shape[-1] for feature in inputs[0]]
        per_place = output["cls_logits"].shape[1] // sum(sizes)
        self._level_sizes = [size * per_place for size in sizes]

    def level(self, device: torch.device) -> Tensor:
        """The pyramid level of each anchor of an image, 0 the finest."""
        sizes = torch.tensor(self._level_sizes, device=device)
        return torch.repeat_interleave(
            torch.arange(len(sizes), device=device), sizes, output_size=sum(self._level_sizes)
        )

    def losses(self, model: RetinaNet, targets: list, outputs: dict[str, Tensor], anchors: list[Tensor]) -> dict:
        """What the model's compute_loss returns: assign, sample and weigh the anchors of the batch, take the losses."""
        level = self.level(anchors[0].device)
        matched, iou = [], []
        for i, (boxes, target) in enumerate(zip(anchors, targets)):
            predictions = self._predictions(outputs, anchors, i) if self._assigner_looks else None
            rows, best = self._match(model, boxes, target, level, predictions)
            matched.append(rows)
            iou.append(best)
        if self.sample is not None:
            for i, target in enumerate(targets):
                matched[i] = self._sampled(outputs, anchors, target, i, matched[i], iou[i], level)
        return self(self._table(outputs, anchors, targets, torch.stack(matched), torch.stack(iou), level))

    @property
    def _assigner_looks(self) -> bool:
        return bool(getattr(self.assign, "needs_predictions", False))

    def _match(self, model, boxes: Tensor, target: dict, level: Tensor, predictions) -> tuple[Tensor, Tensor]:
        truth = target["boxes"]
        overlaps = box_iou(truth, boxes)
        iou = best_iou(overlaps, len(boxes))
        if self.assign is not None:
            rows = self.assign(boxes, target, level, predictions)
            return check_matched(rows, len(boxes), len(truth), self.assign), iou
        if not len(truth):
            return torch.full((len(boxes),), BACKGROUND, device=boxes.device), iou
        return model.proposal_matcher(overlaps), iou

    def _predictions(self, outputs: dict[str, Tensor], anchors: list[Tensor], i: int) -> tuple[Tensor, Tensor]:
        scores = outputs["cls_logits"][i].detach().float().sigmoid()
        return scores, self.coder.decode_single(outputs["bbox_regression"][i].detach().float(), anchors[i])

    def _sampled(self, outputs, anchors, target, i: int, matched: Tensor, iou: Tensor, level: Tensor) -> Tensor:
        """`matched` of image i with all but the sampled anchors ignored."""
        scores, predicted = self._predictions(outputs, anchors, i) if self.needs_predictions else (None, None)
        candidates = Candidates(
            boxes=anchors[i],
            matched=matched,
            iou=iou,
            labels=labels_of(matched, target["labels"]),
            scores=scores,
            predicted=predicted,
            level=level,
            loss=partial(self._image_loss, outputs, anchors, target, i, matched, iou, level),
        )
        chosen = self.choose(candidates)
        return torch.full_like(matched, IGNORED).scatter_(0, chosen, matched[chosen])

    def _image_loss(self, outputs, anchors, target, i: int, matched: Tensor, iou: Tensor, level: Tensor) -> Tensor:
        image = {name: value[i : i + 1].detach() for name, value in outputs.items()}
        table = self._table(image, anchors[i : i + 1], [target], matched[None], iou[None], level)
        loss = self.candidate_loss(table)
        return torch.zeros_like(iou).index_copy_(0, (matched != IGNORED).nonzero().squeeze(1), loss)

    def _table(self, outputs, anchors, targets, matched: Tensor, iou: Tensor, level: Tensor) -> Samples:
        """The flat table of all anchors that train: (B, N) in, S rows out. Each image averages over its positives."""
        image, row = (matched != IGNORED).nonzero(as_tuple=True)
        matched_rows = matched[image, row]
        labels = torch.stack([labels_of(m, t["labels"]) for m, t in zip(matched, targets)])
        truth = torch.stack([truth_of(m, t["boxes"]) for m, t in zip(matched, targets)])[image, row]
        boxes = torch.stack(anchors)[image, row].to(truth.dtype)  # under autocast torchvision's anchors are half floats
        positive = (matched_rows >= 0).nonzero().squeeze(1)
        codes = torch.zeros_like(boxes).index_copy_(
            0, positive, self.coder.encode_single(truth[positive], boxes[positive])
        )
        positives = (matched >= 0).sum(1).clamp(min=1)
        return Samples(
            logits=outputs["cls_logits"][image, row],
            labels=labels[image, row],
            deltas=outputs["bbox_regression"][image, row],
            codes=codes,
            boxes=boxes,
            truth=truth,
            iou=iou[image, row],
            image=image,
            level=level[row],
            norm=(1.0 / (positives * len(targets)))[image].to(boxes.dtype),
            softmax=False,
            matched=matched_rows,
            decode=self.coder.decode_single,
        )


def prepare_retinanet(model: RetinaNet, stage: Stage, generator: torch.Generator | None) -> Callable[[], None]:
    """What puts a stage in place of RetinaNet's own losses; the model is touched only when it is called."""
    treatment = DenseLoss(model, stage, generator)

    def install() -> None:
        if stage.prior is not None:
            set_prior(model.head.classification_head.cls_logits.bias, stage.prior, softmax=False)
        if stage.score_threshold is not None:
            model.score_thresh = stage.score_threshold
        model.treatment = treatment
        model.head.register_forward_hook(treatment.remember_levels)
        # A partial and not a method: a method of no class could not be pickled, nor sent to another process.
        model.compute_loss = partial(_compute_loss, model)

    return install


def _compute_loss(model, targets: list, head_outputs: dict[str, Tensor], anchors: list[Tensor]) -> dict[str, Tensor]:
    return model.treatment.losses(model, targets, head_outputs, anchors)


def _focal(logits: Tensor, target: Tensor) -> Tensor:
    return sigmoid_focal_loss(logits, target)


def _l1(predicted: Tensor, target: Tensor) -> Tensor:
    return F.l1_loss(predicted, target, reduction="none").sum(1)


def _smooth_l1(predicted: Tensor, target: Tensor) -> Tensor:
    return F.smooth_l1_loss(predicted, target, reduction="none", beta=1.0).sum(1)


class _TorchvisionIoULoss:
    """One of torchvision's IoU losses in the shape of a box loss."""

    space = "xyxy"

    def __init__(self, function) -> None:
        self.function = function

    def __call__(self, predicted: Tensor, target: Tensor) -> Tensor:
        return self.function(predicted, target, reduction="none", eps=1e-7)


# The losses that RetinaNet's own `_loss_type` can name.
_BOX_LOSSES = {
    "l1": _l1,
    "smooth_l1": _smooth_l1,
    "ciou": _TorchvisionIoULoss(complete_box_iou_loss),
    "diou": _TorchvisionIoULoss(distance_box_iou_loss),
    "giou": _TorchvisionIoULoss(generalized_box_iou_loss),
}
