"""One stage of a detector, whatever the detector: weigh the samples, take the losses. Shared by every adapter."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..boxes import paired_iou
from ..common import sum_over_ranks, world_size
from ..recipe import Stage
from ..types import BACKGROUND, IGNORED, Candidates, Samples

__all__ = ["StageLoss", "best_iou", "in_float32", "mean_over_ranks", "objectness_biases", "set_prior"]


class StageLoss(nn.Module):
    """The losses of one head with a stage's parts in the slots that it fills, and the detector's own in the others.

    A module, so that stateful parts (momentum, gradient statistics) go with the checkpoint; a stage without them adds
    no key to the state_dict. The stage is copied: two models never share state.

    Args:
        stage: the parts.
        cls_loss, box_loss: the detector's own, for empty slots.
        softmax: does the head predict a softmax with the background in column 0?
        names: of the class loss and the box loss in the detector's dict of losses.
        generator: for the sampler; None is torch's global one.
        own_sampler: torchvision's sampler of this head, which says how many rows where the stage's does not.
    """

    def __init__(
        self,
        stage: Stage,
        *,
        cls_loss: Callable,
        box_loss: Callable,
        softmax: bool,
        names: tuple[str, str],
        generator: torch.Generator | None = None,
        own_sampler: Any = None,
    ) -> None:
        super().__init__()
        stage = deepcopy(stage)
        self.assign, self.joint_loss = stage.assign, stage.joint_loss
        self.sample = _sized(stage.sample, own_sampler)
        self.cls_loss = cls_loss if stage.cls_loss is None else stage.cls_loss
        self.box_loss = box_loss if stage.box_loss is None else stage.box_loss
        self.weigh = _as_tuple(stage.weigh)
        self.stateful = nn.ModuleList(part for part in self.weigh if isinstance(part, nn.Module))
        self.cls_weight = 1.0 if stage.cls_weight is None else stage.cls_weight
        self.box_weight = 1.0 if stage.box_weight is None else stage.box_weight
        self.box_generator, self.refine, self.suppress = stage.box_generator, stage.refine, stage.suppress
        self.softmax, self.names, self.generator = softmax, names, generator
        self.observers: list[Callable[[StageLoss, Samples, dict[str, Tensor], dict[str, Any]], None]] = []
        """called with (self, samples, losses, rows) once the losses are taken; `rows` has, by the name of a loss, the
        (values, weights) of its rows (of the positive ones in the box loss); a loss that ranks a set is not in it"""
        if getattr(self.suppress, "needs_deviations", False) and not self.learns_variance:
            raise ValueError(f"{self.suppress!r} needs a box_loss that learns deviations, such as losses.KLLoss")
        declared = getattr(self.cls_loss, "softmax", softmax)
        if bool(declared) != softmax:
            kinds = {True: "softmax with the background in column 0", False: "one sigmoid a class"}
            raise ValueError(
                f"cls_loss {self.cls_loss!r} works on {kinds[not softmax]}, but this head predicts {kinds[softmax]}"
            )
        self._takes_groups = "groups" in _parameters(self.cls_loss)

    @property
    def learns_variance(self) -> bool:
        """Is the variance of each box learnt beside it?"""
        return bool(getattr(self.box_loss, "needs_log_variance", False))

    @property
    def needs_predictions(self) -> bool:
        """Does the sampler look at the present predictions?"""
        return bool(getattr(self.sample, "needs_predictions", False))

    @property
    def normalised_by_positives(self) -> bool:
        """Is the average taken over the positives, not over all that train?

        A sampler's `average_over` says it: "samples" (the default; Faster R-CNN divides the losses of class and box
        alike by the number that it drew) or "positives" (where every candidate trains, or so many a positive: SSD).
        """
        return getattr(self.sample, "average_over", "samples") == "positives"

    def choose(self, candidates: Candidates) -> Tensor:
        """Rows of the candidates that train."""
        if self.sample is None:
            return (candidates.matched != IGNORED).nonzero().squeeze(1)
        return self.sample(candidates, self.generator)

    def choose_all(self, candidates: list[Candidates]) -> list[Tensor]:
        """Rows that train of each image of the batch; a sampler with a method `sample_batch` sees all at once."""
        whole = getattr(self.sample, "sample_batch", None)
        return [self.choose(c) for c in candidates] if whole is None else whole(candidates, self.generator)

    def class_rows(self, samples: Samples) -> Tensor:
        """The class loss of each row (S,), or () from a loss that ranks a set."""
        target = samples.onehot()
        if getattr(self.cls_loss, "target_kind", "onehot") == "iou":
            target = target * paired_iou(samples.predicted().detach(), samples.truth)[:, None]
        if hasattr(self.cls_loss, "soften"):
            target = _softened(target, self.cls_loss.soften(samples), self.softmax)
        groups = (samples.image,) if self._takes_groups else ()
        values = self.cls_loss(samples.logits, target, *groups)
        return values.sum(1) if values.dim() == 2 else values

    def box_rows(self, samples: Samples, rows: Tensor) -> Tensor:
        """The box loss of the given positive rows."""
        if getattr(self.box_loss, "space", "code") == "code":
            learnt = samples.log_variance if self.learns_variance else None
            more = () if learnt is None else (learnt[rows],)
            return self.box_loss(samples.deltas[rows], samples.codes[rows], *more)
        decode = samples.decode
        deltas, boxes = samples.deltas[rows], samples.boxes[rows]
        if decode is None:
            predicted = replace(samples, deltas=deltas, boxes=boxes).predicted()
        else:
            predicted = decode(deltas, boxes)
        return self.box_loss(predicted, samples.truth[rows])

    def candidate_loss(self, samples: Samples) -> Tensor:
        """The present loss, class and box, of every row; no gradient. What hard example mining ranks by."""
        with torch.no_grad():
            loss = self.class_rows(samples)
            if loss.dim() == 0:
                raise ValueError(f"{self.cls_loss!r} ranks a set and gives no loss of its own to each candidate")
            rows = samples.positive.nonzero().squeeze(1)
            return (loss * self.cls_weight).index_add(0, rows, self.box_rows(samples, rows) * self.box_weight)

    def forward(self, samples: Samples) -> dict[str, Tensor]:
        """The named losses of the batch."""
        with torch.autocast(samples.logits.device.type, enabled=False):
            samples = in_float32(samples)
            classified = regressed = samples
            if samples.generated is not None:
                classified, regressed = samples.take(~samples.generated), samples.take(samples.generated)
            if self.joint_loss is not None:
                names = dict(zip(("classification", "bbox_regression"), self.names))
                losses = {names.get(name, name): value for name, value in self.joint_loss(classified).items()}
                return self._shown(classified, losses, {})
            values = self.class_rows(classified)
            if values.dim() and classified is regressed:
                samples = classified = regressed = replace(samples, loss=values.detach)
            elif values.dim():
                classified = replace(classified, loss=values.detach)
            class_factor, box_factor = self._factors(classified)
            if classified is not regressed:
                box_factor = self._factors(regressed, kinds=("box",))[1]
            parts: dict[str, tuple[Tensor, Tensor]] = {}
            if values.dim():
                class_norm = classified.norm if class_factor is None else classified.norm * class_factor
                parts[self.names[0]] = values, class_norm * self.cls_weight
                values = (values * class_norm).sum()
            elif class_factor is not None:
                raise ValueError(f"{self.cls_loss!r} ranks a set: its rows cannot be weighed by {self.weigh!r}")
            rows = regressed.positive.nonzero().squeeze(1)
            box_norm = regressed.norm if box_factor is None else regressed.norm * box_factor
            box = self.box_rows(regressed, rows)
            parts[self.names[1]] = box, box_norm[rows] * self.box_weight
            box = (box * box_norm[rows]).sum()
            losses = {self.names[0]: values * self.cls_weight, self.names[1]: box * self.box_weight}
            if samples.generated is not None:
                own = dict(zip(self.names, (~samples.generated, samples.generated[samples.positive])))
                parts = {name: tuple(_spread(part, own[name]) for part in pair) for name, pair in parts.items()}
            return self._shown(samples, losses, parts)

    def _shown(self, samples: Samples, losses: dict[str, Tensor], rows: dict[str, Any]) -> dict[str, Tensor]:
        """The losses, once the parts with statistics of their own and the observers have seen them."""
        for part in (self.assign, self.box_loss) if self.training else ():
            if hasattr(part, "after_step"):
                part.after_step(samples)
        for observer in self.observers:
            observer(self, samples, losses, rows)
        return losses

    def _factors(
        self, samples: Samples, kinds: tuple[str, ...] = ("class", "box")
    ) -> tuple[Tensor | None, Tensor | None]:
        """The products of the weights for the class loss and for the box loss; None where there are none."""
        factors: dict[str, Tensor | None] = {"class": None, "box": None}
        for part in self.weigh:
            applies_to = getattr(part, "applies_to", "class")
            if applies_to not in (*kinds, "both"):
                continue
            weights = part(samples)
            for kind, sofar in factors.items():
                if applies_to in (kind, "both"):
                    factors[kind] = weights if sofar is None else sofar * weights
        return factors["class"], factors["box"]


def _spread(values: Tensor, rows: Tensor) -> Tensor:
    """The values at the marked rows, zero at the others."""
    return torch.zeros_like(rows, dtype=values.dtype).index_put((rows,), values)


def _softened(target: Tensor, share: Tensor, softmax: bool) -> Tensor:
    """A target that shows objects in part; under softmax the rest is background."""
    if not softmax:
        return target * share[:, None]
    objects = target[:, 1:] * share[:, None]
    return torch.cat((1 - objects.sum(1, keepdim=True), objects), 1)


def in_float32(samples: Samples) -> Samples:
    """Samples with at least float32 numbers, whatever autocast made of them."""
    names = ("logits", "deltas", "codes", "boxes", "truth", "iou", "norm", "log_variance")
    given = {n: t for n in names if (t := getattr(samples, n)) is not None}
    low = {n: t.float() for n, t in given.items() if t.dtype in (torch.float16, torch.bfloat16)}
    return replace(samples, **low) if low else samples


def best_iou(matrix: Tensor, candidates: int) -> Tensor:
    """The largest IoU of each candidate, given a (G, N) matrix; zeros without ground truth."""
    return matrix.amax(0) if matrix.shape[0] else matrix.new_zeros(candidates)


def mean_over_ranks(count: Tensor) -> Tensor:
    """A normaliser averaged over the processes of a distributed run, so that N processes equal one."""
    return sum_over_ranks(count) / world_size()


def set_prior(bias: Tensor, prior: float | str, *, softmax: bool) -> None:
    """Start a classifier's bias where the foreground has probability `prior` (Lin et al. 2017, section 4.1).

    Under softmax the classes share `prior` evenly and column 0 (background) holds the rest. "data" leaves the bias as
    it is until the data is known: see `priors.set_from_data`.
    """
    if prior == "data":
        return
    odds = math.log((1 - prior) / prior)
    with torch.no_grad():
        if softmax:
            bias.zero_()
            bias[0] = odds + math.log(len(bias) - 1)
        else:
            bias.fill_(-odds)


def objectness_biases(head: nn.Module) -> list[Tensor]:
    """The biases of the last layer that scores, in a head of one-stage detectors or of proposal networks: one, or one
    for each level."""
    heads = (head, *getattr(head, "further", ()))
    return [getattr(h, "classification_head", h).cls_logits.bias for h in heads]


def labels_of(matched: Tensor, labels: Tensor) -> Tensor:
    """The class of each candidate, 0 for background and ignored ones."""
    if not len(labels):
        return torch.zeros_like(matched)
    return torch.where(matched >= 0, labels[matched.clamp(min=0)], 0)


def truth_of(matched: Tensor, boxes: Tensor) -> Tensor:
    """The ground truth of each candidate; zeros for background and ignored ones."""
    if not len(boxes):
        return boxes.new_zeros(len(matched), 4)
    return torch.where((matched >= 0)[:, None], boxes[matched.clamp(min=0)], 0)


def check_matched(matched: Tensor, candidates: int, truths: int, assigner: Callable) -> Tensor:
    """What an assigner of the user's own returned. Raises ValueError if it cannot be what it should be."""
    if matched.shape != (candidates,) or matched.dtype != torch.int64:
        raise ValueError(f"{assigner!r}: expected ({candidates},) int64 but got {tuple(matched.shape)} {matched.dtype}")
    if candidates and not (int(matched.min()) >= IGNORED and int(matched.max()) < max(truths, BACKGROUND + 1)):
        raise ValueError(f"{assigner!r}: expected rows in -2..{truths - 1} but got {matched.min()}..{matched.max()}")
    return matched


def _sized(sampler: Callable | None, own: Any) -> Callable | None:
    """The sampler with the detector's own numbers where its `count` or `positive_fraction` is None."""
    numbers = {"count": "batch_size_per_image", "positive_fraction": "positive_fraction"}
    open_ = {name: field for name, field in numbers.items() if getattr(sampler, name, 0) is None}
    if not open_:
        return sampler
    if own is None:
        raise ValueError(f"{sampler!r}: this head samples nothing by itself, so {' and '.join(open_)} must be given")
    return replace(sampler, **{name: getattr(own, field) for name, field in open_.items()})


def _as_tuple(part: Callable | tuple[Callable, ...] | None) -> tuple[Callable, ...]:
    if part is None:
        return ()
    return tuple(part) if isinstance(part, (tuple, list)) else (part,)


def _parameters(function: Callable) -> tuple[str, ...]:
    target = function.forward if isinstance(function, nn.Module) else function
    try:
        return tuple(inspect.signature(target).parameters)
    except (TypeError, ValueError):  # built-in functions have no signature
        return ()
