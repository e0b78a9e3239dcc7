"""A box loss of several aspects: inliers, ambiguity and overlap, each of which can be switched off."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .. import boxes
from ..common import require, widen
from ..taxonomy import Imbalance
from ._overlap import overlap as compare
from .balanced_l1 import BalancedL1Loss
from .code import SmoothL1Loss

_LIMIT = 20.0  # of s, as in KL loss


class CombinedBoxLoss(nn.Module):
    """Takes together what other losses bring one at a time: small errors are heard (balanced L1), coordinates that
    cannot be told exactly count less (KL loss), and the overlap itself is learnt (GIoU). Each part can be switched off,
    so that it can be seen what each one gains.

    The review poses it as an open problem (section 6.5.1). Here, summed over the coordinates c of the box code,

        coordinates * sum (exp(-s_c) rho(d_c) + s_c / 2) + overlap * (1 - GIoU)

    rho is balanced L1 (Pang et al., section 3.3) or smooth L1; s = log sigma^2 as in `KLLoss`, within -20 to 20. With
    `variance="box"` the detector's head predicts it, with a code of corners; with "coordinate" one s is learnt
    for each coordinate, from 0 on (in a loop of one's own: give the optimizer the loss's parameters, too). GIoU needs
    no anchor: it is the same on the unit box, as both codes are decoded by one map along each axis; not for FCOS's.

    Shapes: predicted (P, 4), target (P, 4), log_variance (P, 4) or None -> (P,). Errors: ValueError for a setting out
    of range. Identities: without ambiguity and overlap it is `BalancedL1Loss`, without inliers, too, `SmoothL1Loss`;
    without inliers and overlap, at beta = 1, `KLLoss`; with `coordinates=0` it is `GIoULoss` of the decoded boxes.

    >>> predicted, target = torch.tensor([[0.5, 0.0, 0.0, 0.0]]), torch.zeros(1, 4)
    >>> [round(CombinedBoxLoss(overlap=part)(predicted, target).item(), 4) for part in (0.0, 1.0)]
    [0.4006, 1.0672]
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.REGRESSION_LOSS,)
    paper: ClassVar[str] = (
        "Oksuz et al., Imbalance Problems in Object Detection, TPAMI 2020, arXiv:1909.00169, sec. 6.5.1; parts of "
        "arXiv:1904.02701, arXiv:1809.08545, arXiv:1902.09630"
    )
    bounds: ClassVar[tuple[float, float]] = (-2 * _LIMIT, float("inf"))
    space: ClassVar[str] = "code"
    anchors_only: ClassVar[bool] = True
    """it reads the code itself, so it has to be that of anchors"""

    def __init__(
        self,
        *,
        inliers: bool = True,
        ambiguity: bool = True,
        overlap: float = 1.0,
        coordinates: float = 1.0,
        metric: Literal["iou", "giou"] = "giou",
        variance: Literal["coordinate", "box"] = "coordinate",
        alpha: float = 0.5,
        gamma: float = 1.5,
        beta: float = 1.0,
        weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0),
    ):
        super().__init__()
        for name, value in (("overlap", overlap), ("coordinates", coordinates)):
            require(0 <= value < float("inf"), name, "0 or greater", value)
        require(overlap + coordinates > 0, "overlap", "greater than 0 where coordinates is 0", overlap)
        require(metric in ("iou", "giou"), "metric", "'iou' or 'giou'", metric)
        require(variance in ("coordinate", "box"), "variance", "'coordinate' or 'box'", variance)
        require(len(weights) == 4 and min(weights) > 0, "weights", "four numbers above 0", weights)
        self.inliers, self.ambiguity, self.overlap, self.coordinates = inliers, ambiguity, overlap, coordinates
        self.metric, self.variance, self.weights = metric, variance, tuple(weights)
        self.error = BalancedL1Loss(alpha=alpha, gamma=gamma, beta=beta) if inliers else SmoothL1Loss(beta=beta)
        if ambiguity and variance == "box":
            self.needs_log_variance = True  # the head looks for it
        elif ambiguity:
            self.log_variance = nn.Parameter(torch.zeros(4))

    def forward(
        self,
        predicted: Float[Tensor, "P 4"],
        target: Float[Tensor, "P 4"],
        log_variance: Float[Tensor, "P 4"] | None = None,
    ) -> Float[Tensor, " P"]:
        """The loss of each pair."""
        predicted, target = widen(predicted), widen(target)
        loss = predicted.new_zeros(len(predicted))
        if self.coordinates:
            loss = loss + self.coordinates * self._coordinates(predicted, target, log_variance)
        if self.overlap:
            loss = loss + self.overlap * self._overlap(predicted, target)
        return loss

    def _coordinates(self, predicted: Tensor, target: Tensor, log_variance: Tensor | None) -> Tensor:
        own = getattr(self, "log_variance", None)
        spread = own if log_variance is None else log_variance
        if not self.ambiguity or spread is None:
            return self.error(predicted, target)
        each = self.error(predicted.reshape(-1, 1), target.reshape(-1, 1)).reshape(predicted.shape)
        spread = widen(spread).to(each.dtype).clamp(-_LIMIT, _LIMIT)
        return (torch.exp(-spread) * each + spread / 2).sum(1)

    def _overlap(self, predicted: Tensor, target: Tensor) -> Tensor:
        unit = predicted.new_tensor((-0.5, -0.5, 0.5, 0.5)).expand_as(predicted)
        if hasattr(self, "needs_log_variance"):  # a code of corners
            scale = predicted.new_tensor(self.weights)
            pair = compare(unit + predicted / scale, unit + target / scale)
        else:
            pair = compare(*(boxes.decode(code, unit, self.weights) for code in (predicted, target)))
        return 1 - pair.iou + (pair.gap if self.metric == "giou" else 0)

    def extra_repr(self) -> str:
        """The settings."""
        return (
            f"inliers={self.inliers}, ambiguity={self.ambiguity}, overlap={self.overlap}, "
            f"coordinates={self.coordinates}, metric={self.metric!r}, variance={self.variance!r}, "
            f"error={self.error!r}, weights={self.weights}"
        )
