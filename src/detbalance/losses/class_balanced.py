"""Class-balanced loss by the effective number of objects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from ..common import require, widen
from ..taxonomy import Imbalance
from .cross_entropy import CrossEntropyLoss


@dataclass(frozen=True, kw_only=True)
class ClassBalancedLoss:
    """Weighs the rows of each class by the inverse of its effective number of objects, (1 - beta^n) / (1 - beta), so
    that rare classes are heard without the extremes of plain inverse frequency.

    Cui et al., equation 4; the weights of the classes have mean 1. The background, of which the
    paper knows nothing, keeps weight 1. A class without objects counts as one with a single object.

    Shapes: logits (S, C), target (S, C) -> what `base` gives, (S, C) or (S,).
    Identity: with equal counts, or beta = 0, it is `base`.

    >>> loss = ClassBalancedLoss(counts=(0, 900, 100), beta=0.99)
    >>> [round(w, 4) for w in loss.weights()]
    [1.0, 0.776, 1.224]
    """

    counts: tuple[int, ...]
    """number of objects of each column of the logits; that of column 0, the background, is not used"""
    beta: float = 0.9999
    """0: no weights; towards 1: inverse frequency"""
    base: Callable = field(default_factory=CrossEntropyLoss)
    """a class loss that is not itself weighed by class"""

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FOREGROUND_FOREGROUND,)
    paper: ClassVar[str] = (
        "Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019, arXiv:1901.05555, eq. 4"
    )
    bounds: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    target_kind: ClassVar[str] = "onehot"

    def __post_init__(self) -> None:
        require(0 <= self.beta < 1, "beta", "in [0, 1)", self.beta)
        valid = len(self.counts) > 1 and min(self.counts) >= 0
        require(valid, "counts", "a number of objects for the background and each class", self.counts)

    @property
    def softmax(self) -> bool:
        """Is column 0 the background of a softmax? As `base` has it."""
        return getattr(self.base, "softmax", False)

    def weights(self) -> list[float]:
        """The weight of each column."""
        effective = [1 - self.beta ** max(n, 1) for n in self.counts[1:]]
        scale = len(effective) / sum(1 / e for e in effective)
        return [1.0, *(scale / e for e in effective)]

    def __call__(self, logits: Float[Tensor, "S C"], target: Float[Tensor, "S C"], groups: Tensor | None = None):
        if logits.shape[1] != len(self.counts):
            raise ValueError(f"counts must have one entry a column, {logits.shape[1]}, but has {len(self.counts)}")
        target = widen(target)
        row = 1 + target @ target.new_tensor([w - 1 for w in self.weights()])
        loss = self.base(logits, target)
        return loss * (row[:, None] if loss.dim() == 2 else row)
