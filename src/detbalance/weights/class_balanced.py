"""Class weights: rare classes count more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..common import widen
from ..losses._counts import Counted
from ..taxonomy import Imbalance
from ..types import Samples

__all__ = ["ClassBalancedWeights"]


class ClassBalancedWeights(Counted):
    """Weighs the rows of an object by how rare its class is, so that rare classes are heard, with any class loss.

    Without `beta` by inverse frequency, w_c ~ 1 / n_c; with it by the inverse effective number of objects (Cui et al.,
    equation 4), w_c ~ (1 - beta) / (1 - beta^n_c). Background rows weigh 1. The weights are scaled to a mean of 1, over
    the objects of the data by default: so the loss of the foreground stays as large, against the background and the box
    loss, as it was; `mean="classes"` is the paper's (sum C over C classes), which shrinks it on skewed data. A class
    without objects counts as one with a single object.

    Shapes: samples of S rows -> (S,), detached.
    Identity: with equal counts, or beta = 0, every weight is 1.

    >>> [round(w, 3) for w in ClassBalancedWeights(counts=(0, 900, 100)).table().tolist()]
    [1.0, 0.556, 5.0]
    >>> [round(w, 3) for w in ClassBalancedWeights(counts=(0, 900, 100), beta=0.99, mean="classes").table().tolist()]
    [1.0, 0.776, 1.224]
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FOREGROUND_FOREGROUND,)
    paper: ClassVar[str] = (
        "Cui, Jia, Lin, Song, Belongie, Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019, "
        "arXiv:1901.05555, eq. 4"
    )

    def __init__(
        self,
        *,
        counts: Sequence[int] | None,
        beta: float | None = None,
        mean: str = "objects",
        applies_to: str = "class",
    ) -> None:
        super().__init__(counts)
        if beta is not None and not 0 <= beta < 1:
            raise ValueError(f"beta must be in [0, 1), or None, got {beta!r}")
        for name, value, allowed in (
            ("mean", mean, ("objects", "classes")),
            ("applies_to", applies_to, ("class", "box", "both")),
        ):
            if value not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, got {value!r}")
        self.beta, self.mean, self.applies_to = beta, mean, applies_to

    def table(self) -> Float[Tensor, " C"]:
        """The weight of each class, column 0 the background."""
        number = self.needed(len(self.counts))[1:].double().clamp(min=1)
        if self.beta is None:
            raw = 1 / number
        else:  # expm1: for beta near 1 the difference from 1 would be lost
            raw = (1 - self.beta) / -torch.expm1(number * torch.log(torch.tensor(self.beta).double()))
        share = number / number.sum() if self.mean == "objects" else torch.full_like(number, 1 / len(number))
        return torch.cat((raw.new_ones(1), raw / (raw * share).sum()))

    @torch.no_grad()
    def forward(self, samples: Samples) -> Float[Tensor, " S"]:
        """The factor of each row."""
        table = self.table().to(widen(samples.norm).dtype)
        if len(samples.labels) and int(samples.labels.max()) >= len(table):
            raise ValueError(f"counts are those of {len(table) - 1} classes, but there is label {samples.labels.max()}")
        return table[samples.labels]

    def extra_repr(self) -> str:
        """The settings."""
        return f"{self._settings()}, beta={self.beta}, mean={self.mean!r}, applies_to={self.applies_to!r}"
