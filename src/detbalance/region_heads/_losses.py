"""The detector's own losses of a table of samples, for predictions that a region head makes besides its own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..common import widen
from ..types import Samples

__all__ = ["class_rows", "plain_losses"]


def plain_losses(samples: Samples) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Cross-entropy over all rows (of the softmax, or of each sigmoid) and torchvision's smooth L1 over the positive
    ones, averaged as the samples say.

    Rows that were generated for the box loss train that alone, and nothing else does.
    """
    with torch.autocast(samples.logits.device.type, enabled=False):
        classed = regressed = torch.ones_like(samples.labels, dtype=torch.bool)
        if samples.generated is not None:
            classed, regressed = ~samples.generated, samples.generated
        regressed = regressed & samples.positive
        norm = widen(samples.norm)
        entropy = class_rows(samples)
        codes = samples.codes.where(regressed[:, None], samples.deltas.detach())  # no number of a background row counts
        box = F.smooth_l1_loss(widen(samples.deltas), widen(codes), reduction="none", beta=1 / 9).sum(1)
        return (entropy * norm * classed).sum(), (box * norm * regressed).sum()


def class_rows(samples: Samples) -> Float[Tensor, " S"]:
    """The cross-entropy of each row."""
    logits = widen(samples.logits)
    if samples.softmax:
        return F.cross_entropy(logits, samples.labels, reduction="none")
    return F.binary_cross_entropy_with_logits(logits, widen(samples.onehot()), reduction="none").sum(1)
