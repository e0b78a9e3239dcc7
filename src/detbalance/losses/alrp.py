"""Average localisation-recall-precision loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..common import require, widen
from ..taxonomy import Imbalance
from ..types import Samples
from ._ranking import Ramps, Ranking, check_delta, driven
from .giou import GIoULoss

_FEW = 1e-5
"""false positives that are none (the authors' eps)"""


class ALRPLoss(nn.Module):
    """One ranking loss for class and box together: average LRP over the positives, so that high scores go with well
    placed boxes, and the two tasks need no weight between them.

    Oksuz et al., aLRP: with E_k the box error of positive k, the loss is the mean over positives i of

        (FP_i + sum over k of E_k H(x_k - x_i)) / rank_i, itself taken whole.

    FP_i / rank_i is the class part, ranked as in `APLoss`; its error-driven update is the class part plus the box
    errors of the other positives above i. The box part takes H as the step that it is by definition, rank_i held
    fixed: positives that stand above others count more. Two of the same score stand above each other (the authors'
    code sorts them somehow). Positives with less than 1e-5 false positives give no update, as in that code.

    Self-balancing: the box part is multiplied by (class + box) / box, the means of the last `period` steps (the
    paper: an epoch), and by `start` before. `train` says how long an epoch is; in a loop of your own say it yourself,
    or it is the authors' 3665 steps, COCO in batches of 32. The box error is GIoU's loss, 1 - GIoU: half of it lies in
    [0, 1], and LRP divides by 1 - 0.5.

    Exact, in O((P + N) log P) time and linear memory. Without positives: 0, with zero gradient, as in that code. Over
    several processes it is the loss of all of their rows. `per_class` (not in the paper) ranks within each class and
    takes the mean over the classes that have positives. In a softmax head, the logit of a class less that of the
    background is ranked; the paper has sigmoid heads only.

    Shapes: samples of S rows -> {"classification": (), "bbox_regression": ()}. Not averaged by `norm`.
    Identity: with perfect boxes and without ties, the class part is `APLoss(interpolated=False)`.
    Errors: ValueError for a delta, period or start out of range.

    >>> from detbalance.types import Samples
    >>> box, number = torch.tensor([[0.0, 0, 10, 10]]).expand(3, 4), torch.zeros(3).long()
    >>> logits = torch.tensor([[0.0, 2.0], [0.0, 1.5], [0.0, -3.0]])
    >>> one = Samples(logits=logits, labels=torch.tensor([0, 1, 0]), deltas=box * 0, codes=box * 0, boxes=box,
    ...     truth=box + 1, iou=torch.ones(3), image=number, level=number, norm=torch.ones(3))
    >>> ALRPLoss(start=1)(one)
    {'classification': tensor(0.4286), 'bbox_regression': tensor(0.1919)}
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FOREGROUND_BACKGROUND, Imbalance.OBJECTIVE)
    paper: ClassVar[str] = (
        "Oksuz et al., A Ranking-based, Balanced Loss Function Unifying Classification and Localisation in Object "
        "Detection, NeurIPS 2020, arXiv:2009.13592"
    )
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)  # of the class part; the box part is scaled to it

    weight: Tensor
    """of the box part, now"""
    sums: Tensor
    """of the class part and the box part since the weight was set"""
    steps: Tensor
    """since then"""

    def __init__(
        self,
        *,
        delta: float = 1.0,
        per_class: bool = False,
        box_loss: Callable | None = None,
        period: int | None = None,
        start: float = 50.0,
    ):
        super().__init__()
        check_delta(delta)
        require(period is None or period >= 1, "period", "1 or greater", period)
        require(0 < start < float("inf"), "start", "greater than 0", start)
        space = getattr(box_loss, "space", "xyxy")
        require(space == "xyxy", "box_loss", "a loss of boxes, space 'xyxy'", box_loss)
        self.delta, self.per_class, self.period, self.epoch = delta, per_class, period, 3665
        self.box_loss = GIoULoss() if box_loss is None else box_loss
        self.register_buffer("weight", torch.tensor(float(start)))
        self.register_buffer("sums", torch.zeros(2))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, samples: Samples) -> dict[str, Tensor]:
        """Both parts, the box part balanced."""
        logits, target = widen(samples.logits), samples.onehot()
        if samples.softmax:
            logits, target = logits[:, 1:] - logits[:, :1], target[:, 1:]
        rows = samples.positive.nonzero().squeeze(1)
        chosen = replace(samples, deltas=samples.deltas[rows], boxes=samples.boxes[rows])
        error = widen(self.box_loss(chosen.predicted(), samples.truth[rows]))
        value, box, share, gradient = self._update(logits.detach(), target, error.detach())
        # The value of the box part is that of all processes, its gradient that of the own boxes.
        own = (share * error).sum()
        return {
            "classification": driven(logits, value, gradient),
            "bbox_regression": self._balance(value, box) * (own + (box.to(own.dtype) - own.detach())),
        }

    @torch.compiler.disable
    @torch.no_grad()
    def _update(self, logits: Tensor, target: Tensor, error: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The class part, the box part, the factor of each own box error in it, the gradient of the class part."""
        ranking = Ranking(logits, target, delta=self.delta, per_class=self.per_class)
        if not len(ranking.x):
            return logits.new_zeros(()), error.new_zeros(()), error, torch.zeros_like(logits)
        errors = ranking.gather(error.double())
        false, share = ranking.false_positives(), ranking.shares()
        rank = 1 - ranking.itself + ranking.true_positives() + false
        badness = ranking.true_positives(errors) - ranking.itself * errors + false
        update = share * badness / rank * (false > _FEW)
        gradient = ranking.gradient(-update, update / false.clamp(min=_FEW))
        factor = self._box_factors(ranking, share / rank)
        own = factor[ranking.mine] * len(ranking.counts)
        return (share * false / rank).sum(), (factor * errors).sum(), own.to(error.dtype), gradient

    def _box_factors(self, ranking: Ranking, weight: Tensor) -> Tensor:
        """(P,) the sum of the weights of the positives at or below each."""
        steps = ranking.ramps
        if self.delta:
            groups = 1 if ranking.group is None else ranking.table.shape[1]
            steps = Ramps(ranking.x, 0, ranking.group, groups)
        return steps.below(weight, ranking.x, steps.place(ranking.x, ranking.group))

    def _balance(self, value: Tensor, box: Tensor) -> Tensor:
        """The present weight of the box part; then the statistics for the next."""
        present = self.weight.clone()
        if self.training and torch.is_grad_enabled():  # not when somebody merely looks at the loss
            self.sums += torch.stack((value, box)).to(self.sums)
            self.steps += 1
            done = (self.steps >= (self.period or self.epoch)) & (self.sums[1] > 0)
            ratio = self.sums.sum() / self.sums[1].clamp(min=1e-12)
            self.weight.copy_(torch.where(done, ratio, self.weight))
            self.sums *= ~done
            self.steps *= ~done
        return present

    def set_epoch_length(self, steps: int) -> None:
        """Steps of an epoch: the period, unless one was given."""
        self.epoch = steps

    def extra_repr(self) -> str:
        """The settings."""
        return f"delta={self.delta}, per_class={self.per_class}, period={self.period}"
