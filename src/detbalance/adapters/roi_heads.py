"""The RoI head of a two-stage detector with its training taken from a stage.

Setting `fastrcnn_loss` on the model would be a silent no-op: torchvision calls the module's function. So the head runs
as it is, masks and keypoints included, and the two box losses are then replaced.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import MultiScaleRoIAlign, batched_nms, box_iou, clip_boxes_to_image, remove_small_boxes

from ..recipe import Stage
from ..types import BACKGROUND, IGNORED, Candidates, RegionStep, Samples
from ..valid_ranges import without_invalid_regions
from .region import screens_of, supervisors_of
from .remembered import remembered
from .stage import StageLoss, best_iou, check_matched, labels_of, truth_of
from .two_stage import norm, smooth_l1, subclassed
from .variance import CornerCoder, VarianceLayer

__all__ = ["BalancedRoIHeads"]


def _softmax(logits: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(logits, target.argmax(1), reduction="none")


class BalancedRoIHeads(RoIHeads):
    """RoIHeads whose assignment, sampling, weights and losses come from a stage."""

    treatment: StageLoss
    log_variance: VarianceLayer | None

    @classmethod
    def of(
        cls,
        old: RoIHeads,
        stage: Stage,
        generator: torch.Generator | None,
        names: tuple[str, str] = ("loss_classifier", "loss_box_reg"),
    ) -> BalancedRoIHeads:
        """Built from the old head's fields: same parameters, same state_dict keys."""
        new = subclassed(old, cls)
        learns = getattr(stage.box_loss, "needs_log_variance", False)
        new.log_variance = _variance_of(old.box_predictor) if learns else None
        if learns:
            new.box_coder = CornerCoder(tuple(map(float, stage.code_weights or (10.0,) * 4)))
        elif stage.code_weights is not None:
            new.box_coder = BoxCoder(tuple(map(float, stage.code_weights)))
        new.treatment = StageLoss(
            stage,
            cls_loss=_softmax,
            box_loss=smooth_l1,
            # The head follows its loss: a loss of one sigmoid a class makes its columns just that.
            softmax=bool(getattr(stage.cls_loss, "softmax", True)),
            names=names,
            generator=generator,
            own_sampler=old.fg_bg_sampler,
        )
        return new

    def forward(self, features, proposals, image_shapes, targets=None):
        """As torchvision's, with the box losses of the stage in training."""
        if not self.training:
            return self._detect(features, proposals, image_shapes)
        losses, samples, _ = self._train(features, proposals, image_shapes, targets)
        return [], {**self.treatment(samples), **losses}

    def _train(self, features, proposals, image_shapes, targets) -> tuple[dict[str, Tensor], Samples, Tensor]:
        """The losses of masks and keypoints and of the head's own parts, the table of the boxes that train, and which
        of them are ground truths."""
        predictions: list[tuple[Tensor, Tensor, Any]] = []
        pooled: list[Any] = []
        self._inputs = features, image_shapes
        handles = [
            self.box_roi_pool.register_forward_hook(lambda m, x, output: pooled.append(output)),
            self.box_predictor.register_forward_hook(lambda m, x, output: predictions.append((*output, *x))),
        ]
        try:
            _, losses = super().forward(features, proposals, image_shapes, targets)
        finally:
            for handle in handles:
                handle.remove()
            del self._inputs
        chosen = self.__dict__.pop("_chosen")
        added = torch.cat(chosen.pop("added"))
        del losses["loss_classifier"], losses["loss_box_reg"]
        samples = self._table(*predictions[-1], **chosen)
        for part in screens_of(self):
            samples = part.screen(samples)
        supervisors = supervisors_of(self)
        if supervisors:
            seen = predictions[-1][2]
            table = partial(self._table_of, seen, chosen)
            step = RegionStep(
                samples, chosen["boxes"], features, image_shapes, pooled[-1], table, self.box_head, self.box_predictor
            )
            suffix = self.treatment.names[0].removeprefix("loss_classifier")  # the stage of a cascade
            for part in supervisors:
                losses |= {name + suffix: loss for name, loss in part.supervise(step).items()}
        return losses, samples, added

    def _table_of(self, seen: Any, chosen: dict, logits: Tensor, regression: Tensor) -> Samples:
        return self._table(logits, regression, seen, **chosen)

    def _detect(self, features, proposals, image_shapes):
        """As torchvision's; a class loss may have scores of its own, other than a softmax over the columns."""
        proposals = self.refined(features, proposals, image_shapes)
        rescore = getattr(self.treatment.cls_loss, "at_inference", None)
        if rescore is None and self.treatment.suppress is None:
            return super().forward(features, proposals, image_shapes)

        def hook(module, inputs, output):
            self._seen = inputs[0]  # what the variance is predicted from
            return output if rescore is None else (rescore(output[0]), *output[1:])

        handle = self.box_predictor.register_forward_hook(hook)
        try:
            return super().forward(features, proposals, image_shapes)
        finally:
            handle.remove()
            self.__dict__.pop("_seen", None)

    def postprocess_detections(self, class_logits, box_regression, proposals, image_shapes):
        """As torchvision's, but for the suppression if the stage has one, and for scores that are no softmax."""
        suppress, softmax = self.treatment.suppress, self.treatment.softmax
        if suppress is None and softmax:
            return super().postprocess_detections(class_logits, box_regression, proposals, image_shapes)
        learnt = None if suppress is None else self.log_variance
        suppress = _by_class if suppress is None else suppress
        count = [len(p) for p in proposals]
        boxes = self.box_coder.decode(box_regression, proposals).split(count)
        scores = class_logits.softmax(-1) if softmax else class_logits.sigmoid()
        scores, deviations = scores.split(count), [None] * len(count)
        if learnt is not None:
            of = learnt.deviations(self._seen, torch.cat(proposals), self.box_coder.weights)
            deviations = of.expand(-1, class_logits.shape[1], 4).split(count)
        found = [
            self._suppressed(suppress, b, s, d, shape)
            for b, s, d, shape in zip(boxes, scores, deviations, image_shapes)
        ]
        return tuple(list(part) for part in zip(*found))

    def _suppressed(self, suppress, boxes, scores, deviations, shape) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes, scores and labels of one image."""
        boxes = clip_boxes_to_image(boxes, shape).expand(-1, scores.shape[1], 4)
        row, label = (scores[:, 1:] > self.score_thresh).nonzero(as_tuple=True)
        label = label + 1
        large = remove_small_boxes(boxes[row, label], 1e-2)  # torchvision's own limit
        row, label = row[large], label[large]
        boxes, scores = boxes[row, label], scores[row, label]
        if deviations is not None:
            deviations = deviations[row, label]
        options = {"iou": self.nms_thresh, "limit": self.detections_per_img}
        boxes, kept = suppress(boxes, scores, label, deviations, **options)
        return clip_boxes_to_image(boxes, shape), scores[kept], label[kept]

    def log_scores(self, logits: Tensor) -> Tensor:
        """(N, C) the logarithms of the probabilities at which boxes are detected."""
        if not self.treatment.softmax:
            return F.logsigmoid(logits)
        rescore = getattr(self.treatment.cls_loss, "at_inference", None)
        return (logits if rescore is None else rescore(logits)).log_softmax(-1)

    def logits_of(self, log_scores: Tensor) -> Tensor:
        """(N, C) logits of which `log_scores` are the logarithms of the probabilities."""
        return log_scores if self.treatment.softmax else log_scores - torch.log(-torch.expm1(log_scores))

    def regress(self, features, proposals, image_shapes) -> list[Tensor]:
        """The proposals' boxes, for the class that each resembles most, cut off at the borders of their image."""
        pooled = self.box_head(self.box_roi_pool(features, proposals, image_shapes))
        logits, regression = self.box_predictor(pooled)
        deltas = _of_class(regression, self.log_scores(logits)[:, 1:].argmax(1) + 1)
        boxes = self.box_coder.decode_single(deltas, torch.cat(proposals)).split([len(p) for p in proposals])
        return [clip_boxes_to_image(b, shape) for b, shape in zip(boxes, image_shapes)]

    def refined(self, features, proposals, image_shapes) -> list[Tensor]:
        """What detections are made from."""
        if self.treatment.refine is None:
            return proposals
        return self.treatment.refine(lambda boxes: self.regress(features, boxes, image_shapes), proposals)

    def select_training_samples(self, proposals, targets):
        """torchvision's steps (add the ground truths, assign, sample, encode) with the stage's assigner and sampler.

        The boxes of a generator join the proposals before they are assigned.
        """
        self.check_targets(targets)
        dtype = proposals[0].dtype
        truths = [t["boxes"].to(dtype) for t in targets]
        first = [len(boxes) for boxes in proposals]
        proposals = self.add_gt_proposals(proposals, truths)
        own = [len(boxes) for boxes in proposals]
        for_boxes_alone = getattr(self.treatment.box_generator, "applies_to", "both") == "box"
        if self.treatment.box_generator is not None and not for_boxes_alone:
            made = self._generated(targets, truths)
            proposals = [torch.cat(pair) for pair in zip(proposals, made)]
        matched, iou = zip(*(self._match(b, t, g) for b, t, g in zip(proposals, targets, truths)))
        matched = [without_invalid_regions(m, b, t) for m, b, t in zip(matched, proposals, targets)]
        if getattr(self.treatment.box_generator, "exclusive", False):
            matched = [_ignore_positives(m, count) for m, count in zip(matched, own)]
        labels = [labels_of(m, t["labels"]) for m, t in zip(matched, targets)]
        if self.treatment.sample is None:
            marks = [torch.where(m == IGNORED, -1, label) for m, label in zip(matched, labels)]
            chosen = self.subsample(marks)
        else:
            chosen = self._sample(proposals, matched, iou, labels, targets)
        proposals = [b[rows] for b, rows in zip(proposals, chosen)]
        matched = [m[rows] for m, rows in zip(matched, chosen)]
        labels = [label[rows] for label, rows in zip(labels, chosen)]
        codes = self._codes(proposals, matched, truths)
        self._chosen = {
            "boxes": proposals,
            "matched": matched,
            "labels": labels,
            "codes": codes,
            "truth": [truth_of(m, t) for m, t in zip(matched, truths)],
            "iou": [i[rows] for i, rows in zip(iou, chosen)],
            "added": [(rows >= a) & (rows < b) for rows, a, b in zip(chosen, first, own)],
        }
        if for_boxes_alone:
            return self._with_generated(targets, truths)
        return proposals, [m.clamp(min=0) for m in matched], labels, codes

    def _with_generated(self, targets: list[dict], truths: list[Tensor]) -> tuple[list[Tensor], ...]:
        """What torchvision trains on, with boxes that go to the box loss alone behind the others: they go through the
        head, but are no objects to the masks and keypoints, and no proposals of a next stage."""
        made, chosen = self._generated(targets, truths), self._chosen
        iou, matched = zip(*(_most_overlapped(b, t) for b, t in zip(made, truths)))
        extra = {
            "boxes": made,
            "matched": matched,
            "labels": [labels_of(m, t["labels"]) for m, t in zip(matched, targets)],
            "codes": self._codes(made, matched, truths),
            "truth": [truth_of(m, t) for m, t in zip(matched, truths)],
            "iou": iou,
            "added": [torch.ones_like(m, dtype=torch.bool) for m in matched],
        }
        seen = [torch.cat((label, torch.zeros_like(m))) for label, m in zip(chosen["labels"], matched)]
        generated = [torch.arange(len(s), device=s.device) >= len(c) for s, c in zip(seen, chosen["labels"])]
        chosen = {name: [torch.cat(pair) for pair in zip(chosen[name], extra[name])] for name in chosen}
        self._chosen = {**chosen, "generated": generated}
        return chosen["boxes"], [m.clamp(min=0) for m in chosen["matched"]], seen, chosen["codes"]

    def _generated(self, targets: list[dict], truths: list[Tensor]) -> list[Tensor]:
        """For each image as many boxes as positives are sampled, cut off at its borders."""
        sample, own = self.treatment.sample, self.fg_bg_sampler
        count = getattr(sample, "count", None) or own.batch_size_per_image
        fraction = getattr(sample, "positive_fraction", None)
        number = int(count * (own.positive_fraction if fraction is None else fraction))
        boxes = [
            self.treatment.box_generator({**target, "boxes": truth}, number, self.treatment.generator)
            for target, truth in zip(targets, truths)
        ]
        return [clip_boxes_to_image(b.to(t), shape) for b, t, shape in zip(boxes, truths, self._inputs[1])]

    def _match(self, boxes: Tensor, target: dict, truth: Tensor) -> tuple[Tensor, Tensor]:
        overlaps = box_iou(truth, boxes)
        iou = best_iou(overlaps, len(boxes))
        assign = self.treatment.assign
        if assign is not None:
            level = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
            return check_matched(assign(boxes, target, level, None), len(boxes), len(truth), assign), iou
        if not len(truth):
            return torch.full((len(boxes),), BACKGROUND, device=boxes.device), iou
        return self.proposal_matcher(overlaps), iou

    def _codes(self, boxes: list[Tensor], matched: list[Tensor], truths: list[Tensor]) -> list[Tensor]:
        """As torchvision: the code of every sample, background rows against ground truth 0 (zeros if there is none)."""
        filled = [t if len(t) else t.new_zeros(1, 4) for t in truths]
        return list(self.box_coder.encode([t[m.clamp(min=0)] for t, m in zip(filled, matched)], boxes))

    def _sample(self, boxes, matched, iou, labels, targets) -> list[Tensor]:
        candidates = [
            Candidates(boxes=b, matched=m, iou=i, labels=label, remembered=remembered(t))
            for b, m, i, label, t in zip(boxes, matched, iou, labels, targets)
        ]
        preview = _Preview(self, boxes, matched, iou, labels, targets)
        return self.treatment.choose_all([preview.of(i, c) for i, c in enumerate(candidates)])

    def _table(self, logits, regression, seen, *, boxes, matched, labels, codes, truth, iou, generated=None) -> Samples:
        label = torch.cat(labels)
        if generated is not None:
            generated = torch.cat(generated)
        # Background rows are shown the box of the class that they resemble most.
        column = torch.where(label > 0, label, logits.detach()[:, 1:].argmax(1) + 1)
        deltas = _of_class(regression, column)
        image = torch.cat([torch.full_like(m, i) for i, m in enumerate(matched)])
        return Samples(
            logits=logits,
            labels=label,
            deltas=deltas,
            codes=torch.cat(codes),
            boxes=torch.cat(boxes),
            truth=torch.cat(truth),
            iou=torch.cat(iou),
            image=image,
            level=self._level(boxes),
            norm=norm(self.treatment, label if generated is None else label[~generated], torch.cat(iou), len(label)),
            softmax=self.treatment.softmax,
            matched=torch.where(label > 0, torch.cat(matched), BACKGROUND),
            decode=self.box_coder.decode_single,
            log_variance=None if self.log_variance is None else _of_class(self.log_variance(seen), column),
            generated=generated,
        )

    def _level(self, boxes: list[Tensor]) -> Tensor:
        pool = self.box_roi_pool
        if hasattr(pool, "levels"):
            return pool.levels(boxes)
        pool = getattr(pool, "pool", pool)  # a region head's, about the detector's own
        if isinstance(pool, MultiScaleRoIAlign) and pool.map_levels is not None and len(pool.scales) > 1:
            return pool.map_levels(boxes)
        return torch.zeros(sum(map(len, boxes)), dtype=torch.int64, device=boxes[0].device)


def _by_class(boxes, scores, labels, deviations, *, iou: float, limit: int) -> tuple[Tensor, Tensor]:
    """torchvision's own suppression in the shape of the slot."""
    kept = batched_nms(boxes, scores, labels, iou)[:limit]
    return boxes[kept], kept


def _variance_of(predictor: nn.Module) -> VarianceLayer:
    regressor = getattr(predictor, "bbox_pred", None)
    if not (isinstance(regressor, nn.Linear) and getattr(predictor, "takes_vectors", True)):
        raise ValueError(
            f"expected a box_predictor with a linear bbox_pred, to learn deviations, but got {predictor!r}"
        )
    return VarianceLayer(regressor)


def _of_class(regression: Tensor, column: Tensor) -> Tensor:
    """(N, 4) the box code of one class of each row; of the only one there is, if all classes share it."""
    table = regression.reshape(len(column), regression.shape[1] // 4, 4)
    return table[torch.arange(len(column), device=column.device), column] if table.shape[1] > 1 else table[:, 0]


def _most_overlapped(boxes: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """(M,) the highest IoU of each box, and with which object; without objects there are no boxes."""
    if not len(boxes):
        return boxes.new_zeros(0), torch.zeros(0, dtype=torch.int64, device=boxes.device)
    return box_iou(boxes, truth).max(1)


def _ignore_positives(matched: Tensor, count: int) -> Tensor:
    """The first `count` candidates show no object: those that do are ignored."""
    first = torch.arange(len(matched), device=matched.device) < count
    return torch.where(first & (matched >= 0), IGNORED, matched)


class _Preview:
    """The present predictions and losses of all proposals, from a pass without gradient made when first asked for."""

    def __init__(self, heads: BalancedRoIHeads, boxes, matched, iou, labels, targets) -> None:
        self.heads, self.boxes, self.matched, self.iou, self.labels = heads, boxes, matched, iou, labels
        self.truths = [t["boxes"].to(boxes[0].dtype) for t in targets]
        self._table: Samples | None = None

    def of(self, image: int, candidates: Candidates) -> Candidates:
        scores = predicted = None
        if self.heads.treatment.needs_predictions:
            rows = self._rows(image)
            table = self.table()
            scores, predicted = table.scores()[rows], table.predicted()[rows]
        return Candidates(
            boxes=candidates.boxes,
            matched=candidates.matched,
            iou=candidates.iou,
            labels=candidates.labels,
            scores=scores,
            predicted=predicted,
            loss=partial(self.loss, image),
            remembered=candidates.remembered,
        )

    def table(self) -> Samples:
        if self._table is None:
            heads = self.heads
            features, image_shapes = heads._inputs
            with torch.no_grad():
                pooled = heads.box_head(heads.box_roi_pool(features, self.boxes, image_shapes))
                logits, regression = heads.box_predictor(pooled)
                self._table = heads._table(
                    logits.float(),
                    regression.float(),
                    pooled,
                    boxes=self.boxes,
                    matched=self.matched,
                    labels=self.labels,
                    codes=heads._codes(self.boxes, self.matched, self.truths),
                    truth=[truth_of(m, t) for m, t in zip(self.matched, self.truths)],
                    iou=self.iou,
                )
        return self._table

    def _rows(self, image: int) -> slice:
        first = sum(len(b) for b in self.boxes[:image])
        return slice(first, first + len(self.boxes[image]))

    def loss(self, image: int) -> Tensor:
        return self.heads.treatment.candidate_loss(self.table())[self._rows(image)]
