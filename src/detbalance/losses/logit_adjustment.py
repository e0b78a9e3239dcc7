"""Logit adjustment by the frequency of the classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..common import require, widen
from ..taxonomy import Imbalance
from ._counts import Counted
from .cross_entropy import CrossEntropyLoss

__all__ = ["LogitAdjustment", "adjust_logits"]


class LogitAdjustment(Counted):
    """Adds tau log pi_c to the logit of each class in training: a class that is rare must then win by a margin, and the
    scores, which are taken without it, are those of a detector whose classes are all equally frequent.

    Menon et al., equation 10 (logit-adjusted loss), around any class loss. pi_c is the class's number of objects over
    the mean of all classes, so that with equal classes nothing changes, and the background, whose frequency is none of
    the data's, keeps its logit. A class without objects counts as one with a single object. `adjust_logits` does the
    same to a detector that is trained already.

    Shapes: logits (S, C), target (S, C) -> what `base` gives, (S, C) or (S,).
    Identity: with equal counts, or tau = 0, it is `base`.

    >>> loss = LogitAdjustment(counts=(0, 900, 100))
    >>> loss(torch.zeros(2, 3), torch.eye(3)[1:])  # 1 / (1 + 1.8 + 0.2) of 1.8 and of 0.2
    tensor([0.5108, 2.7081])
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FOREGROUND_FOREGROUND,)
    paper: ClassVar[str] = (
        "Menon, Jayasumana, Rawat, Jain, Veit, Kumar, Long-Tail Learning via Logit Adjustment, ICLR 2021, "
        "arXiv:2007.07314, eq. 10"
    )
    bounds: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    target_kind: ClassVar[str] = "onehot"

    def __init__(self, *, counts: Sequence[int] | None, tau: float = 1.0, base: Callable | None = None) -> None:
        super().__init__(counts)
        require(0 <= tau < float("inf"), "tau", "0 or greater", tau)
        self.tau = tau
        self.base = CrossEntropyLoss(softmax=True) if base is None else base

    @property
    def softmax(self) -> bool:
        """Is column 0 the background of a softmax? As `base` has it."""
        return getattr(self.base, "softmax", False)

    def forward(self, logits: Float[Tensor, "S C"], target: Float[Tensor, "S C"], groups: Tensor | None = None):
        """The loss of `base` on the adjusted logits."""
        logits = widen(logits)
        return self.base(logits + _offsets(self.needed(logits.shape[1]), self.tau).to(logits.dtype), target)

    def extra_repr(self) -> str:
        """The settings."""
        return f"{self._settings()}, tau={self.tau}, base={self.base!r}"


@torch.no_grad()
def adjust_logits(model: nn.Module, counts: Sequence[int], *, tau: float = 1.0) -> None:
    """Post-hoc logit adjustment (Menon et al., equation 9): take tau log pi_c off each class's logit, in place.

    An offset of the logits is one of the classifier's bias, so the model saves and loads as before; a negative tau
    undoes it. `counts` of each column, that of column 0, the background, is not used.

    Raises ValueError for a detector without a classifier of so many columns.

    >>> from detbalance.detectors import build
    >>> model = build("retinanet", classes=2)
    >>> before = model.head.classification_head.cls_logits.bias[:3].clone()
    >>> adjust_logits(model, (0, 900, 100))
    >>> model.head.classification_head.cls_logits.bias[:3] - before
    tensor([ 0.0000, -0.5878,  1.6094], grad_fn=<SubBackward0>)
    """
    offsets = _offsets(torch.as_tensor(counts, dtype=torch.float32), tau)
    biases = [p for name, p in model.named_parameters() if _is_classifier(name) and len(p) % len(offsets) == 0]
    if not biases:
        raise ValueError(f"{type(model).__name__} has no classifier of {len(offsets)} columns whose bias can be moved")
    for bias in biases:
        bias -= offsets.to(bias).repeat(len(bias) // len(offsets))


def _offsets(counts: Tensor, tau: float) -> Tensor:
    """(C,) tau log pi_c, 0 for the background."""
    number = counts.clamp(min=1)
    offsets = tau * (number / number[1:].mean()).log()
    offsets[0] = 0
    return offsets


def _is_classifier(name: str) -> bool:
    """RetinaNet's and FCOS's, SSD's (one a level), and R-CNN's; not the proposal network's."""
    parts = name.split(".")
    if parts[-1] != "bias" or "rpn" in parts:
        return False
    return "cls_logits" in parts or "cls_score" in parts or ("classification_head" in parts and "module_list" in parts)
