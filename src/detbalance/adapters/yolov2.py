"""YOLOv2: the elements of its final map are sampled, weighed and summed by a recipe, and their losses replaced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_iou

from ..detectors.region import decode, encode
from ..detectors.yolov2 import YOLOv2
from ..recipe import Stage
from ..types import IGNORED, Candidates, Samples
from ..valid_ranges import without_invalid
from .remembered import remembered
from .stage import StageLoss, best_iou, check_matched, in_float32, labels_of, set_prior, truth_of

__all__ = ["prepare_yolov2"]

_BOX = "bbox_regression"


class RegionStage(StageLoss):
    """The losses of YOLOv2's map: class, box and objectness of the same elements, chosen and weighed together.

    Outside, objectness and classes are one softmax with the background in column 0: p_0 = 1 - o, p_k = o p(k). That is
    what samplers see as `scores`, and weights and losses as `logits`. A `cls_loss` of a recipe takes the place of class
    and objectness loss together; what weighs the class weighs both. `boxes` are the anchors in their places, and the
    code is the one of `region.encode`. Whatever the sampler, losses are summed over an image, as YOLOv2's are.
    """

    def __init__(self, model: YOLOv2, stage: Stage, generator: torch.Generator | None) -> None:
        super().__init__(
            stage, cls_loss=_own, box_loss=_own, softmax=True, names=("classification", _BOX), generator=generator
        )
        self.decode = partial(decode, stride=model.stride)
        self.encode = partial(encode, stride=model.stride)

    def losses(self, model: YOLOv2, targets: list, outputs: dict[str, Tensor], boxes: Tensor, sizes, grid) -> dict:
        """What the model's compute_loss returns: assign, sample and weigh the elements of the batch, take losses."""
        logits = _softmax_logits(outputs)
        scores, predicted = logits.detach().exp(), self.decode(outputs[_BOX].detach(), boxes)
        iou = torch.stack([best_iou(box_iou(t["boxes"].to(boxes.dtype), boxes), len(boxes)) for t in targets])
        matched = [self._match(model, boxes, t, s, p, grid) for t, s, p in zip(targets, scores, predicted)]
        matched = torch.stack([without_invalid(m, boxes, t) for m, t in zip(matched, targets)])
        elements = model.element_losses(targets, outputs, boxes, sizes, matched)
        table = partial(self._table, logits, outputs[_BOX], boxes, targets, iou)
        if self.sample is not None:
            present = cache(partial(self._present, table, elements, matched))  # of the whole batch, if asked for at all
            matched = self._sampled(targets, boxes, matched, iou, scores, predicted, present)
        return self(table(matched), _of(elements, matched))

    def _sampled(self, targets, boxes: Tensor, matched: Tensor, iou, scores, predicted, present: Callable) -> Tensor:
        """(B, N) `matched` with all but the sampled elements ignored."""
        candidates = [
            Candidates(
                boxes=boxes,
                matched=matched[i],
                iou=iou[i],
                labels=labels_of(matched[i], target["labels"]),
                scores=scores[i],
                predicted=predicted[i],
                level=torch.zeros_like(matched[i]),
                loss=lambda i=i: present()[i],
                objectness=1 - scores[i, :, 0],
                remembered=remembered(target),
            )
            for i, target in enumerate(targets)
        ]
        rows = self.choose_all(candidates)
        return torch.stack([torch.full_like(m, IGNORED).scatter_(0, r, m[r]) for m, r in zip(matched, rows)])

    def forward(self, samples: Samples, own: dict[str, Tensor]) -> dict[str, Tensor]:
        """The named losses of the batch; `own` are YOLOv2's of each row."""
        with torch.autocast(samples.logits.device.type, enabled=False):
            samples = in_float32(samples)
            if self.joint_loss is not None:
                return self._shown(samples, dict(self.joint_loss(samples)), {})
            rows = self._rows(samples, own)
            of_class = sum(values for name, values in rows.items() if name != _BOX)
            if of_class.dim():
                samples = replace(samples, loss=of_class.detach)
            class_factor, box_factor = self._factors(samples)
            box = self._sum(rows.pop(_BOX), samples.norm, box_factor) * self.box_weight
            losses = {name: self._sum(values, samples.norm, class_factor) for name, values in rows.items()}
            return self._shown(samples, {**{k: loss * self.cls_weight for k, loss in losses.items()}, _BOX: box}, {})

    def _match(self, model: YOLOv2, boxes, target: dict, scores: Tensor, predicted: Tensor, grid) -> Tensor:
        if self.assign is None:
            return model.match(target, predicted, grid)
        looks = getattr(self.assign, "needs_predictions", False)
        level = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
        rows = self.assign(boxes, target, level, (scores, predicted) if looks else None)
        return check_matched(rows, len(boxes), len(target["boxes"]), self.assign)

    def _rows(self, samples: Samples, own: dict[str, Tensor]) -> dict[str, Tensor]:
        """The loss of each row by name: YOLOv2's own, or the recipe's, whose class loss is that of objectness, too."""
        rows = dict(own)
        if self.cls_loss is not _own:
            del rows["objectness"]
            rows["classification"] = self.class_rows(samples)
        if self.box_loss is not _own:
            positive = samples.positive.nonzero().squeeze(1)
            rows[_BOX] = rows[_BOX].index_put((positive,), self.box_rows(samples, positive))
        return rows

    def _sum(self, values: Tensor, norm: Tensor, factor: Tensor | None) -> Tensor:
        if values.dim():
            return (values * (norm if factor is None else norm * factor)).sum()
        if factor is not None:
            raise ValueError(f"{self.cls_loss!r} ranks a set: its rows cannot be weighed by {self.weigh!r}")
        return values

    @torch.no_grad()
    def _present(self, table: Callable, elements: dict[str, Tensor], matched: Tensor) -> Tensor:
        """(B, N) the present loss of each element, class, box and objectness."""
        rows = self._rows(table(matched), _of(elements, matched))
        if rows["classification"].dim() == 0:
            raise ValueError(f"{self.cls_loss!r} ranks a set and gives no loss of its own to each candidate")
        total = sum(values * (self.box_weight if name == _BOX else self.cls_weight) for name, values in rows.items())
        return total.new_zeros(matched.shape).index_put((matched != IGNORED).nonzero(as_tuple=True), total)

    def _table(self, logits, deltas, boxes: Tensor, targets: list, iou: Tensor, matched: Tensor) -> Samples:
        """The flat table of all elements that train: (B, N) in, S rows out, image by image."""
        image, row = (matched != IGNORED).nonzero(as_tuple=True)
        matched_rows, anchors = matched[image, row], boxes[row]
        labels = torch.stack([labels_of(m, t["labels"]) for m, t in zip(matched, targets)])[image, row]
        truth = torch.stack([truth_of(m, t["boxes"].to(boxes.dtype)) for m, t in zip(matched, targets)])[image, row]
        positive = (matched_rows >= 0).nonzero().squeeze(1)
        codes = torch.zeros_like(anchors).index_copy_(0, positive, self.encode(truth[positive], anchors[positive]))
        return Samples(
            logits=logits[image, row],
            labels=labels,
            deltas=deltas[image, row],
            codes=codes,
            boxes=anchors,
            truth=truth,
            iou=iou[image, row],
            image=image,
            level=torch.zeros_like(image),
            norm=boxes.new_full((len(image),), 1 / len(targets)),
            softmax=True,
            matched=matched_rows,
            decode=self.decode,
        )


def prepare_yolov2(model: YOLOv2, stage: Stage, generator: torch.Generator | None) -> Callable[[], None]:
    """What puts a stage in place of YOLOv2's own losses; the model is touched only when it is called."""
    if getattr(stage.box_loss, "anchors_only", False):
        raise ValueError(f"{stage.box_loss!r} reads the box code of anchors, but YOLOv2 predicts offsets in a place")
    treatment = RegionStage(model, stage, generator)

    def install() -> None:
        if stage.prior is not None:
            bias = model.head.prediction.bias.detach().view(-1, model.head.columns)
            set_prior(bias[:, 4], stage.prior, softmax=False)
        if stage.score_threshold is not None:
            model.score_thresh = stage.score_threshold
        model.treatment = treatment
        if stage.suppress is not None:
            model.suppress = partial(_suppress, model)
        model.compute_loss = partial(_compute_loss, model)

    return install


def _compute_loss(model: YOLOv2, targets: list, outputs: dict, boxes: Tensor, sizes: list, grid: tuple) -> dict:
    return model.treatment.losses(model, targets, outputs, boxes, sizes, grid)


def _suppress(model: YOLOv2, boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    options = {"iou": model.nms_thresh, "limit": model.detections_per_img}
    return model.treatment.suppress(boxes, scores, labels, None, **options)


def _own(logits: Tensor, target: Tensor) -> Tensor:
    raise TypeError("stands for YOLOv2's own loss, which is there for each element already")


def _of(elements: dict[str, Tensor], matched: Tensor) -> dict[str, Tensor]:
    chosen = matched != IGNORED
    return {name: loss[chosen] for name, loss in elements.items()}


def _softmax_logits(outputs: dict[str, Tensor]) -> Tensor:
    """Objectness and classes as the logarithms of one distribution, (B, N, 1 + K)."""
    objectness = outputs["objectness"][..., None]
    classes = F.logsigmoid(objectness) + outputs["cls_logits"].log_softmax(-1)
    return torch.cat((F.logsigmoid(-objectness), classes), -1)
