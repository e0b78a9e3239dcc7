"""Cross-entropy, the loss that the others are compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..common import widen
from ..taxonomy import Imbalance


@dataclass(frozen=True, kw_only=True)
class CrossEntropyLoss:
    """Minus the logarithm of the probability that the classifier gives to the truth. Every candidate counts alike,
    which is where the imbalance starts: it is the baseline, and addresses no problem by itself.

    Shapes: logits (S, C), target (S, C) -> (S, C) with one sigmoid a class, (S,) under softmax. `groups` is not used.
    Identity: equals torch's own functions on the true classes.

    >>> import torch
    >>> logits, target = torch.tensor([[2.0, -1.0]]), torch.tensor([[1.0, 0.0]])
    >>> CrossEntropyLoss()(logits, target)
    tensor([[0.1269, 0.3133]])
    >>> CrossEntropyLoss(softmax=True)(logits, target)
    tensor([0.0486])
    """

    softmax: bool = False
    """classes exclude each other, column 0 is the background"""

    addresses: ClassVar[tuple[Imbalance, ...]] = ()
    paper: ClassVar[str] = "Good, Rational Decisions, Journal of the Royal Statistical Society B 1952 (log score)"
    bounds: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    target_kind: ClassVar[str] = "onehot"

    def __call__(self, logits: Float[Tensor, "S C"], target: Float[Tensor, "S C"], groups: Tensor | None = None):
        logits, target = widen(logits), widen(target)
        if self.softmax:
            return -(target * logits.log_softmax(-1)).sum(-1)
        return F.binary_cross_entropy_with_logits(logits, target, reduction="none")
