"""A score threshold for each class, learnt from how many candidates of training were its."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..common import require, sum_over_ranks
from ..taxonomy import Imbalance
from ..types import IGNORED
from ._wrapped import WrappedHead

__all__ = ["ClassAdaptiveThreshold"]


class ClassAdaptiveThreshold(WrappedHead):
    """Keeps a detection only if its score exceeds the share that its class has of all candidates: a detector trained
    without sampling is shy, rare classes most, and one threshold for all would silence them.

    Chen et al.; review section 4.1.3. The review says no more than "class-adaptive threshold"; the authors' code takes
    one threshold for all classes, their foreground share (its per-class form is commented out). The definition used
    here: with N_c of the N candidates seen in training of class c (ignored ones do not count),

        threshold_c = scale N_c / N

    the probability of class c before one looks at the image. The counts are buffers, summed over processes and kept
    with the checkpoint. In evaluation the logits of scores at or below the threshold become -1e4, so the model's own
    threshold must lie below all of these (the recipe's `score_threshold`). A class that was never seen has none.

    Args:
        head: RetinaNet's, or one like it (`classification_head`, `regression_head`).
        scale: factor of the thresholds.

    Shapes: as the head's own.

    Checked by: `scale=0` changes nothing.

    >>> from torchvision.models.detection.retinanet import RetinaNetHead
    >>> head = ClassAdaptiveThreshold(RetinaNetHead(16, 3, 3))
    >>> labels = torch.tensor([[0, 0, 0, 0, 0, 0, 1, 1, 1, 2]])
    >>> head.supervise({}, labels - 1, labels, torch.ones(1))[1]
    {}
    >>> head.thresholds()
    tensor([0.0000, 0.3000, 0.1000])
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FOREGROUND_BACKGROUND, Imbalance.FOREGROUND_FOREGROUND)
    paper: ClassVar[str] = (
        "Chen, Liu, Xu, Zhang, Wu, Luo, Peng, Chen, Is Sampling Heuristics Necessary in Training Deep Object "
        "Detectors?, arXiv:1909.04868"
    )

    counts: Tensor
    """candidates of each class; background, which is column 0, counts as the rest of `total`"""
    total: Tensor
    """candidates of any kind"""

    def __init__(self, head: nn.Module, *, scale: float = 1.0) -> None:
        super().__init__(head)
        require(0 <= scale < float("inf"), "scale", "0 or greater", scale)
        self.scale = scale
        columns = self.classification_head.num_classes
        self.register_buffer("counts", torch.zeros(columns, dtype=torch.int64))
        self.register_buffer("total", torch.zeros((), dtype=torch.int64))

    def thresholds(self) -> Float[Tensor, " K"]:
        """The threshold of each column; 0 in that of the background, which is no class."""
        share = self.counts.double() / self.total.clamp(min=1)
        return (self.scale * share).float()

    def forward(self, features: list[Float[Tensor, "B C H W"]]) -> dict[str, Tensor]:
        """The predictions of all levels."""
        logits = self.classification_head(features)
        if not self.training:
            logits = logits.masked_fill(logits.float().sigmoid() <= self.thresholds(), -1e4)
        return {"cls_logits": logits, "bbox_regression": self.regression_head(features)}

    def supervise(
        self,
        outputs: dict[str, Tensor],
        matched: Int[Tensor, "B N"],
        labels: Int[Tensor, "B N"],
        norm: Float[Tensor, " B"],
    ) -> tuple[Int[Tensor, "B N"], dict[str, Tensor]]:
        """Counts; changes nothing."""
        found = torch.bincount(labels[matched != IGNORED], minlength=len(self.counts))
        found = sum_over_ranks(found)
        self.total += found.sum()
        found[0] = 0
        self.counts += found
        return matched, {}

    def extra_repr(self) -> str:
        """The settings."""
        return f"scale={self.scale}"
