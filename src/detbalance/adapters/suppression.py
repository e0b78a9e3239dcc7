"""Another suppression in a one-stage detector: torchvision's own steps of detection, but for the last."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torchvision.models.detection.ssd import SSD
from torchvision.ops import clip_boxes_to_image

from .variance import deviations

__all__ = ["attach_suppression"]


def attach_suppression(model: nn.Module) -> None:
    """Let the detector suppress as its treatment's stage says."""
    # A partial and not a method: a method of no class could not be pickled, nor sent to another process.
    model.postprocess_detections = partial(_detect, model)


def _detect(model: nn.Module, outputs: dict, anchors: list, shapes: list[tuple[int, int]]) -> list[dict[str, Tensor]]:
    candidates = _best_of_classes if isinstance(model, SSD) else _best_of_levels
    found = []
    for i, shape in enumerate(shapes):
        rows = candidates(model, outputs, anchors[i], i)
        boxes = clip_boxes_to_image(model.treatment.decode(rows["deltas"], rows["anchors"]), shape)
        sure = rows.get("log_variance")
        if sure is not None:
            sure = deviations(sure, rows["anchors"], model.treatment.code_weights)
        options = {"iou": model.nms_thresh, "limit": model.detections_per_img}
        boxes, kept = model.treatment.suppress(boxes, rows["scores"], rows["labels"], sure, **options)
        boxes = clip_boxes_to_image(boxes, shape)
        found.append({"boxes": boxes, "scores": rows["scores"][kept], "labels": rows["labels"][kept]})
    return found


def _best_of_levels(model: nn.Module, outputs: dict[str, list[Tensor]], anchors: list[Tensor], i: int) -> dict:
    """RetinaNet and FCOS: the best pairs of an anchor and a class of each level."""
    parts = []
    for level, boxes in enumerate(anchors):
        own = {name: values[level][i] for name, values in outputs.items()}
        scores = own["cls_logits"].sigmoid()
        if "bbox_ctrness" in own:
            scores = (scores * own["bbox_ctrness"].sigmoid()).sqrt()
        parts.append(_rows(own, boxes, scores, *_best(model, scores.flatten())))
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _best_of_classes(model: nn.Module, outputs: dict[str, Tensor], anchors: Tensor, i: int) -> dict:
    """SSD: the best anchors of each class."""
    own = {name: values[i] for name, values in outputs.items()}
    scores = own["cls_logits"].softmax(-1)
    parts = []
    for label in range(1, scores.shape[1]):
        values, row = _best(model, scores[:, label])
        parts.append(_rows(own, anchors, scores, values, row * scores.shape[1] + label))
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _best(model: nn.Module, scores: Tensor) -> tuple[Tensor, Tensor]:
    """The best scores above the threshold, and their rows."""
    rows = (scores > model.score_thresh).nonzero().squeeze(1)
    values, order = scores[rows].topk(min(model.topk_candidates, len(rows)))
    return values, rows[order]


def _rows(own: dict[str, Tensor], anchors: Tensor, scores: Tensor, values: Tensor, pair: Tensor) -> dict[str, Tensor]:
    """What suppression asks of the chosen pairs; `pair` counts through the classes of an anchor first."""
    row = pair.div(scores.shape[1], rounding_mode="floor")
    chosen = {"scores": values, "labels": pair % scores.shape[1], "anchors": anchors[row]}
    chosen["deltas"] = own["bbox_regression"][row]
    if "log_variance" in own:
        chosen["log_variance"] = own["log_variance"][row]
    return chosen
