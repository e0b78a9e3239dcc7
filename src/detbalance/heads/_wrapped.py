"""What heads of RetinaNet with something added share: the old head's parts, and a second, binary classifier."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..common import widen
from ..types import IGNORED

__all__ = ["WrappedHead", "binary_loss", "flatten", "joint_logit", "start"]


class WrappedHead(nn.Module):
    """RetinaNet's head, whose parameters keep their names, with something added.

    In training `forward` may add to the predictions (`objectness`, (B, N, 1) logits), and `supervise` is called with
    what they were assigned; in evaluation `cls_logits` and `bbox_regression` are all that there is.
    """

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        for name in ("classification_head", "regression_head"):
            if not hasattr(head, name):
                raise TypeError(f"expected RetinaNet's head, with a {name}, but got {type(head).__name__}")
        self.classification_head, self.regression_head = head.classification_head, head.regression_head

    def supervise(
        self,
        outputs: dict[str, Tensor],
        matched: Int[Tensor, "B N"],
        labels: Int[Tensor, "B N"],
        norm: Float[Tensor, " B"],
    ) -> tuple[Int[Tensor, "B N"], dict[str, Tensor]]:
        """Which candidates the losses of classes and boxes see (others become IGNORED), and losses of the head's own.
        May put other predictions into `outputs`.

        `norm` is the weight of each image's rows: one over its positives and over the images. As it stands: all, none.
        """
        return matched, {}


def flatten(maps: Float[Tensor, "B AK H W"], columns: int) -> Float[Tensor, "B N K"]:
    """A map of predictions as a table, in torchvision's order of anchors."""
    batch, _, height, width = maps.shape
    table = maps.view(batch, -1, columns, height, width).permute(0, 3, 4, 1, 2)
    return table.reshape(batch, -1, columns)


def joint_logit(first: Tensor, second: Tensor) -> Tensor:
    """The logit of the product of two probabilities that are given as logits; finite wherever they are.

    >>> joint_logit(torch.tensor(0.0), torch.tensor(0.0)).sigmoid()
    tensor(0.2500)
    """
    first, second = torch.broadcast_tensors(first.float(), second.float())
    # 1 / p - 1 = (1 + e^-a) (1 + e^-b) - 1
    return -torch.stack((-first, -second, -first - second)).logsumexp(0)


def binary_loss(
    logits: Float[Tensor, "B N 1"],
    matched: Int[Tensor, "B N"],
    norm: Float[Tensor, " B"],
    ratio: float | None,
) -> Float[Tensor, ""]:
    """Cross-entropy of object against background over all that is not ignored, or, with `ratio`, over the positives and
    so many times as many negatives of the same image, those of the highest loss."""
    with torch.autocast(logits.device.type, enabled=False):
        logits = widen(logits.squeeze(-1))
        positive, trains = matched >= 0, matched != IGNORED
        loss = F.binary_cross_entropy_with_logits(logits, positive.to(logits.dtype), reduction="none")
        if ratio is not None:
            hard = loss.detach().masked_fill(positive | ~trains, float("-inf"))
            rank = hard.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
            trains = trains & (positive | (rank < ratio * positive.sum(1, keepdim=True)))
        return (loss.where(trains, 0).sum(1) * norm).sum()


def start(layer: nn.Conv2d, prior: float) -> None:
    """RetinaNet's initialisation: small weights, and a bias at which every score is `prior`."""
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.constant_(layer.bias, float(torch.tensor(prior, dtype=torch.float64).logit()))
