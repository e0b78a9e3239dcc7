"""Federated loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..common import require, sum_over_ranks, widen
from ..taxonomy import Imbalance
from ._counts import Counted
from .cross_entropy import CrossEntropyLoss

__all__ = ["FederatedLoss"]


class FederatedLoss(Counted):
    """Takes the loss of each step over some of the classes only: those that are there, and others drawn by frequency
    up to `classes`. Rare classes are then not pushed down by every candidate of every step, nor where annotators, who
    mark only some classes in each image, have not looked for them.

    Zhou et al., section 4.3 (CenterNet2): the others are drawn without replacement with probability ~ n_c^power, n_c
    the images with class c. The classes are those of the whole batch, over all processes, and the draw is a function of
    the seed and of the number of the step (a buffer). Column 0 always takes part. With a softmax the others leave it.

    Shapes: logits (S, C), target (S, C) -> what `base` gives, (S, C) or (S,).
    Identity: with no more classes in the data than `classes` it is `base`.

    >>> loss = FederatedLoss(counts=(0, 100, 1, 1), classes=2)
    >>> loss(torch.zeros(1, 4), torch.eye(4)[[2]])  # class 2 is there, class 1 was drawn
    tensor([[0.6931, 0.6931, 0.6931, 0.0000]])
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FOREGROUND_FOREGROUND,)
    paper: ClassVar[str] = "Zhou, Koltun, Krähenbühl, Probabilistic Two-Stage Detection, 2021, arXiv:2103.07461"
    bounds: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    target_kind: ClassVar[str] = "onehot"
    counts_of: ClassVar[str] = "images"

    step: Tensor
    """training steps so far"""

    def __init__(
        self,
        *,
        counts: Sequence[int] | None,
        classes: int = 50,
        power: float = 0.5,
        seed: int = 0,
        base: Callable | None = None,
    ) -> None:
        super().__init__(counts)
        require(classes >= 1, "classes", "1 or greater", classes)
        require(0 <= power < float("inf"), "power", "0 or greater", power)
        self.classes, self.power, self.seed = classes, power, seed
        self.base = CrossEntropyLoss() if base is None else base
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    @property
    def softmax(self) -> bool:
        """Is column 0 the background of a softmax? As `base` has it."""
        return getattr(self.base, "softmax", False)

    def forward(self, logits: Float[Tensor, "S C"], target: Float[Tensor, "S C"], groups: Tensor | None = None):
        """The loss of `base` over the classes of this step."""
        logits, target = widen(logits), widen(target)
        gathers = self.training and torch.is_grad_enabled()  # merely looking at the loss is no step
        kept = self._kept(target, gathers)
        self.step += int(gathers)
        if self.softmax:
            # Not infinity: 0 times that would be no number.
            return self.base(logits.masked_fill(~kept, -1e30), target)
        return self.base(logits, target) * kept

    def _kept(self, target: Tensor, gathers: bool) -> Tensor:
        """(C,) the classes that take part."""
        counts, present = self.needed(target.shape[1]), target.sum(0)
        present = (sum_over_ranks(present) if gathers else present) > 0
        present[0] = True
        # The same numbers on every device and in every process.
        chance = torch.where(present, 0, counts.clamp(min=1) ** self.power).double().cpu()
        wanted = min(self.classes + 1 - int(present.sum()), int((chance > 0).sum()))
        if wanted > 0:
            generator = torch.Generator().manual_seed(self.seed + int(self.step))
            present[torch.multinomial(chance, wanted, generator=generator).to(present.device)] = True
        return present

    def extra_repr(self) -> str:
        """The settings."""
        settings = f"classes={self.classes}, power={self.power}, seed={self.seed}, base={self.base!r}"
        return f"{self._settings()}, {settings}"
