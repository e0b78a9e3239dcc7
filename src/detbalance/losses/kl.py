"""A box loss that learns how sure each coordinate is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..common import widen
from ..taxonomy import Imbalance

__all__ = ["KLLoss"]

_LIMIT = 20.0  # of alpha: a deviation of 5e-5 to 2e4 code units


@dataclass(frozen=True, kw_only=True)
class KLLoss:
    """Learns each coordinate together with its variance: boxes that cannot be told exactly (occluded, carelessly drawn)
    cost less than such as could, and detections know where they are sure.

    He et al., section 3.2; review eq. 13. The prediction is a Gaussian, the ground truth a point; their KL divergence
    is, for an error d of a coordinate and alpha = log sigma^2, but for a constant

        e^-alpha d^2 / 2 + alpha / 2                where |d| <= 1
        e^-alpha (|d| - 1/2) + alpha / 2            beyond

    summed over the coordinates, which are those of the corners: (x - x_a) / w_a of the proposal. The detector gives it
    them (`needs_log_variance`), and alpha from a layer of its own, that starts at Gaussian weights of deviation 1e-4
    and bias 0, so that training starts as smooth L1. The paper does so in the region head; here one-stage detectors do,
    too: RetinaNet and SSD by their anchors, FCOS by the distances to the sides that it predicts anyhow. Alpha counts
    within -20 to 20. The value has no lower end: it falls as boxes and variances get better.

    Shapes: predicted (P, 4), target (P, 4), log_variance (P, 4) or None -> (P,).
    Identity: alpha = 0 (None) is `SmoothL1Loss(beta=1)`.

    >>> loss, right = KLLoss(), torch.zeros(1, 4)
    >>> loss(torch.tensor([[0.5, -2.0, 0.0, 0.0]]), right)
    tensor([1.6250])
    >>> loss(torch.tensor([[0.5, -2.0, 0.0, 0.0]]), right, torch.tensor([[0.0, 2.0, 0.0, 0.0]]))
    tensor([1.3280])
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.REGRESSION_LOSS,)
    paper: ClassVar[str] = (
        "He, Zhu, Wang, Savvides, Zhang, Bounding Box Regression with Uncertainty for Accurate Object Detection, "
        "CVPR 2019, arXiv:1809.08545, section 3.2"
    )
    bounds: ClassVar[tuple[float, float]] = (-2 * _LIMIT, float("inf"))
    space: ClassVar[str] = "code"
    needs_log_variance: ClassVar[bool] = True
    """a third argument, and a code of corners"""

    def __call__(
        self,
        predicted: Float[Tensor, "P 4"],
        target: Float[Tensor, "P 4"],
        log_variance: Float[Tensor, "P 4"] | None = None,
    ) -> Float[Tensor, " P"]:
        error = (widen(predicted) - widen(target)).abs()
        alpha = torch.zeros_like(error) if log_variance is None else widen(log_variance).clamp(-_LIMIT, _LIMIT)
        near = error.clamp(max=1)  # the square of a large error would spoil the gradient of the other branch
        distance = torch.where(error <= 1, near * near / 2, error - 0.5)
        return ((-alpha).exp() * distance + alpha / 2).sum(1)
