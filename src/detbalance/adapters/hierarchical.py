"""The training of the hierarchical shot head: each part learns from the boxes that it will see in detection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import torch
from torch import Tensor

from ..assigners import MaxIoUAssigner
from ..heads import HierarchicalShot
from ..tables import highest_iou
from ..types import IGNORED, Samples
from ..valid_ranges import without_invalid
from .dense import DenseLoss
from .stage import in_float32, labels_of

__all__ = ["hierarchical_losses"]


def hierarchical_losses(
    treatment: DenseLoss,
    head: HierarchicalShot,
    targets: list[dict[str, Tensor]],
    outputs: dict[str, Tensor],
    anchors: list[Tensor],
    match: Callable[[int, Tensor], Tensor],
) -> dict[str, Tensor]:
    """The four losses: first regression and objectness; second regression and classes, which are the stage's.

    The stage's assigner, or the detector's own matching, is that of the anchors; those of the regressed boxes are by
    IoU. Samplers, weights and losses of the stage see the second part; the first regression has the box loss, too.
    """
    level = treatment.level(anchors[0].device)
    once = [treatment.decode(d.detach(), a) for d, a in zip(outputs["first_regression"], anchors)]
    twice = [treatment.decode(d.detach(), b) for d, b in zip(outputs["second_regression"], once)]

    found = [treatment.match(outputs, a, t, i, level, match) for i, (a, t) in enumerate(zip(anchors, targets))]
    at_first = torch.stack([without_invalid(m, a, t) for (m, _), a, t in zip(found, anchors, targets)])
    own = {"first_regression": _first_regression(treatment, outputs, anchors, targets, at_first, level)}

    seen, _ = _by_iou(once, targets, head.first)
    labels = torch.stack([labels_of(m, t["labels"]) for m, t in zip(seen, targets)])
    screened, objectness = head.supervise(outputs, seen, labels, treatment.average((seen >= 0).sum(1)))

    second = {"cls_logits": outputs["cls_logits"], "bbox_regression": outputs["second_regression"]}
    classes, iou = _by_iou(twice, targets, head.classified)
    # What the objectness has filtered as background is no background to the classes, either.
    classes = torch.where((screened == IGNORED) & (seen != IGNORED) & (classes < 0), IGNORED, classes)
    classes = treatment.sampled(second, once, targets, list(classes), list(iou), level)
    regressed, iou_once = _by_iou(once, targets, head.regressed)
    regressed = torch.where(regressed >= 0, regressed, IGNORED)
    table = _joined(
        treatment.table(second, once, targets, torch.stack(classes), iou, level),
        treatment.table(second, once, targets, regressed, iou_once, level),
    )
    return {**treatment(table), **own, **objectness}


def _by_iou(boxes: list[Tensor], targets: list[dict[str, Tensor]], threshold: float) -> tuple[Tensor, Tensor]:
    """(B, N) what each box shows, by one threshold; an object's best box shows it anyhow. And its highest IoU."""
    assign = MaxIoUAssigner(positive=threshold, negative=threshold)
    matched = torch.stack([without_invalid(assign(b, t), b, t) for b, t in zip(boxes, targets)])
    return matched, torch.stack([highest_iou(t["boxes"].to(b.dtype), b) for b, t in zip(boxes, targets)])


def _first_regression(treatment: DenseLoss, outputs, anchors, targets, matched: Tensor, level: Tensor) -> Tensor:
    """The box loss of the anchors' own codes."""
    first = {"cls_logits": outputs["objectness"], "bbox_regression": outputs["first_regression"]}
    positive = torch.where(matched >= 0, matched, IGNORED)
    with torch.autocast(matched.device.type, enabled=False):
        samples = treatment.table(
            first, anchors, targets, positive, torch.zeros_like(matched, dtype=torch.float32), level
        )
        norm = treatment.average((matched >= 0).sum(1))[samples.image]
        samples = in_float32(replace(samples, norm=norm))
        rows = torch.arange(len(samples.labels), device=matched.device)
        return (treatment.box_rows(samples, rows) * samples.norm).sum() * treatment.box_weight


def _joined(classified: Samples, regressed: Samples) -> Samples:
    """One table: the rows that train the classes, and behind them those that train the box alone."""
    columns = [f.name for f in fields(Samples) if isinstance(getattr(classified, f.name), Tensor)]
    both = {name: torch.cat((getattr(classified, name), getattr(regressed, name))) for name in columns}
    order = torch.arange(len(both["labels"]), device=both["labels"].device)
    return replace(classified, **both, generated=order >= len(classified.labels))
