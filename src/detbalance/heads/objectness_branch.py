"""An objectness branch beside the classes: it takes over the imbalance, and its score multiplies theirs."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..common import require
from ..taxonomy import Imbalance
from ..types import BACKGROUND, IGNORED
from ._wrapped import WrappedHead, binary_loss, flatten, joint_logit, start

__all__ = ["ObjectnessBranch"]


class ObjectnessBranch(WrappedHead):
    """Learns in a branch of its own whether there is an object, so that the classes are learnt from objects alone: the
    flood of background meets one score an anchor and not one for each class.

    Review, section 4.1.3; Redmon et al. (YOLO) and Kong et al. (RON) have such a branch too. It stands on the features
    of the class tower (a 3x3 convolution and a ReLU, then a 3x3 convolution to one logit an anchor) and is trained with
    cross-entropy over all candidates, a loss named `objectness`. The score of a detection is objectness times class.
    Its features, weight and initialisation are those of the public code of residual objectness (see
    `ResidualObjectness`, of which this is the first step).

    Args:
        head: RetinaNet's, or one like it (`classification_head`, `regression_head`).
        prior: the objectness that training starts from.
        weight: factor of the objectness loss, which sums over all candidates and is divided by the positives.
        ratio: None: all candidates train the objectness; 3: as many negatives a positive, the hardest.
        classes_on: "positives": background does not reach the class loss; "all": it does, for samplers to choose from.
        class_prior: the class score that training starts from; None: 1 / columns where classes are learnt from
            positives (background, of which nothing is learnt there, is a column too), else the head's own.

    Shapes: a list of (B, C, H, W) maps -> `cls_logits` (B, N, K), `bbox_regression` (B, N, 4), and in training
    `objectness` (B, N, 1).

    Checked by: in evaluation sigmoid(cls_logits) is the product of the two scores.

    >>> from torchvision.models.detection.retinanet import RetinaNetHead
    >>> branch = ObjectnessBranch(RetinaNetHead(16, 3, 5), prior=0.01)
    >>> maps = [torch.zeros(1, 16, 2, 2)]
    >>> branch(maps)["objectness"].sigmoid().mean(), branch(maps)["cls_logits"].sigmoid().mean()
    (tensor(0.0100, grad_fn=<MeanBackward0>), tensor(0.2000, grad_fn=<MeanBackward0>))
    >>> branch.eval()(maps)["cls_logits"].sigmoid().mean()
    tensor(0.0020, grad_fn=<MeanBackward0>)
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FOREGROUND_BACKGROUND,)
    paper: ClassVar[str] = (
        "Chen, Liu, Luo, Peng, Xu, Chen, Residual Objectness for Imbalance Reduction, Pattern Recognition 2022, "
        "arXiv:1908.09075"
    )

    def __init__(
        self,
        head: nn.Module,
        *,
        prior: float = 0.001,
        weight: float = 0.05,
        ratio: float | None = None,
        classes_on: str = "positives",
        class_prior: float | None = None,
    ) -> None:
        super().__init__(head)
        require(0 < prior < 1, "prior", "between 0 and 1", prior)
        require(0 <= weight < float("inf"), "weight", "0 or greater", weight)
        require(ratio is None or ratio > 0, "ratio", "None or greater than 0", ratio)
        require(classes_on in ("positives", "all"), "classes_on", "'positives' or 'all'", classes_on)
        require(class_prior is None or 0 < class_prior < 1, "class_prior", "None or between 0 and 1", class_prior)
        self.prior, self.weight, self.ratio, self.classes_on = prior, weight, ratio, classes_on
        self._steps(1)
        start(self.score[0], prior)
        if class_prior is None and classes_on == "positives":
            class_prior = 1 / self.classification_head.num_classes
        if class_prior is not None:
            bias = self.classification_head.cls_logits.bias
            nn.init.constant_(bias, float(torch.tensor(class_prior, dtype=torch.float64).logit()))

    def _steps(self, count: int) -> None:
        """`count` features, each computed from the last, and the score that is read off each."""
        head = self.classification_head
        channels = head.cls_logits.in_channels
        self.feature = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(count))
        self.score = nn.ModuleList(nn.Conv2d(channels, head.num_anchors, 3, padding=1) for _ in range(count))

    def objectness(self, tower: Float[Tensor, "B C H W"]) -> Float[Tensor, "B A H W"]:
        """The logit of there being an object, of each anchor: the sum over the steps."""
        total = torch.zeros((), device=tower.device)
        for feature, score in zip(self.feature, self.score):
            tower = feature(tower).relu()
            total = total + score(tower)
        return total

    def forward(self, features: list[Float[Tensor, "B C H W"]]) -> dict[str, Tensor]:
        """The predictions of all levels."""
        head = self.classification_head
        towers = [head.conv(feature) for feature in features]
        logits = torch.cat([flatten(head.cls_logits(t), head.num_classes) for t in towers], 1)
        objectness = torch.cat([flatten(self.objectness(t), 1) for t in towers], 1)
        boxes = self.regression_head(features)
        if self.training:
            return {"cls_logits": logits, "bbox_regression": boxes, "objectness": objectness}
        return {"cls_logits": joint_logit(logits, objectness), "bbox_regression": boxes}

    def supervise(
        self,
        outputs: dict[str, Tensor],
        matched: Int[Tensor, "B N"],
        labels: Int[Tensor, "B N"],
        norm: Float[Tensor, " B"],
    ) -> tuple[Int[Tensor, "B N"], dict[str, Tensor]]:
        """The objectness loss; background is hidden from the class loss where classes are learnt from positives."""
        loss = self.weight * binary_loss(outputs["objectness"], matched, norm, self.ratio)
        if self.classes_on == "positives":
            matched = torch.where(matched == BACKGROUND, IGNORED, matched)
        return matched, {"objectness": loss}

    def extra_repr(self) -> str:
        """The settings."""
        return f"prior={self.prior}, weight={self.weight}, ratio={self.ratio}, classes_on={self.classes_on!r}"
