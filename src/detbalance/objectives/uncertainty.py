"""Uncertainty weighting: each task learns how noisy it is."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..taxonomy import Imbalance
from ._tasks import PLACES, Tasks

__all__ = ["UncertaintyWeighting"]

_BOXES = ("bbox_regression", "loss_box_reg", "loss_rpn_box_reg")


class UncertaintyWeighting(Tasks):
    """Learns the weight of each task together with the network: a task that cannot be made small counts as noisy and
    is turned down, and a term against large noise keeps it from being ignored.

    Kendall et al., eq. 7 and 10: a task of classification becomes L / sigma^2 + log sigma, one of regression
    L / (2 sigma^2) + log sigma. The parameters are s = log sigma^2, which needs no division; they start where every
    task weighs 1, so training begins as without. The sum of all log sigma is a loss of its own, "regularisation": it
    has no gradient in the network, and the other losses can be read as before. Losses that fall below zero (a ranking
    of likelihoods, say) would push sigma to 0; sigma^2 is kept above `floor`.

    In a loop of one's own: give the optimizer its parameters, too, without weight decay.

    Shapes: a dict of losses () -> the same names and "regularisation". Errors: ValueError for a floor of 0 or less.
    Identity: before the first step of the optimizer the named losses are unchanged.

    >>> UncertaintyWeighting()({"classification": torch.tensor(1.5)})["classification"].item()
    1.5
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.OBJECTIVE,)
    paper: ClassVar[str] = (
        "Kendall, Gal, Cipolla, Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and "
        "Semantics, CVPR 2018, arXiv:1705.07115"
    )

    log_variance: Tensor
    """s of each task, less where it starts"""

    def __init__(self, *, regression: tuple[str, ...] = _BOXES, floor: float = 1e-3) -> None:
        super().__init__()
        if not floor > 0:
            raise ValueError(f"floor must be greater than 0, but is {floor!r}")
        self.regression, self.floor = tuple(regression), floor
        self.log_variance = nn.Parameter(torch.zeros(PLACES))

    def forward(self, losses: dict[str, Float[Tensor, ""]]) -> dict[str, Float[Tensor, ""]]:
        """The weighted losses, and the term against noise."""
        if not losses:
            return {}
        free = self.log_variance[self.places(losses)]
        # A task of regression starts at sigma^2 = 1/2, where its weight 1 / (2 sigma^2) is 1.
        kinds = [name.rstrip("_0123456789") for name in losses]  # the stages of a cascade are numbered
        start = free.new_tensor([-math.log(2.0) if kind in self.regression else 0.0 for kind in kinds])
        variance = (free + start).clamp(min=math.log(self.floor), max=-math.log(self.floor))
        weights = torch.exp(start - variance)
        out = {name: loss * w for (name, loss), w in zip(losses.items(), weights)}
        return {**out, "regularisation": variance.sum() / 2}

    def extra_repr(self) -> str:
        """The settings."""
        return f"regression={self.regression}, floor={self.floor}"
