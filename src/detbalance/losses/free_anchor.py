"""FreeAnchor: the loss of a bag of anchors for each object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ..boxes import box_iou, encode
from ..common import require, sum_over_ranks, widen, world_size
from ..tables import largest, slices
from ..taxonomy import Imbalance
from ..types import Samples, Target
from .code import SmoothL1Loss

_TINY = 1e-12


@dataclass(frozen=True, kw_only=True)
class FreeAnchorLoss:
    """Lets an object choose its anchor among a bag of them, by likelihood: what counts is that some anchor finds it
    with class and box, not that the one of the highest IoU does. Slender and off-centre objects gain, whose best
    features are not where the best anchor lies.

    Zhang et al. The bag of an object are the `bag` anchors of the highest IoU. With P = P(class) P(box) and
    P(box) = exp(-`box_weight` smooth L1), the object's likelihood is the mean-max
    sum P / (1 - P) : sum 1 / (1 - P), which is a mean while the anchors are bad and a maximum once one is good.

        positive bags: alpha / G sum of -log mean-max
        negative bags: (1 - alpha) / (G bag) sum over anchors and classes of -q^gamma log(1 - q),
            q = P(class) (1 - the greatest claim of an object of the class to the anchor)

    where the claim of an object rises linearly with the IoU of the predicted box, from 0 at `claim` to 1 at the
    object's highest. All anchors must be there: a stage with this loss takes an assigner that ignores none, and no
    sampler; what the assigner finds positive is not read. The smooth L1 is that of the (dx, dy, log w, log h) code
    times `scales`, as the authors have it. Logarithms are exact where probabilities run out of digits.

    Objects are read from `samples.objects`; without it, from the positive rows. G counts the objects of the batch, the
    mean over the processes.

    Shapes: samples of S rows -> {"positive_bag": (), "negative_bag": ()}. Not averaged by `norm`.
    Identity: a bag of one anchor: alpha (cross-entropy of its class + box_weight smooth L1).
    Errors: ValueError for settings out of range.

    >>> from detbalance.types import Samples
    >>> box, number = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60]]), torch.zeros(3).long()
    >>> one = Samples(logits=torch.tensor([[-9.0, 1.0], [-9, 0], [-9, -3]]), labels=torch.tensor([1, 1, 0]),
    ...     deltas=torch.zeros(3, 4), codes=torch.zeros(3, 4), boxes=box, truth=box[:1].expand(3, 4),
    ...     iou=torch.tensor([1, 0.9, 0]), image=number, level=number, norm=torch.ones(3), matched=number)
    >>> FreeAnchorLoss(bag=2)(one)
    {'positive_bag': tensor(0.2530), 'negative_bag': tensor(0.0005)}
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FOREGROUND_BACKGROUND, Imbalance.LOCATION)
    paper: ClassVar[str] = (
        "Zhang et al., FreeAnchor: Learning to Match Anchors for Visual Object Detection, NeurIPS 2019, "
        "arXiv:1909.02466"
    )
    bounds: ClassVar[tuple[float, float]] = (0.0, float("inf"))

    bag: int = 50
    claim: float = 0.6
    """IoU of a predicted box with an object above which its anchor counts less as background"""
    alpha: float = 0.5
    gamma: float = 2.0
    box_weight: float = 0.75
    beta: float = 0.11
    scales: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)
    """of the code's coordinates"""

    def __post_init__(self) -> None:
        require(self.bag >= 1, "bag", "at least 1", self.bag)
        require(0 <= self.claim < 1, "claim", "in [0, 1)", self.claim)
        require(0 <= self.alpha <= 1, "alpha", "in [0, 1]", self.alpha)
        require(self.gamma >= 0, "gamma", "at least 0", self.gamma)
        require(self.box_weight >= 0, "box_weight", "at least 0", self.box_weight)
        require(self.beta >= 0, "beta", "at least 0", self.beta)

    def __call__(self, samples: Samples) -> dict[str, Tensor]:
        logits, predicted = widen(samples.logits), widen(samples.predicted())
        present, absent = _log_scores(logits, samples.softmax)
        claims = torch.zeros_like(present)
        likelihoods = [present.new_zeros(0)]
        for image, target in _objects(samples):
            rows = (samples.image == image).nonzero().squeeze(1)
            if not len(rows) or not len(target["boxes"]):
                continue
            columns = _columns(target["labels"], present.shape[1], samples.softmax)
            truth, boxes = target["boxes"].to(logits.dtype), widen(samples.boxes[rows])
            objects, anchors = self._bags(truth, boxes)
            matched = rows[anchors]
            place = self._box_likelihood(predicted[matched], truth[objects], boxes[anchors])
            likelihoods.append(_mean_max((present[matched, columns[objects]] + place).view(len(truth), -1)))
            claims[rows] = self._claims(truth, predicted[rows].detach(), columns, present.shape[1])
        likelihood = torch.cat(likelihoods)
        count = sum_over_ranks(likelihood.new_tensor(float(len(likelihood)))) / world_size()
        return {
            "positive_bag": -self.alpha * likelihood.sum() / count.clamp(min=1),
            "negative_bag": (1 - self.alpha)
            * self._negative(present, absent, claims)
            / (count * self.bag).clamp(min=1),
        }

    def _bags(self, truth: Tensor, boxes: Tensor) -> tuple[Int[Tensor, " P"], Int[Tensor, " P"]]:
        """Pairs of each object with the anchors of its bag, as many for each."""
        found = [
            (part.start, largest(box_iou(truth[part], boxes), self.bag)) for part in slices(len(truth), len(boxes))
        ]
        return torch.cat([start + pair[0] for start, pair in found]), torch.cat([pair[1] for _, pair in found])

    def _box_likelihood(self, predicted: Tensor, truth: Tensor, anchors: Tensor) -> Float[Tensor, " P"]:
        """Logarithm of P(box)."""
        loss = SmoothL1Loss(beta=self.beta)
        codes = (encode(_solid(box), _solid(anchors), self.scales) for box in (predicted, truth))
        return -self.box_weight * loss(*codes)

    def _claims(self, truth: Tensor, predicted: Tensor, columns: Tensor, classes: int) -> Float[Tensor, "N C"]:
        """The greatest claim of an object of each class to each anchor."""
        claims = predicted.new_zeros(classes, len(predicted))
        for part in slices(len(truth), len(predicted)):
            iou = box_iou(truth[part], predicted)
            top = iou.amax(1, keepdim=True).clamp(min=self.claim + _TINY)
            # Where no prediction is better than the threshold, 0 / tiny.
            share = ((iou - self.claim) / (top - self.claim).clamp(min=_TINY)).clamp(0, 1)
            claims.scatter_reduce_(0, columns[part, None].expand_as(share), share, "amax")
        return claims.t()

    def _negative(self, present: Tensor, absent: Tensor, claims: Tensor) -> Float[Tensor, ""]:
        # 1 - q = (1 - P) + P claim: no difference of numbers that are nearly equal.
        other = torch.logaddexp(absent, present + claims.log())
        q = present.exp() * (1 - claims)
        focus = q**self.gamma if self.gamma >= 1 else q.clamp(min=_TINY) ** self.gamma
        return -(focus * other).sum()


def _log_scores(logits: Tensor, softmax: bool) -> tuple[Tensor, Tensor]:
    """Logarithms of each class's probability and of its complement; without the background column of a softmax."""
    if not softmax:
        return F.logsigmoid(logits), F.logsigmoid(-logits)
    present = logits.log_softmax(1)[:, 1:]
    return present, _log_complement(present)


def _log_complement(logarithm: Tensor) -> Tensor:
    """log(1 - p) of log(p)."""
    return (-torch.expm1(logarithm)).clamp(min=_TINY).log()


def _mean_max(logarithms: Float[Tensor, "G K"]) -> Float[Tensor, " G"]:
    """Logarithm of the mean-max of each row's probabilities, given theirs."""
    weights = -_log_complement(logarithms)
    return (logarithms + weights).logsumexp(1) - weights.logsumexp(1)


def _columns(labels: Tensor, classes: int, softmax: bool) -> Int[Tensor, " G"]:
    return labels - 1 if softmax else labels.clamp(max=classes - 1)


def _objects(samples: Samples) -> list[tuple[int, Target]]:
    """The objects of each image."""
    if samples.objects is not None:
        return list(enumerate(samples.objects))
    number, found = samples.instance(), []
    for image in samples.image.unique().tolist():
        rows = ((samples.image == image) & (number >= 0)).nonzero().squeeze(1)
        order = number[rows].argsort(stable=True)
        first = rows[order[number[rows][order].diff(prepend=number.new_full((1,), -1)) > 0]]
        found.append((image, {"boxes": samples.truth[first], "labels": samples.labels[first]}))
    return found


def _solid(boxes: Tensor) -> Tensor:
    """With sides that have a logarithm."""
    return torch.cat((boxes[:, :2], torch.maximum(boxes[:, 2:], boxes[:, :2] + 1e-3)), 1)
