"""Seesaw loss."""

from __future__ import annotations

import math
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from ..common import require, sum_over_ranks, widen
from ..taxonomy import Imbalance
from ._per_class import PerClass


class SeesawLoss(PerClass):
    """Softmax cross-entropy in which a row of a frequent class pushes a rare class down less (mitigation), unless the
    rare class is falsely scored above the true one (compensation), so that rare classes keep their scores.

    Wang et al., equations 3 to 6: the probability of column j in a row of class i counts S_ij = min(1, N_j / N_i)^p
    max(1, s_j / s_i)^q times in the denominator, N the rows of each class seen so far (a buffer), s the scores without
    gradient. The authors split the background off into a head of its own and normalise the classifier; here S acts
    between the object classes, and the background (column 0) takes part as in plain cross-entropy.

    Shapes: logits (S, C), target (S, C) -> (S,). `groups` is not used.
    Identity: p = q = 0 is `CrossEntropyLoss(softmax=True)`.

    >>> import torch
    >>> loss = SeesawLoss()
    >>> loss(torch.zeros(4, 3), torch.eye(3)[[1, 1, 1, 2]])
    tensor([0.8818, 0.8818, 0.8818, 1.0986])
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FOREGROUND_FOREGROUND,)
    paper: ClassVar[str] = "Wang et al., Seesaw Loss for Long-Tailed Instance Segmentation, CVPR 2021, arXiv:2008.10032"
    bounds: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    target_kind: ClassVar[str] = "onehot"
    softmax: ClassVar[bool] = True

    counts: Tensor
    """rows of each class seen so far"""

    def __init__(self, *, p: float = 0.8, q: float = 2.0, eps: float = 0.01):
        super().__init__("counts")
        require(p >= 0, "p", "0 or greater", p)
        require(q >= 0, "q", "0 or greater", q)
        require(0 < eps <= 1, "eps", "in (0, 1]", eps)
        self.p, self.q, self.eps = p, q, eps

    def forward(
        self, logits: Float[Tensor, "S C"], target: Float[Tensor, "S C"], groups: Tensor | None = None
    ) -> Float[Tensor, " S"]:
        """The loss of each row."""
        logits, target = widen(logits), widen(target)
        self.fit(logits.shape[1])
        if self.gathers:
            self.counts += sum_over_ranks(target.sum(0)).to(self.counts)
        return -(target * (logits + self._seesaw(logits.detach(), target.argmax(1))).log_softmax(1)).sum(1)

    def _seesaw(self, logits: Tensor, label: Tensor) -> Tensor:
        """log S; 0 in the true column, in column 0 and in background rows."""
        number = self.counts.clamp(min=1).log().to(logits.dtype)
        mitigation = self.p * (number - number[label][:, None]).clamp(max=0)
        score = logits.log_softmax(1)
        own = score.gather(1, label[:, None]).clamp(min=math.log(self.eps))
        compensation = self.q * (score - own).clamp(min=0)
        factor = (mitigation + compensation) * (label > 0)[:, None]
        factor[:, 0] = 0
        return factor

    def extra_repr(self) -> str:
        """The settings."""
        return f"p={self.p}, q={self.q}, eps={self.eps}"
