"""Balanced group softmax."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..common import require, sum_over_ranks, widen
from ..taxonomy import Imbalance
from ._counts import Counted

__all__ = ["BalancedGroupSoftmax"]


class BalancedGroupSoftmax(Counted):
    """Classes of like frequency compete in a softmax of their own, so that no frequent class pushes a rare one down.

    Li et al., section 4: classes are grouped by their objects in the data, at `edges`; each group has a softmax over
    its classes and "others", which is the truth of all rows of other groups; of those there may be `beta` times as many
    as of the group's own, and none where the group has none. The background is a group of its own against everything
    else. In inference p_j = P_group(j) (1 - P(background)); where these sum to more than 1 over the classes they are
    scaled to 1 (`at_inference`, which R-CNN's region head calls).

    "Others" has no column of its own: only differences of logits matter in a softmax, so its logit is 0, and the
    classifier keeps its shape. Rows of "others" that are too many are not drawn at random: each weighs as often as it
    would be drawn, beta n_in / n_out times. The loss of a group is its mean over so many rows, as the authors' code has
    it; `average="rows"` leaves the averaging to the detector.

    Shapes: logits (S, C), target (S, C) -> (S,). `groups` is not used.
    Identity: with one class a group, average="rows" and a large beta it is the sum of `CrossEntropyLoss()` over the
    columns.

    >>> loss = BalancedGroupSoftmax(counts=(0, 5000, 2000, 5))
    >>> loss(torch.zeros(3, 4), torch.eye(4)[[0, 1, 3]])  # log 2 for the background, then log 3 and log 2 by group
    tensor([2.4849, 2.4849, 2.4849])
    >>> loss.at_inference(torch.tensor([[-9.0, 9, 9, 9]])).exp()
    tensor([[1.0000e-12, 2.5001e-01, 2.5001e-01, 4.9998e-01]])
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FOREGROUND_FOREGROUND,)
    paper: ClassVar[str] = (
        "Li, Wang, Kang, Tang, Wang, Li, Feng, Overcoming Classifier Imbalance for Long-Tail Object Detection with "
        "Balanced Group Softmax, CVPR 2020, arXiv:2006.10408"
    )
    bounds: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    target_kind: ClassVar[str] = "onehot"
    softmax: ClassVar[bool] = True

    def __init__(
        self,
        *,
        counts: Sequence[int] | None,
        edges: tuple[int, ...] = (10, 100, 1000),
        beta: float = 8.0,
        average: str = "groups",
    ) -> None:
        super().__init__(counts)
        require(list(edges) == sorted(set(edges)), "edges", "ascending", edges)
        require(beta > 0, "beta", "greater than 0", beta)
        require(average in ("groups", "rows"), "average", "'groups' or 'rows'", average)
        self.edges, self.beta, self.average = tuple(edges), beta, average

    def forward(
        self, logits: Float[Tensor, "S C"], target: Float[Tensor, "S C"], groups: Tensor | None = None
    ) -> Float[Tensor, " S"]:
        """The loss of each row."""
        logits, target = widen(logits), widen(target)
        loss = F.binary_cross_entropy_with_logits(logits[:, 0], target[:, 0], reduction="none")
        for columns in self._columns(logits.shape[1]):
            mine = target[:, columns]
            inside = mine.sum(1)
            entropy = _with_others(logits[:, columns]).logsumexp(1) - (logits[:, columns] * mine).sum(1)
            loss = loss + entropy * self._weight(inside)
        return loss

    def _weight(self, inside: Tensor) -> Tensor:
        """(S,) what each row counts for in a group, of which `inside` are the own rows."""
        found = torch.stack((inside.sum(), (1 - inside).sum()))
        if self.training and torch.is_grad_enabled():
            found = sum_over_ranks(found)
        own, others = found
        weight = inside + (1 - inside) * (self.beta * own / others.clamp(min=1)).clamp(max=1)
        weight = weight * (own > 0)
        if self.average == "rows":
            return weight
        used = own + torch.minimum(self.beta * own, others)
        return weight * (own + others) / used.clamp(min=1)

    def at_inference(self, logits: Float[Tensor, "S C"]) -> Float[Tensor, "S C"]:
        """The logarithms of the scores: what the detector's softmax turns into them."""
        logits = widen(logits)
        scores = torch.zeros_like(logits)
        foreground = (-logits[:, :1]).sigmoid()
        for columns in self._columns(logits.shape[1]):
            scores[:, columns] = _with_others(logits[:, columns]).softmax(1)[:, 1:] * foreground
        scores = scores / scores.sum(1, keepdim=True).clamp(min=1)
        scores[:, 0] = 1 - scores[:, 1:].sum(1)
        return scores.clamp(min=1e-12).log()

    def _columns(self, columns: int) -> list[Tensor]:
        """The columns of each group that has classes."""
        counts = self.needed(columns)
        group = torch.bucketize(counts[1:], counts.new_tensor(self.edges), right=True)
        return [(group == g).nonzero().squeeze(1) + 1 for g in group.unique()]

    def extra_repr(self) -> str:
        """The settings."""
        return f"{self._settings()}, edges={self.edges}, beta={self.beta}, average={self.average!r}"


def _with_others(logits: Tensor) -> Tensor:
    return F.pad(logits, (1, 0))
