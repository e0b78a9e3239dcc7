"""Prime sample attention, part two: classification-aware regression loss (CARL)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from ..taxonomy import Imbalance
from ..types import Samples
from ._present import class_scores

__all__ = ["ClassificationAwareWeights"]

_SMALLEST = 1e-12  # keeps the gradient of a root finite where the score vanishes


@dataclass(frozen=True, kw_only=True)
class ClassificationAwareWeights:
    """Multiplies the box loss by the class score, so that the classifier learns to score badly placed boxes low.

    Cao et al., "Classification-Aware Regression Loss"; review eq. 23. With p the score of the true class, P positives:

        v = (bias + (1 - bias) p) ** power,   c = v P / sum(v)

    The factors carry gradient, through the sum as well: a positive whose box loss is above the (weighted) mean has its
    score pushed down, one below it up. Their sum is P, so the size of the box loss stays what it was.
    `reference=True` gives 1 + c: mmdetection adds the weighted loss (`loss_carl`) to the unweighted one.

    Shapes: samples of S rows -> (S,), with gradient to `samples.logits`; 1 in background rows. Applies to the box loss.

    Checked by: sum(c) = P over the positives; power 0 or bias 1 gives 1; with L the box losses,
    d(sum(c L)) / dv_i = (P L_i - sum(c L)) / sum(v).

    >>> import torch
    >>> from detbalance.types import Samples
    >>> box = torch.tensor([[0.0, 0, 10, 10]]).expand(3, 4)
    >>> logits = torch.tensor([[0.0, 2.0], [0.0, -2.0], [0.0, 0.0]])
    >>> number = torch.zeros(3).long()
    >>> one = Samples(logits=logits, labels=torch.tensor([1, 1, 0]), deltas=box * 0, codes=box * 0, boxes=box,
    ...     truth=box, iou=torch.ones(3), image=number, level=number, norm=torch.ones(3), softmax=True)
    >>> ClassificationAwareWeights()(one)
    tensor([1.5077, 0.4923, 1.0000])
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.OBJECTIVE,)
    paper: ClassVar[str] = (
        "Cao, Chen, Loy, Lin, Prime Sample Attention in Object Detection, CVPR 2020, arXiv:1904.04821"
    )
    applies_to: ClassVar[str] = "box"

    power: float = 1.0
    bias: float = 0.2
    reference: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.power < float("inf"):
            raise ValueError(f"power must be 0 or more, and finite, got {self.power!r}")
        if not 0 <= self.bias <= 1:
            raise ValueError(f"bias must be in [0, 1], got {self.bias!r}")

    def __call__(self, samples: Samples) -> Float[Tensor, " S"]:
        rows = samples.positive.nonzero().squeeze(1)
        scores = class_scores(samples, rows)
        columns = samples.labels[rows].clamp(max=scores.shape[1] - 1)  # a single column is the object's
        score = scores.gather(1, columns[:, None]).squeeze(1)
        value = (self.bias + (1 - self.bias) * score).clamp(min=_SMALLEST) ** self.power
        factor = value * (len(rows) / value.sum())
        if self.reference:
            factor = 1 + factor
        return factor.new_ones(len(samples.labels)).index_put((rows,), factor)
