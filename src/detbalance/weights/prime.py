"""Prime sample attention, part one: importance-based sample reweighting (ISR)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..boxes import paired_iou
from ..common import widen
from ..ranks import foreground_score, hierarchical_rank, nms_match
from ..taxonomy import Imbalance
from ..types import Samples
from ._present import class_scores, predicted_boxes

__all__ = ["PrimeSampleWeights"]


@dataclass(frozen=True, kw_only=True)
class PrimeSampleWeights:
    """Gives most weight to the best-placed box of each object and the worst false alarm of each place: they decide AP.

    Cao et al., "Importance-based Sample Reweighting"; review eq. 5 and 6. With the hierarchical local rank r (0 first):

        u = (N - r) / N,   w = ((1 - bias) u + bias) ** power

    Positives (ISR-P) are ranked by the IoU of the *predicted* box with its object: within the object, then within the
    class over the whole batch; N is the number of positives of the largest class. Negatives (ISR-N) are ranked by their
    highest object score: within clusters of predicted boxes of one image (non-maximum suppression at `iou_threshold`),
    then over the batch; N is their number, and those that score no more than `score_threshold` share the last rank.
    Each part is then scaled so that its total classification loss stays what it was (`samples.loss`; where there is
    none, its total weight).

    The review's toy example (its table 3) counts the background among the classes of N; public code and this do not:
    N would always be the number of negatives, and all positives would weigh the same. Public code ranks negatives image
    by image among all candidates, here it is over the batch, as for positives, among the sampled ones. ISR-N clusters
    every negative above the threshold: made for sampled heads; leave `negative=False` where all anchors train.

    Shapes: samples of S rows -> (S,), detached. Applies to the class loss.

    Checked by: sum(w * loss) = sum(loss) over each part; power 0 or bias 1 weighs all rows by 1; equal ranks of
    different objects of one class are ordered by IoU.

    >>> from detbalance.types import Samples
    >>> box = torch.tensor([[0.0, 0, 10, 10]]).expand(4, 4)
    >>> shift = torch.tensor([[0.0], [0.1], [0.0], [0.2]]) * torch.tensor([[1.0, 0, 0, 0]])
    >>> one = Samples(logits=torch.zeros(4, 2), labels=torch.ones(4, dtype=torch.long), deltas=shift, codes=shift * 0,
    ...     boxes=box, truth=box, iou=torch.ones(4), image=torch.tensor([0, 0, 1, 1]),
    ...     level=torch.zeros(4).long(), norm=torch.full((4,), 0.25), matched=torch.zeros(4).long())
    >>> PrimeSampleWeights(positive_power=1)(one)
    tensor([1.6000, 0.8000, 1.2000, 0.4000])
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FOREGROUND_BACKGROUND,)
    paper: ClassVar[str] = (
        "Cao, Chen, Loy, Lin, Prime Sample Attention in Object Detection, CVPR 2020, arXiv:1904.04821"
    )
    applies_to: ClassVar[str] = "class"

    positive: bool = True
    negative: bool = True
    positive_power: float = 2.0
    positive_bias: float = 0.0
    negative_power: float = 0.5
    negative_bias: float = 0.0
    score_threshold: float = 0.05
    iou_threshold: float = 0.5

    def __post_init__(self) -> None:
        for name in ("positive_power", "negative_power"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be 0 or more, and finite, got {getattr(self, name)!r}")
        for name in ("positive_bias", "negative_bias", "iou_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)!r}")
        if not self.score_threshold <= 1:
            raise ValueError(f"score_threshold must be at most 1 (below 0: all), got {self.score_threshold!r}")

    @torch.no_grad()
    def __call__(self, samples: Samples) -> Float[Tensor, " S"]:
        loss = widen(samples.norm if samples.loss is None else samples.norm * samples.loss())
        weights = torch.ones_like(loss)
        if self.positive:
            rows = samples.positive.nonzero().squeeze(1)
            rank = self._rank_positives(samples, rows)
            count = rank.amax() + 1 if len(rank) else 1  # the last rank of the largest class
            weights[rows] = _weigh(rank, count, self.positive_power, self.positive_bias, loss[rows])
        if self.negative:
            rows = (~samples.positive).nonzero().squeeze(1)
            rank = self._rank_negatives(samples, rows)
            weights[rows] = _weigh(rank, len(rows), self.negative_power, self.negative_bias, loss[rows])
        return weights

    def _rank_positives(self, samples: Samples, rows: Int[Tensor, " P"]) -> Int[Tensor, " P"]:
        iou = paired_iou(predicted_boxes(samples, rows), samples.truth[rows])
        return hierarchical_rank(iou, samples.instance()[rows], samples.labels[rows])

    def _rank_negatives(self, samples: Samples, rows: Int[Tensor, " Q"]) -> Int[Tensor, " Q"]:
        score = foreground_score(class_scores(samples, rows))
        high = score > self.score_threshold
        score, image = score[high], samples.image[rows[high]]
        boxes = predicted_boxes(samples, rows[high])
        cluster, first = torch.zeros_like(image), 0
        for one in image.unique():
            mine = image == one
            number = nms_match(boxes[mine], score[mine], self.iou_threshold)
            cluster[mine] = number + first
            first += len(number)
        rank = torch.full_like(rows, max(0, len(score) - 1))
        rank[high] = hierarchical_rank(score, cluster, torch.zeros_like(cluster))
        return rank


def _weigh(rank: Tensor, count: int | Tensor, power: float, bias: float, loss: Tensor) -> Tensor:
    """Equations 5 and 6, scaled so that the total of `loss` stays what it was."""
    share = 1 - rank.to(loss.dtype) / count
    weight = ((1 - bias) * share + bias) ** power
    scale = loss.sum() / (weight * loss).sum()
    return weight * torch.where(scale.isfinite() & (scale > 0), scale, 1.0)
