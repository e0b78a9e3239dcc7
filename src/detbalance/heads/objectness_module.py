"""An objectness module before each prediction layer: a binary classifier that filters the easy anchors."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..common import require
from ..taxonomy import Imbalance
from ..types import BACKGROUND, IGNORED
from ._wrapped import WrappedHead, binary_loss, flatten, start

__all__ = ["ObjectnessModule"]


class ObjectnessModule(WrappedHead):
    """Decides before the prediction layer of each level which anchors are background beyond doubt: these neither train
    the classes nor are detected, and the features are guided to where objects are.

    Nie et al., in the SSD pipeline; review section 4.1.1. On each level's features a binary classifier (3x3
    convolution, ReLU, 3x3 convolution to one logit an anchor) is trained like SSD's: positives and the three times as
    many negatives of the highest loss, a loss named `objectness`. A negative with an objectness of `threshold` (0.01,
    as RefineDet's filter) or less is hidden from the class loss; in evaluation such an anchor scores 0. With
    `guide=True` the features F become F + F sigmoid(max over the anchors of the objectness logits) before the towers of
    classes and boxes. Here the anchors stay; `CascadedRefinement` also moves them, as the paper does.

    Args:
        head: RetinaNet's, or one like it (`classification_head`, `regression_head`).
        threshold: objectness up to which an anchor is filtered.
        guide: multiply the features by the objectness, with a shortcut?
        ratio: negatives a positive that train the objectness; None: all.
        prior: the objectness that training starts from; above the threshold, or nothing would train the classes.
        weight: factor of the objectness loss.

    Shapes: as `ObjectnessBranch`.

    Checked by: with weights 0 in the last convolution and `guide=False` it is RetinaNet's head.

    >>> from torchvision.models.detection.retinanet import RetinaNetHead
    >>> head = ObjectnessModule(RetinaNetHead(16, 3, 5))
    >>> sorted(head([torch.zeros(1, 16, 2, 2)]))
    ['bbox_regression', 'cls_logits', 'objectness']
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FOREGROUND_BACKGROUND,)
    paper: ClassVar[str] = (
        "Nie, Anwer, Cholakkal, Khan, Pang, Shao, Enriched Feature Guided Refinement Network for Object Detection, "
        "ICCV 2019"
    )

    def __init__(
        self,
        head: nn.Module,
        *,
        threshold: float = 0.01,
        guide: bool = True,
        ratio: float | None = 3.0,
        prior: float = 0.1,
        weight: float = 1.0,
    ) -> None:
        super().__init__(head)
        require(0 <= threshold < 1, "threshold", "0 or greater, and below 1", threshold)
        require(threshold < prior < 1, "prior", "above the threshold, and below 1", prior)
        require(ratio is None or ratio > 0, "ratio", "None or greater than 0", ratio)
        require(0 <= weight < float("inf"), "weight", "0 or greater", weight)
        self.threshold, self.guide, self.ratio, self.prior, self.weight = threshold, guide, ratio, prior, weight
        channels = self.classification_head.cls_logits.in_channels
        last = nn.Conv2d(channels, self.classification_head.num_anchors, 3, padding=1)
        start(last, prior)
        self.objectness = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), last)

    def forward(self, features: list[Float[Tensor, "B C H W"]]) -> dict[str, Tensor]:
        """The predictions of all levels."""
        maps = [self.objectness(feature) for feature in features]
        if self.guide:
            features = [f + f * m.amax(1, keepdim=True).sigmoid() for f, m in zip(features, maps)]
        objectness = torch.cat([flatten(m, 1) for m in maps], 1)
        logits, boxes = self.classification_head(features), self.regression_head(features)
        if self.training:
            return {"cls_logits": logits, "bbox_regression": boxes, "objectness": objectness}
        return {"cls_logits": logits.masked_fill(self._easy(objectness), -1e4), "bbox_regression": boxes}

    def supervise(
        self,
        outputs: dict[str, Tensor],
        matched: Int[Tensor, "B N"],
        labels: Int[Tensor, "B N"],
        norm: Float[Tensor, " B"],
    ) -> tuple[Int[Tensor, "B N"], dict[str, Tensor]]:
        """The objectness loss; easy background is hidden from the class loss."""
        loss = self.weight * binary_loss(outputs["objectness"], matched, norm, self.ratio)
        return self.screen(outputs, matched), {"objectness": loss}

    def screen(self, outputs: dict[str, Tensor], matched: Int[Tensor, "B N"]) -> Int[Tensor, "B N"]:
        """`matched` with the easy background ignored."""
        easy = (matched == BACKGROUND) & self._easy(outputs["objectness"]).squeeze(-1)
        return torch.where(easy, IGNORED, matched)

    def _easy(self, objectness: Tensor) -> Tensor:
        return objectness.detach().float().sigmoid() <= self.threshold

    def extra_repr(self) -> str:
        """The settings."""
        return (
            f"threshold={self.threshold}, guide={self.guide}, ratio={self.ratio}, prior={self.prior}, "
            f"weight={self.weight}"
        )
