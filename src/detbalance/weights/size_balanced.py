"""Size weights: rare sizes count more."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..common import require, sum_over_ranks, widen
from ..taxonomy import Imbalance
from ..types import Samples

__all__ = ["SizeBalancedWeights"]


class SizeBalancedWeights(nn.Module):
    """Weighs the rows of an object by how rare its size is among all positives so far: an assigner by IoU gives a small
    object a few candidates and a large one dozens, so sizes are unequal even where objects are not.

    w_g ~ n_g^-power for a positive whose object is of size group g, n_g the number of positives of that group since the
    training began (in a buffer), scaled to a mean of 1 over all positives so far. Background rows weigh 1. Groups are
    those of COCO by default: sides (square roots of areas) below 32 and below 96 pixels of the training image. A scheme
    of inverse frequencies as for classes (Cui et al., with beta = 1), carried over to sizes.

    Shapes: samples of S rows -> (S,), detached.
    Identity: with equally many positives of each size, or power = 0, every weight is 1.
    Errors: ValueError for edges that do not rise, or a power outside [0, 1].

    >>> SizeBalancedWeights(edges=(16, 64), power=0.5, applies_to="box")
    SizeBalancedWeights(edges=(16, 64), power=0.5, applies_to='box')
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.OBJECT_SCALE,)
    paper: ClassVar[str] = (
        "Oksuz et al., Imbalance Problems in Object Detection: A Review, TPAMI 2020, arXiv:1909.00169, section 5.1; "
        "Cui et al., arXiv:1901.05555, eq. 4"
    )

    counts: Tensor
    """positives of each size group so far, in all processes"""

    def __init__(
        self, *, edges: tuple[float, ...] = (32.0, 96.0), power: float = 1.0, applies_to: str = "both"
    ) -> None:
        super().__init__()
        rising = len(edges) > 0 and edges[0] > 0 and all(a < b for a, b in pairwise(edges))
        require(rising, "edges", "rising numbers above 0", edges)
        require(0 <= power <= 1, "power", "in [0, 1]", power)
        require(applies_to in ("class", "box", "both"), "applies_to", "'class', 'box' or 'both'", applies_to)
        self.edges, self.power, self.applies_to = tuple(edges), power, applies_to
        self.register_buffer("counts", torch.zeros(len(edges) + 1, dtype=torch.float64))

    @torch.no_grad()
    def forward(self, samples: Samples) -> Float[Tensor, " S"]:
        """The factor of each row."""
        rows = samples.positive
        side = widen(samples.truth[:, 2:] - samples.truth[:, :2]).clamp(min=0).prod(1).sqrt()
        group = torch.bucketize(side, torch.tensor(self.edges, device=side.device, dtype=side.dtype), right=True)
        found = torch.bincount(group[rows], minlength=len(self.counts))
        counts = self.counts + sum_over_ranks(found).to(self.counts)
        if self.training:
            self.counts.copy_(counts)
        raw = counts.clamp(min=1) ** -self.power
        table = (raw * counts.sum() / (raw * counts).sum().clamp(min=1e-12)).to(side.dtype)
        return torch.where(rows, table[group], 1.0)

    def extra_repr(self) -> str:
        """The settings."""
        return f"edges={self.edges}, power={self.power}, applies_to={self.applies_to!r}"
