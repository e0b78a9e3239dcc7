"""Distributional ranking loss."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..common import require, sum_over_ranks, widen, world_size
from ..taxonomy import Imbalance


@dataclass(frozen=True, kw_only=True)
class DRLoss:
    """Ranks two numbers an image in place of a hundred thousand candidates: the score of the worst positives must
    exceed that of the worst negatives by a margin, however many negatives there are.

    Qian et al.: over the distributions q- = softmax(p / lambda_neg) of the negatives' probabilities and
    q+ = softmax(-p / lambda_pos) of the positives',

        P- = sum q- p,  P+ = sum q+ p,  loss = tau / L log(1 + exp(L (P- - P+ + margin))),

    the mean over the images (`per_image`, as the abstract says; else one ranking over the batch, as the authors' code
    does with what it is given, over all processes too). An image without positives has P+ = 1: its negatives are still
    pushed down. One without negatives has P- = 0. The entries of other classes of a positive row are negatives.
    `per_class` (not in the paper) ranks each class for itself and adds the mean over the classes that have positives
    to the mean over those that have none, so that neither drowns the other. The gradient goes through q- and q+ too,
    as in the authors' code; `detach_weights` holds them fixed, as at the optimum of the regularised problem that the
    paper gets them from.

    Shapes: logits (S, C), target (S, C), groups (S,) the image of each row, None: one image -> ().
    Identity: one positive at p = 1 and negatives at 0 give tau / L log(1 + exp(-L (1 - margin))).
    Errors: ValueError for settings out of range.

    >>> DRLoss()(torch.tensor([[2.0], [-3.0], [-4.0]]), torch.tensor([[1.0], [0.0], [0.0]]))
    tensor(0.0790)
    """

    margin: float = 0.5
    lambda_pos: float = 1.0
    """temperature of the positives' distribution: smaller looks at the worst only"""
    lambda_neg: float = 0.1 / math.log(3.5)
    """temperature of the negatives' distribution"""
    sharpness: float = 6.0
    """L: how close the loss is to a hinge"""
    tau: float = 4.0
    """factor of the loss"""
    per_image: bool = True
    """rank within each image; else over the batch"""
    per_class: bool = False
    """rank within each class"""
    detach_weights: bool = False
    """no gradient through the distributions"""

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FOREGROUND_BACKGROUND,)
    paper: ClassVar[str] = (
        "Qian et al., DR Loss: Improving Object Detection by Distributional Ranking, CVPR 2020, arXiv:1907.10156"
    )
    bounds: ClassVar[tuple[float, float]] = (0.0, 6.0001)
    target_kind: ClassVar[str] = "onehot"
    softmax: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name in ("lambda_pos", "lambda_neg", "sharpness", "tau"):
            require(0 < getattr(self, name) < math.inf, name, "greater than 0", getattr(self, name))

    def __call__(
        self, logits: Float[Tensor, "S C"], target: Float[Tensor, "S C"], groups: Tensor | None = None
    ) -> Float[Tensor, ""]:
        score, positive = widen(logits).sigmoid(), target > 0
        image, images = self._images(groups, score)
        count = self._count(positive, image, images)
        some = count > 0
        rows = positive.any(1).nonzero().squeeze(1)  # few
        high = self._expected(score[rows], positive[rows], -1 / self.lambda_pos, image[rows], images)
        low = self._expected(score, ~positive, 1 / self.lambda_neg, image, images)
        gap = low - high.where(some, 1) + self.margin
        losses = self.tau / self.sharpness * F.softplus(self.sharpness * gap)
        # Without classes apart there is one column, and one of these two means.
        losses = _mean(losses, some) + _mean(losses, ~some)
        if not self.per_image:  # the same value in every process, with the gradient of its own rows
            return losses.sum() + (world_size() - 1) * (losses.sum() - losses.sum().detach())
        total = sum_over_ranks(score.new_tensor(images)) / world_size()
        return losses.sum() / total.clamp(min=1 / world_size())

    def _images(self, groups: Tensor | None, score: Tensor) -> tuple[Tensor, int]:
        """The number of each row's image, and how many there are."""
        if groups is None or not self.per_image:
            number = 1 if not self.per_image else min(1, len(score))
            return torch.zeros(len(score), dtype=torch.long, device=score.device), number
        found, image = groups.unique(return_inverse=True)
        return image, len(found)

    def _count(self, positive: Tensor, image: Tensor, images: int) -> Tensor:
        """(images, C or 1) how many positives there are."""
        rows = positive if self.per_class else positive.sum(1, keepdim=True)
        count = torch.zeros(images, rows.shape[1], dtype=torch.long, device=image.device)
        return self._shared(count.index_add_(0, image, rows.long()))

    def _expected(self, score: Tensor, chosen: Tensor, factor: float, image: Tensor, images: int) -> Tensor:
        """(images, C or 1) the mean score of the chosen entries under their distribution; 0 where there are none."""
        exponent = (factor * score).masked_fill(~chosen, -torch.inf)
        with torch.no_grad():
            rows = exponent if self.per_class else exponent.amax(1, keepdim=True)
            top = rows.new_full((images, rows.shape[1]), -torch.inf)
            top = top.scatter_reduce(0, image[:, None].expand_as(rows), rows, "amax")
            if not self.per_image and world_size() > 1:
                dist.all_reduce(top, dist.ReduceOp.MAX)
            top = top.where(top > -torch.inf, 0)[image]
        weight = (exponent - top).exp()
        if self.detach_weights:
            weight = weight.detach()
        whole, part = (self._total(table, image, images) for table in (weight, weight * score))
        return (part / whole.where(whole > 0, 1)).to(score.dtype)

    def _total(self, table: Tensor, image: Tensor, images: int) -> Tensor:
        rows = (table if self.per_class else table.sum(1, keepdim=True)).double()  # a million small numbers
        return self._shared(rows.new_zeros(images, rows.shape[1]).index_add(0, image, rows))

    def _shared(self, total: Tensor) -> Tensor:
        """The total over all processes where they rank together, with the gradient of the own rows."""
        if self.per_image or world_size() == 1:
            return total
        return total + (sum_over_ranks(total.detach()) - total.detach())


def _mean(losses: Tensor, chosen: Tensor) -> Tensor:
    """(images,) the mean of the chosen entries of each row; 0 where there are none."""
    return losses.where(chosen, 0).sum(1) / chosen.sum(1).clamp(min=1)
