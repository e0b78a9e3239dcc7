"""IoU loss (UnitBox): the metric itself as the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from ..common import require
from ..taxonomy import Imbalance
from ._overlap import overlap

_LEAST = 1e-6  # IoU below which the logarithm stays where it is


@dataclass(frozen=True, kw_only=True)
class IoULoss:
    """Optimises the overlap of the whole box in place of four coordinates one by one, so that large and small boxes
    count alike. A pair that does not overlap has no gradient; `GIoULoss` and `DIoULoss` mend that.

    Yu et al.: -ln IoU ("log"); later works use 1 - IoU ("linear") and 1 - IoU^2 ("square").

    Shapes: predicted (P, 4), target (P, 4), xyxy -> (P,). Identity: unchanged when both boxes are moved or scaled.

    >>> import torch
    >>> boxes, truth = torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 0, 3, 2]])
    >>> IoULoss()(boxes, truth), IoULoss(mode="linear")(boxes, truth)
    (tensor([1.0986]), tensor([0.6667]))
    """

    mode: Literal["log", "linear", "square"] = "log"

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.REGRESSION_LOSS,)
    paper: ClassVar[str] = "Yu et al., UnitBox, ACM Multimedia 2016, arXiv:1608.01471"
    bounds: ClassVar[tuple[float, float]] = (0.0, 13.82)
    space: ClassVar[str] = "xyxy"

    def __post_init__(self) -> None:
        require(self.mode in ("log", "linear", "square"), "mode", "'log', 'linear' or 'square'", self.mode)

    def __call__(self, predicted: Float[Tensor, "P 4"], target: Float[Tensor, "P 4"]) -> Float[Tensor, " P"]:
        iou = overlap(predicted, target).iou
        if self.mode == "log":
            return -iou.clamp(min=_LEAST).log()
        return 1 - (iou if self.mode == "linear" else iou.square())
