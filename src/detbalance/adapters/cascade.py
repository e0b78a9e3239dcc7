"""Several region heads in a row: each trains on, and detects from, the boxes that the one before it has regressed.

Cai and Vasconcelos, Cascade R-CNN (CVPR 2018, arXiv:1712.00726; extended in arXiv:1906.09756). The first head keeps its
place, its names and the masks and keypoints, which train on its proposals and are predicted in the last boxes; the
others are `roi_heads.later`.
"""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import fields, replace

import torch
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import MultiScaleRoIAlign, clip_boxes_to_image, remove_small_boxes

from ..recipe import Stage
from ..types import Samples
from .roi_heads import BalancedRoIHeads
from .two_stage import subclassed

__all__ = ["CascadeRoIHeads", "filled"]

_SMALLEST = 1e-2  # pixels; torchvision's own limit for detections
_NOT_THE_BOXES = tuple(f"{kind}_{part}" for kind in ("mask", "keypoint") for part in ("roi_pool", "head", "predictor"))


class CascadeRoIHeads(BalancedRoIHeads):
    """RoIHeads of two or more stages, each with its own box head, predictor, box code, and parts of a recipe.

    Training: a stage's boxes, regressed, are the next stage's proposals (background rows by the class that they
    resemble most, where each class has a box of its own); each stage adds the ground truths, assigns and samples anew.
    What became of the ground truths that a stage added is not handed on.

    Detection: the boxes go through all regressors, the scores are the mean of all classifiers on the proposals of the
    last stage, as the paper has it (Detectron2 and MMDetection average scores of each stage's own proposals).
    """

    later: nn.ModuleList
    own: tuple[Stage, ...] | None = None
    """the stages of a detector that is a cascade by itself"""

    @classmethod
    def of_stages(cls, old: RoIHeads, stages: tuple[Stage, ...], generator: torch.Generator | None) -> CascadeRoIHeads:
        """Built from the old head's fields; further heads are those that it has, or start as copies of the first."""
        later = getattr(old, "later", None) or [_another(old) for _ in stages[1:]]
        new = cls.of(old, stages[0], generator)
        if len({bool(getattr(stage.cls_loss, "softmax", True)) for stage in stages}) > 1:
            raise ValueError("expected stages of one kind of scores, softmax or sigmoid, as their mean detects")
        new.later = nn.ModuleList(
            BalancedRoIHeads.of(head, stage, generator, (f"loss_classifier_{i}", f"loss_box_reg_{i}"))
            for i, (head, stage) in enumerate(zip(later, stages[1:]), 2)
        )
        return new

    def forward(self, features, proposals, image_shapes, targets=None):
        """As torchvision's, stage by stage."""
        if not self.training:
            return self._detect(features, proposals, image_shapes)
        others, samples, truths = self._train(features, proposals, image_shapes, targets)
        losses = self.treatment(samples)
        for stage in self.later:
            proposals = _regressed(samples, ~truths, image_shapes)
            own, samples, truths = stage._train(features, proposals, image_shapes, targets)
            losses |= stage.treatment(samples) | own
        return [], {**losses, **others}

    def _detect(self, features, proposals, image_shapes):
        for stage in (self, *self.later[:-1]):
            proposals = stage.regress(features, proposals, image_shapes)
        proposals = self.later[-1].refined(features, proposals, image_shapes)
        handle = self.box_roi_pool.register_forward_hook(lambda m, x, output: setattr(self, "_pooled", output))
        self._inputs = features, image_shapes
        try:
            return RoIHeads.forward(self, features, proposals, image_shapes)
        finally:
            handle.remove()
            del self._inputs
            self.__dict__.pop("_pooled", None)

    def postprocess_detections(self, class_logits, box_regression, proposals, image_shapes):
        """All classifiers' scores, and the last regressor's boxes."""
        scores = [self.log_scores(class_logits)]
        for stage in self.later:
            pool, (features, shapes) = stage.box_roi_pool, self._inputs
            seen = stage.box_head(self._pooled if pool is self.box_roi_pool else pool(features, proposals, shapes))
            class_logits, box_regression = stage.box_predictor(seen)
            scores.append(stage.log_scores(class_logits))
        mean = torch.stack(scores).logsumexp(0) - math.log(len(scores))
        last = self.later[-1]
        last.score_thresh, last.nms_thresh = self.score_thresh, self.nms_thresh
        last.detections_per_img, last._seen = self.detections_per_img, seen
        try:
            return last.postprocess_detections(last.logits_of(mean), box_regression, proposals, image_shapes)
        finally:
            del last._seen


def filled(heads: RoIHeads, stages: Stage | tuple[Stage, ...]) -> tuple[Stage, ...]:
    """One stage for each head: one that is given to a cascade goes into all of its stages.

    There it leaves what it does not fill as the stage has it, and multiplies the weights of the losses. Raises
    ValueError for another number of stages than the cascade has.
    """
    own = getattr(heads, "own", None)
    if own is None:
        return stages if isinstance(stages, tuple) else (stages,)
    if isinstance(stages, tuple):
        if len(stages) != len(own):
            raise ValueError(f"expected one Stage, or {len(own)} as this cascade has, but got {len(stages)}")
        return stages
    given = {f.name: getattr(stages, f.name) for f in fields(stages) if getattr(stages, f.name) is not None}
    return tuple(replace(stage, **given | _products(stage, given)) for stage in own)


def _products(stage: Stage, given: dict) -> dict[str, float]:
    names = (name for name in ("cls_weight", "box_weight") if name in given and getattr(stage, name) is not None)
    return {name: given[name] * getattr(stage, name) for name in names}


def _another(head: RoIHeads) -> RoIHeads:
    """A box head with the same architecture and weights."""
    new = subclassed(head, RoIHeads)
    new.box_head, new.box_predictor = deepcopy((head.box_head, head.box_predictor))  # they may know one another
    if not isinstance(head.box_roi_pool, MultiScaleRoIAlign) or any(True for _ in head.box_roi_pool.children()):
        new.box_roi_pool = deepcopy(head.box_roi_pool)  # it may learn
    for name in _NOT_THE_BOXES:
        setattr(new, name, None)
    return new


def _regressed(samples: Samples, keep: Tensor, image_shapes: list[tuple[int, int]]) -> list[Tensor]:
    """The proposals of the next stage in training: within their image, without those that are nothing any more."""
    boxes, proposals = samples.predicted().detach(), []
    for i, shape in enumerate(image_shapes):
        inside = clip_boxes_to_image(boxes[keep & (samples.image == i)], shape)
        proposals.append(inside[remove_small_boxes(inside, _SMALLEST)])
    return proposals
