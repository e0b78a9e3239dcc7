"""LOCE's equilibrium loss."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..common import require, sum_over_ranks, widen
from ..taxonomy import Imbalance
from ._per_class import PerClass

__all__ = ["EquilibriumLoss"]


class EquilibriumLoss(PerClass):
    """Softmax cross-entropy with a margin between classes by their mean scores: a class that scores low on its own
    objects is pushed down less by the others, and a class that scores high has to win by more, until all are equal.

    Feng et al., equations 3 to 5 (LOCE, score-guided equilibrium loss): each logit gets log s_c, s_c the running mean
    of the class's score on its own rows (a buffer, 0.01 at first), 0.01 for the background. A step averages the rows of
    a class in each image (`groups`), then the images, n of them, and s moves by 1 - momentum^n before the loss is
    taken. The authors average the rows of each object: a loss does not see which object a row belongs to. Their memory
    of features is another method.

    Shapes: logits (S, C), target (S, C), groups (S,) the image of each row -> (S,).
    Identity: while all mean scores are equal it is `CrossEntropyLoss(softmax=True)`.

    >>> loss = EquilibriumLoss()
    >>> loss(torch.zeros(2, 3), torch.eye(3)[[0, 1]])  # class 1 has scored 1/3, so its mean is 0.042
    tensor([1.8299, 0.3869])
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FOREGROUND_FOREGROUND,)
    paper: ClassVar[str] = (
        "Feng, Zhong, Huang, Exploring Classification Equilibrium in Long-Tailed Object Detection, ICCV 2021, "
        "arXiv:2108.07507"
    )
    bounds: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    target_kind: ClassVar[str] = "onehot"
    softmax: ClassVar[bool] = True

    mean_score: Tensor
    """of each class on its own rows"""

    def __init__(self, *, momentum: float = 0.9, start: float = 0.01):
        super().__init__("mean_score")
        require(0 <= momentum < 1, "momentum", "in [0, 1)", momentum)
        require(0 < start <= 1, "start", "in (0, 1]", start)
        self.momentum, self.start = momentum, start

    def forward(
        self,
        logits: Float[Tensor, "S C"],
        target: Float[Tensor, "S C"],
        groups: Int[Tensor, " S"] | None = None,
    ) -> Float[Tensor, " S"]:
        """The loss of each row."""
        logits, target = widen(logits), widen(target)
        self.fit(logits.shape[1])
        if not self.mean_score.any():
            self.mean_score.fill_(self.start)
        if self.gathers:
            self._gather(logits.detach(), target, groups)
        margin = self.mean_score.clamp(min=1e-6).log().to(logits.dtype)
        return -(target * (logits + margin).log_softmax(1)).sum(1)

    def _gather(self, logits: Tensor, target: Tensor, groups: Tensor | None) -> None:
        """Move the mean scores."""
        label = target.argmax(1)
        image = torch.zeros_like(label) if groups is None else groups
        own = logits.softmax(1).gather(1, label[:, None]).squeeze(1)
        columns = logits.shape[1]
        pair, row = (image * columns + label).unique(return_inverse=True)
        size = torch.bincount(row, minlength=len(pair)).to(own)
        mean = own.new_zeros(len(pair)).index_add_(0, row, own) / size
        found = own.new_zeros(2, columns)
        found[0].index_add_(0, pair % columns, mean)
        found[1].index_add_(0, pair % columns, torch.ones_like(mean))
        total, number = sum_over_ranks(found).to(self.mean_score)
        keep = self.momentum**number
        keep[0] = 1  # the background's stays
        self.mean_score.mul_(keep).add_((1 - keep) * total / number.clamp(min=1))

    def extra_repr(self) -> str:
        """The settings."""
        return f"momentum={self.momentum}, start={self.start}"
