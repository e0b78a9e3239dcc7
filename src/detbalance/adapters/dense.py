"""What the one-stage detectors share: every anchor of every level is assigned, sampled, weighed, and takes its loss."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import box_iou

from ..common import widen
from ..recipe import Stage
from ..tables import highest_iou
from ..types import BACKGROUND, IGNORED, Candidates, Samples
from ..valid_ranges import without_invalid
from .remembered import remembered
from .stage import StageLoss, best_iou, check_matched, in_float32, labels_of, mean_over_ranks, truth_of
from .suppression import attach_suppression
from .variance import CornerCoder, VarianceMaps, regressors

__all__ = ["DenseLoss"]


class DenseLoss(StageLoss):
    """The losses of a head that predicts at every anchor of every level; as it stands, RetinaNet's.

    A box loss that learns variances gets a layer for them (`model.log_variance`), and anchors a code of corners.

    Args:
        stage: the parts.
        cls_loss, box_loss: the detector's own, for empty slots.
        coder: the detector's box coder.
        softmax: does the head predict a softmax with the background in column 0?
        generator: for the sampler; None is torch's global one.
    """

    def __init__(
        self,
        stage: Stage,
        *,
        cls_loss: Callable,
        box_loss: Callable,
        coder: Any,
        softmax: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        names = ("classification", "bbox_regression")
        super().__init__(stage, cls_loss=cls_loss, box_loss=box_loss, softmax=softmax, names=names, generator=generator)
        self.coder = CornerCoder((10.0,) * 4) if self.learns_variance and isinstance(coder, BoxCoder) else coder
        self.code_weights = getattr(self.coder, "weights", (1.0,) * 4)
        self._level_sizes: list[int] = []
        self.auxiliaries: list[Callable] = []
        """what learns beside the head, from its detections: called with (image -> (scores, boxes), levels, targets)"""

    def install(self, model: nn.Module, stage: Stage) -> None:
        """Become part of the model, and see how many anchors its levels have."""
        if stage.score_threshold is not None:
            model.score_thresh = stage.score_threshold
        model.treatment = self
        model.head.register_forward_hook(partial(self.remember_levels, model))
        if self.learns_variance:
            layers = regressors(model.head)
            model.box_coder = self.coder
            model.log_variance = VarianceMaps(layers)
            model.log_variance.install(model.head, layers)
        if self.suppress is not None:
            attach_suppression(model)

    def remember_levels(self, model: nn.Module, head: nn.Module, inputs: tuple, output: dict[str, Tensor]) -> None:
        """A hook of the head: how many anchors each level has."""
        sizes = [feature.shape[-2] * feature.shape[-1] for feature in inputs[0]]
        self._level_sizes = [s * count for s, count in zip(sizes, model.anchor_generator.num_anchors_per_location())]

    def level(self, device: torch.device) -> Tensor:
        """The pyramid level of each anchor of an image, 0 the finest."""
        sizes = torch.tensor(self._level_sizes, device=device)
        return torch.repeat_interleave(
            torch.arange(len(sizes), device=device), sizes, output_size=sum(self._level_sizes)
        )

    def encode(self, truth: Tensor, boxes: Tensor) -> Tensor:
        """The code that turns anchors into boxes."""
        return self.coder.encode_single(truth, boxes)

    def decode(self, deltas: Tensor, boxes: Tensor) -> Tensor:
        """The boxes that a code makes of anchors."""
        return self.coder.decode_single(deltas, boxes)

    def average(self, positives: Tensor) -> Tensor:
        """(B,) positives of each image -> (B,) weight of its rows: each image averages over its positives."""
        return 1.0 / (positives.clamp(min=1) * len(positives))

    def _norm(self, matched: Tensor, image: Tensor) -> Tensor:
        """(S,) the averaging as a weight of each row: the detector's own, or over all that a sampler leaves."""
        if self.sample is None or self.normalised_by_positives:
            return self.average((matched >= 0).sum(1))[image]
        count = mean_over_ranks(torch.tensor(float(len(image)), device=image.device)).clamp(min=1)
        return (1.0 / count).expand(len(image))

    def losses(
        self,
        targets: list[dict[str, Tensor]],
        outputs: dict[str, Tensor],
        anchors: list[Tensor],
        match: Callable[[int, Tensor], Tensor],
        head: nn.Module | None = None,
    ) -> dict[str, Tensor]:
        """What the model's compute_loss returns: assign, sample and weigh the anchors of the batch, take the losses.

        `match` is the detector's own assignment: (image, (G, N) IoUs) -> (N,) matched; not asked without objects.
        `head` is a head of a recipe (see `heads`) that learns something of its own besides.
        """
        level = self.level(anchors[0].device)
        own: dict[str, Tensor] = {}
        moves = "first_regression" in outputs
        if moves:
            anchors, own = self._first_step(outputs, anchors, targets, level, match, head)
        matched, iou = self._match_all(outputs, anchors, targets, level, match)
        if moves:
            matched = list(head.screen(outputs, torch.stack(matched)))
        elif head is not None:
            matched, own = self._supervise(head, outputs, targets, matched)
        matched = self.sampled(outputs, anchors, targets, matched, iou, level)
        for auxiliary in self.auxiliaries:
            own |= auxiliary(partial(self._detections, outputs, anchors), level, targets)
        return {**self.take(outputs, anchors, targets, torch.stack(matched), torch.stack(iou), level), **own}

    def sampled(
        self, outputs, anchors, targets, matched: list[Tensor], iou: list[Tensor], level: Tensor
    ) -> list[Tensor]:
        """`matched` of each image with all but the sampled anchors ignored."""
        if self.sample is None:
            return matched
        candidates = [
            self._candidates(outputs, anchors, target, i, matched[i], iou[i], level) for i, target in enumerate(targets)
        ]
        chosen = self.choose_all(candidates)
        return [torch.full_like(m, IGNORED).scatter_(0, c, m[c]) for m, c in zip(matched, chosen)]

    def _match_all(self, outputs, anchors, targets, level: Tensor, match) -> tuple[list[Tensor], list[Tensor]]:
        """What each anchor of each image shows, and its best IoU."""
        matched, iou = [], []
        for i, (boxes, target) in enumerate(zip(anchors, targets)):
            rows, best = self.match(outputs, boxes, target, i, level, match)
            matched.append(without_invalid(rows, boxes, target))
            iou.append(best)
        return matched, iou

    def _supervise(self, head: nn.Module, outputs, targets, matched: list[Tensor]) -> tuple[list[Tensor], dict]:
        """What a head leaves to train, and its own losses."""
        labels = torch.stack([labels_of(m, t["labels"]) for m, t in zip(matched, targets)])
        positives = torch.stack([(m >= 0).sum() for m in matched])
        screened, own = head.supervise(outputs, torch.stack(matched), labels, self.average(positives))
        return list(screened), own

    def _first_step(self, outputs, anchors, targets, level: Tensor, match, head: nn.Module) -> tuple[list, dict]:
        """The anchors as a head moves them first, and the losses of that step."""
        first = {**outputs, "bbox_regression": outputs["first_regression"]}
        matched, iou = self._match_all(first, anchors, targets, level, match)
        _, own = self._supervise(head, outputs, targets, matched)
        rows = torch.stack(matched)
        positives = torch.where(rows >= 0, rows, IGNORED)
        with torch.autocast(level.device.type, enabled=False):
            table = self.table(first, anchors, targets, positives, torch.stack(iou), level, iou[0].new_ones(()))
            found = in_float32(table)
            loss = self.box_rows(found, torch.arange(len(found.image), device=level.device))
            weight = self.average((rows >= 0).sum(1))[found.image]
            own["anchor_regression"] = (loss * weight).sum() * self.box_weight
            moved = [self.decode(code, boxes) for code, boxes in zip(widen(head.moved(outputs)), anchors)]
        return moved, own

    def _detections(self, outputs: dict[str, Tensor], anchors: list[Tensor], i: int) -> tuple[Tensor, Tensor]:
        return self._predictions(outputs, anchors[i], i)

    def take(self, outputs, anchors, targets, matched: Tensor, iou: Tensor, level: Tensor) -> dict[str, Tensor]:
        """The losses of all anchors that are not ignored."""
        return self(self.table(outputs, anchors, targets, matched, iou, level))

    def match(self, outputs, boxes: Tensor, target: dict, i: int, level: Tensor, match) -> tuple[Tensor, Tensor]:
        """What each anchor of image i shows, by the stage's assigner or the detector's own; and its highest IoU."""
        truth = target["boxes"]
        if self.assign is not None:
            looks = getattr(self.assign, "needs_predictions", False)
            rows = self.assign(boxes, target, level, self._predictions(outputs, boxes, i) if looks else None)
            return check_matched(rows, len(boxes), len(truth), self.assign), highest_iou(truth, boxes)
        overlaps = box_iou(truth, boxes)
        iou = best_iou(overlaps, len(boxes))
        if not len(truth):
            return torch.full((len(boxes),), BACKGROUND, device=boxes.device), iou
        return match(i, overlaps), iou

    def _predictions(self, outputs: dict[str, Tensor], boxes: Tensor, i: int) -> tuple[Tensor, Tensor]:
        logits = outputs["cls_logits"][i].detach().float()
        scores = logits.softmax(-1) if self.softmax else logits.sigmoid()
        if "objectness" in outputs:
            scores = scores * _objectness(outputs, i)[:, None]
        return scores, self.decode(outputs["bbox_regression"][i].detach().float(), boxes)

    def _candidates(self, outputs, anchors, target, i: int, matched: Tensor, iou: Tensor, level: Tensor) -> Candidates:
        """What the sampler sees of image i."""
        scores, predicted = self._predictions(outputs, anchors[i], i) if self.needs_predictions else (None, None)
        return Candidates(
            boxes=anchors[i],
            matched=matched,
            iou=iou,
            labels=labels_of(matched, target["labels"]),
            scores=scores,
            predicted=predicted,
            level=level,
            loss=partial(self._image_loss, outputs, anchors, target, i, matched, iou, level),
            objectness=_objectness(outputs, i) if "objectness" in outputs else None,
            remembered=remembered(target),
        )

    def _image_loss(self, outputs, anchors, target, i: int, matched: Tensor, iou: Tensor, level: Tensor) -> Tensor:
        image = {name: value[i : i + 1].detach() for name, value in outputs.items()}
        # Nothing is averaged here: processes that ask for different numbers of images would wait for one another.
        norm = iou.new_ones(())
        table = self.table(image, anchors[i : i + 1], [target], matched[None], iou[None], level, norm)
        loss = self.candidate_loss(table)
        rows = (matched != IGNORED).nonzero().squeeze(1)
        return loss.new_zeros(len(matched)).index_copy_(0, rows, loss)

    def table(
        self, outputs, anchors, targets, matched: Tensor, iou: Tensor, level: Tensor, norm: Tensor | None = None
    ) -> Samples:
        """The flat table of all anchors that train: (B, N) in, S rows out, image by image."""
        image, row = (matched != IGNORED).nonzero(as_tuple=True)
        matched_rows = matched[image, row]
        labels = torch.stack([labels_of(m, t["labels"]) for m, t in zip(matched, targets)])
        truth = torch.stack([truth_of(m, t["boxes"]) for m, t in zip(matched, targets)])[image, row]
        boxes = torch.stack(anchors)[image, row].to(truth.dtype)
        positive = (matched_rows >= 0).nonzero().squeeze(1)
        codes = torch.zeros_like(boxes).index_copy_(0, positive, self.encode(truth[positive], boxes[positive]))
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
            norm=(self._norm(matched, image) if norm is None else norm.expand(len(image))).to(boxes.dtype),
            softmax=self.softmax,
            matched=matched_rows,
            decode=self.decode,
            objects=tuple(targets),
            log_variance=outputs["log_variance"][image, row] if "log_variance" in outputs else None,
        )


def _objectness(outputs: dict[str, Tensor], i: int) -> Tensor:
    return outputs["objectness"][i].detach().float().sigmoid().squeeze(-1)
