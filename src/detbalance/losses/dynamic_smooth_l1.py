"""A smooth L1 loss that turns linear ever earlier as the proposals get better."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..common import require, sum_over_ranks, widen
from ..taxonomy import Imbalance
from ..types import Samples

__all__ = ["DynamicSmoothL1Loss"]

_NOTHING = 1e-15


class DynamicSmoothL1Loss(nn.Module):
    """Smooth L1 whose `beta` follows the errors that are to be regressed: as proposals get better their small errors
    would hardly have a gradient, and a smaller beta gives it back to them.

    Zhang et al., Dynamic R-CNN, section 3.3 (dynamic smooth L1) and algorithm 1: of each batch the `top`-th smallest
    true code is recorded (the mean size of its two offsets; `top` times the number of images, as the authors' code has
    it); every `interval` steps beta becomes the median of the records, but never more than `initial`. A batch without
    positives records nothing. Over several processes a record is their mean. Goes with `assigners.DynamicAssigner`.

    Shapes: predicted (P, 4), target (P, 4) -> (P,). Identity: before the first change `SmoothL1Loss(beta=initial)`.
    Errors: ValueError for `initial` of 0 or less, `top` or `interval` below 1.

    >>> loss = DynamicSmoothL1Loss()
    >>> loss(torch.tensor([[0.5, -2.0, 0.0, 0.0]]), torch.zeros(1, 4))
    tensor([1.6250])
    >>> loss.beta.fill_(0.1)
    tensor(0.1000, dtype=torch.float64)
    >>> loss(torch.tensor([[0.5, -2.0, 0.0, 0.0]]), torch.zeros(1, 4))
    tensor([2.4000])
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.IOU_DISTRIBUTION, Imbalance.REGRESSION_LOSS)
    paper: ClassVar[str] = (
        "Zhang, Chang, Ma, Wang, Chen, Dynamic R-CNN: Towards High Quality Object Detection via Dynamic Training, "
        "ECCV 2020, arXiv:2004.06002, section 3.3"
    )
    bounds: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    space: ClassVar[str] = "code"

    beta: Tensor
    records: Tensor
    """of the steps since the last change; -1 where there was no positive"""
    steps: Tensor

    def __init__(self, *, initial: float = 1.0, top: int = 10, interval: int = 100) -> None:
        super().__init__()
        require(0 < initial < float("inf"), "initial", "greater than 0, and finite", initial)
        require(isinstance(top, int) and top >= 1, "top", "an integer of 1 or more", top)
        require(isinstance(interval, int) and interval >= 1, "interval", "an integer of 1 or more", interval)
        self.initial, self.top, self.interval = initial, top, interval
        self.register_buffer("beta", torch.tensor(initial, dtype=torch.float64))
        self.register_buffer("records", torch.full((interval,), -1.0, dtype=torch.float64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, predicted: Float[Tensor, "P 4"], target: Float[Tensor, "P 4"]) -> Float[Tensor, " P"]:
        error = (widen(predicted) - widen(target)).abs()
        beta = self.beta.to(error)
        # The quadratic branch is shown no large error: its square would overflow, and spoil the gradient.
        near = error.clamp(max=beta)
        return torch.where(error < beta, near * near / (2 * beta), error - beta / 2).sum(1)

    def after_step(self, samples: Samples) -> None:
        """Called once a step, with all that trained."""
        codes = samples.codes[samples.positive, :2].detach().double().abs().mean(1)
        images = int(samples.image.max()) + 1 if len(samples.image) else 0
        if len(codes):
            record = codes.kthvalue(min(self.top * images, len(codes))).values
            self.records[self.steps % self.interval] = record.to(self.records)
        self.steps += 1
        if self.steps % self.interval:
            return
        found = self.records >= 0
        total, count = sum_over_ranks(torch.stack((self.records.where(found, 0), found.double())))
        records = (total / count)[count > 0]
        if len(records) and (median := records.quantile(0.5)) >= _NOTHING:
            self.beta.copy_(median.clamp(max=self.initial))
        self.records.fill_(-1.0)

    def extra_repr(self) -> str:
        """The settings."""
        return f"initial={self.initial}, top={self.top}, interval={self.interval}"
