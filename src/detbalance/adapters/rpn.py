"""The proposal network of a two-stage detector with its training taken from a stage."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import box_iou

from ..recipe import Stage
from ..types import BACKGROUND, IGNORED, Candidates, Samples
from ..valid_ranges import without_invalid
from .remembered import remembered
from .stage import StageLoss, best_iou, check_matched, truth_of
from .two_stage import norm, smooth_l1, subclassed

__all__ = ["BalancedRPN"]


def _binary(logits: Tensor, target: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none")


class BalancedRPN(RegionProposalNetwork):
    """RegionProposalNetwork whose assignment, sampling, weights and losses come from a stage."""

    treatment: StageLoss

    @classmethod
    def of(cls, old: RegionProposalNetwork, stage: Stage, generator: torch.Generator | None) -> BalancedRPN:
        """Built from the old network's fields: same parameters, same state_dict keys."""
        new = subclassed(old, cls)
        new.treatment = StageLoss(
            stage,
            cls_loss=_binary,
            box_loss=smooth_l1,
            softmax=False,
            names=("loss_objectness", "loss_rpn_box_reg"),
            generator=generator,
            own_sampler=old.fg_bg_sampler,
        )
        return new

    def forward(self, images, features, targets=None):
        """As torchvision's, with the losses of the stage in training."""
        if not self.training:
            return super().forward(images, features, targets)
        self._sizes = [f.shape[-2] * f.shape[-1] for f in features.values()]
        self._targets = targets
        boxes, _ = super().forward(images, features, targets)
        del self._sizes, self._targets
        losses, learn = self.__dict__.pop("_losses"), getattr(self.anchor_generator, "losses", None)
        if learn is not None:
            losses |= {f"loss_{name}": value for name, value in learn(targets).items()}
        return boxes, losses

    def assign_targets_to_anchors(self, anchors, targets):
        """Keeps what the losses need; torchvision only carries the labels on."""
        per_place = self.anchor_generator.num_anchors_per_location()
        sizes = torch.tensor([s * a for s, a in zip(self._sizes, per_place)], device=anchors[0].device)
        level = torch.repeat_interleave(torch.arange(len(sizes), device=sizes.device), sizes)
        matched, iou = zip(*(self._match(b, t, level) for b, t in zip(anchors, targets)))
        matched = [without_invalid(m, b, t) for m, b, t in zip(matched, anchors, targets)]
        self._assigned = anchors, level, matched, iou
        truth = [truth_of(m, t["boxes"]) for m, t in zip(matched, targets)]
        # Background rows get their own anchor as truth: torchvision would encode zeros to infinities nobody reads.
        truth = [torch.where((m >= 0)[:, None], t, a) for m, t, a in zip(matched, truth, anchors)]
        return [(m >= 0).float() for m in matched], truth

    def _match(self, boxes: Tensor, target: dict, level: Tensor) -> tuple[Tensor, Tensor]:
        overlaps = box_iou(target["boxes"], boxes)
        iou = best_iou(overlaps, len(boxes))
        assign = self.treatment.assign
        if assign is not None:
            return check_matched(assign(boxes, target, level, None), len(boxes), len(target["boxes"]), assign), iou
        if not len(target["boxes"]):
            return torch.full((len(boxes),), BACKGROUND, device=boxes.device), iou
        return self.proposal_matcher(overlaps), iou

    def compute_loss(self, objectness, pred_bbox_deltas, labels, regression_targets):
        """Sample, weigh and take the losses."""
        anchors, level, matched, iou = self.__dict__.pop("_assigned")
        tables = [
            self._table(o, d, c, a, m, i, t, level)
            for o, d, c, a, m, i, t in zip(
                objectness.reshape(len(anchors), -1, 1),
                pred_bbox_deltas.reshape(len(anchors), -1, 4),
                regression_targets,
                anchors,
                matched,
                iou,
                self._targets,
            )
        ]
        if self.treatment.sample is None:
            positive, negative = self.fg_bg_sampler([torch.where(m == IGNORED, -1, (m >= 0).long()) for m in matched])
            chosen = [torch.where(p | n)[0] for p, n in zip(positive, negative)]
        else:
            rows = zip(tables, matched, self._targets)
            chosen = self.treatment.choose_all([self._candidates(*row) for row in rows])
        labels = torch.cat([t["labels"][rows] for t, rows in zip(tables, chosen)])
        self._losses = self.treatment(_join(tables, chosen, norm(self.treatment, labels, iou[0])))
        zero = objectness.new_zeros(())
        return zero, zero

    def _table(self, logits, deltas, codes, boxes, matched, iou, target, level) -> dict[str, Tensor]:
        return {
            "logits": logits,
            "labels": (matched >= 0).long(),
            "deltas": deltas,
            "codes": codes,
            "boxes": boxes,
            "truth": truth_of(matched, target["boxes"]),
            "iou": iou,
            "level": level,
            "matched": matched,
        }

    def _candidates(self, table: dict[str, Tensor], matched: Tensor, target: dict) -> Candidates:
        scores = predicted = None
        if self.treatment.needs_predictions:
            scores = table["logits"].detach().float().sigmoid()
            predicted = self.box_coder.decode_single(table["deltas"].detach().float(), table["boxes"])
        return Candidates(
            boxes=table["boxes"],
            matched=matched,
            iou=table["iou"],
            labels=table["labels"],
            scores=scores,
            predicted=predicted,
            level=table["level"],
            remembered=remembered(target),
            loss=lambda: self.treatment.candidate_loss(
                _join([table], [torch.arange(len(matched), device=matched.device)], matched.new_ones(1))
            ),
        )


def _join(tables: list[dict[str, Tensor]], chosen: list[Tensor], norm: Tensor) -> Samples:
    """One flat table of the chosen rows of each image. What only looks at losses averages nothing."""
    columns = {name: torch.cat([t[name][rows] for t, rows in zip(tables, chosen)]) for name in tables[0]}
    image = torch.cat([torch.full_like(rows, i) for i, rows in enumerate(chosen)])
    return Samples(**columns, image=image, norm=norm.to(columns["iou"]).expand(len(image)), softmax=False)
