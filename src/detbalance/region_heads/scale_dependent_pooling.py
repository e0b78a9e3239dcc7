"""Scale dependent pooling: a map and a classifier of its own for each size of region, and early rejection."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torchvision.ops import MultiScaleRoIAlign

from ..common import require, widen
from ..taxonomy import Imbalance
from ..types import RegionParts, RegionStep
from ._kept import Grouped, HeadOfEachGroup, PredictorOfEachGroup, gathered
from ._levels import check_pool, pooled_from, scale_of

__all__ = ["ScaleDependentPooling"]

_CERTAIN = -1e4  # logit of every class of a region that is rejected


@dataclass(frozen=True, kw_only=True)
class ScaleDependentPooling:
    """Pools a region from the map that suits its height, and has for each of the maps a box head and a predictor of its
    own: small objects are told by fine features that need not serve the large ones, too. Background is rejected on the
    finest maps already, before the coarser ones and the heads are asked.

    Yang, Choi and Lin, section 3 (scale-dependent pooling): by height, below 64 pixels the third block of VGG, below
    128 the fourth, else the fifth (from memory; `bounds` gives others, and None takes the detector's own rule of levels
    with the height in place of the root of the area). Section 4 (cascaded rejection classifiers): in each group of
    sizes a classifier on every map up to the group's own, one after another, tells object from background; what it
    rejects is background from there on. The authors boost weak learners over single pooled features, offline, and set
    the thresholds for a rate of survival; here each is a logistic regression on all of them, learnt in the same
    training (a loss `loss_rejection`) without any gradient to the features, from what those before it let pass, and
    rejects an objectness below `reject`. In training all regions reach the heads.

    The finest level keeps the parameters and their names; those of the others, `further`, start as copies. The paper
    has no pyramid: the recipe stands on `necks.FeatureHierarchy`.

    Shapes: RegionParts -> RegionParts; pool and head give more than a tensor.
    Identity: `reject=None` with the bounds of torchvision's rule is a MultiScaleRoIAlign with a head for each level.
    Errors: ValueError for a pool that is no MultiScaleRoIAlign of several levels, bounds that are not one less than the
    levels, a head that is neither TwoMLPHead nor a Sequential, or a predictor of other layers than cls_score and
    bbox_pred; a box loss that learns deviations is refused.

    >>> from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
    >>> pool = MultiScaleRoIAlign(["0", "1"], 2, 2)
    >>> parts = RegionParts(pool, TwoMLPHead(12, 5), FastRCNNPredictor(5, 3), 3)
    >>> new = ScaleDependentPooling(bounds=(64.0,))(parts)
    >>> new.pool.levels([torch.tensor([[0.0, 0, 9, 63], [0, 0, 9, 64]])])
    tensor([0, 1])
    """

    bounds: tuple[float, ...] | None = None
    """heights in pixels at which a coarser level begins; None: the detector's own rule, by height"""
    reject: float | None = 0.01
    """objectness below which a region is rejected; None: nothing is, and no classifiers are learnt for it"""

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.OBJECT_SCALE,)
    paper: ClassVar[str] = (
        "Yang, Choi, Lin, Exploit All the Layers: Fast and Accurate CNN Object Detector with Scale Dependent Pooling "
        "and Cascaded Rejection Classifiers, CVPR 2016"
    )

    def __post_init__(self) -> None:
        ascending = self.bounds is None or (
            len(self.bounds) > 0 and self.bounds[0] > 0 and all(a < b for a, b in pairwise(self.bounds))
        )
        require(ascending, "bounds", "None or ascending heights above 0", self.bounds)
        require(self.reject is None or 0 < self.reject < 1, "reject", "None or between 0 and 1", self.reject)

    def __call__(self, parts: RegionParts) -> RegionParts:
        pool = check_pool(parts.pool, self)
        levels = len(pool.featmap_names)
        require(self.bounds is None or len(self.bounds) == levels - 1, "bounds", f"{levels - 1} heights", self.bounds)
        return replace(
            parts,
            pool=_HeightPool(pool, parts.channels, self),
            head=HeadOfEachGroup(parts.head, levels, self),
            predictor=_Predictor(parts.predictor, levels, self),
        )


class _HeightPool(nn.Module):
    """Each region from the level of its height, on the way there past the rejection classifiers of finer levels."""

    def __init__(self, pool: MultiScaleRoIAlign, channels: int, settings: ScaleDependentPooling) -> None:
        super().__init__()
        self.pool, self.bounds, self.reject = pool, settings.bounds, settings.reject
        self._finest = 0.0  # log2 of the stride of the finest map, as soon as one was seen
        size = channels * math.prod(pool.output_size)
        groups = range(len(pool.featmap_names)) if self.reject is not None else ()
        self.rejection = nn.ModuleList(nn.ModuleList(nn.Linear(size, 1) for _ in range(group + 1)) for group in groups)

    def levels(self, boxes: list[Float[Tensor, "N 4"]]) -> Int[Tensor, " R"]:
        """The level of each box, 0 the finest."""
        every = torch.cat(boxes)
        height, last = every[:, 3] - every[:, 1], len(self.pool.featmap_names) - 1
        if self.bounds is not None:
            return torch.bucketize(height, height.new_tensor(self.bounds), right=True)
        level = self.pool.canonical_level + torch.log2(height / self.pool.canonical_scale) + 1e-6
        return (level.floor() - self._finest).clamp(0, last).long()

    def forward(self, features, boxes, image_shapes) -> Grouped:
        maps = [features[name] for name in self.pool.featmap_names]
        self._finest = -math.log2(scale_of(maps[0], image_shapes))
        level, learns = self.levels(boxes), self.training and torch.is_grad_enabled()
        alive, found, verdicts = torch.ones_like(level, dtype=torch.bool), [], []
        for i, feature in enumerate(maps):
            wanted = alive & ((level >= i) if self.rejection and not self._idle(learns) else (level == i))
            rows = wanted.nonzero().squeeze(1)
            grid = pooled_from(feature, _of_rows(boxes, wanted), image_shapes, self.pool)
            if self.rejection and not self._idle(learns):
                verdict = self._verdict(i, level[rows], grid)
                if learns:
                    verdicts.append((rows, verdict))
                else:
                    alive[rows] = verdict.sigmoid() >= self.reject
            own = (level[rows] == i) & alive[rows]
            found.append((rows[own], grid[own].to(maps[0].dtype)))
        return Grouped(gathered(found, len(level)), [rows for rows, _ in found], verdicts)

    def _idle(self, learns: bool) -> bool:
        """Do the rejection classifiers have nothing to do? A look ahead in training shows what the heads will see."""
        return self.training and not learns

    def _verdict(self, layer: int, level: Int[Tensor, " n"], grid: Float[Tensor, "n C h w"]) -> Float[Tensor, " n"]:
        """The logits of the classifiers on one map, each for the regions of its group."""
        seen, logits = grid.detach().flatten(1), []
        for group in range(layer, len(self.rejection)):
            rows = (level == group).nonzero().squeeze(1)
            logits.append((rows, widen(self.rejection[group][layer](seen[rows]))))
        return gathered(logits, len(level)).squeeze(1)

    def supervise(self, step: RegionStep) -> dict[str, Tensor]:
        """The loss of the rejection classifiers: each learns from what those before it let pass."""
        if not self.rejection:
            return {}
        samples = step.samples
        norm = widen(samples.norm)
        counts = torch.ones_like(samples.positive) if samples.generated is None else ~samples.generated
        total = norm.new_zeros(())
        for rows, logits in step.pooled.more:
            target = samples.positive[rows].to(logits.dtype)
            loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
            total = total + (loss * norm[rows] * counts[rows]).sum()
            counts = counts.clone()
            counts[rows] &= logits.detach().sigmoid() >= self.reject
        return {"loss_rejection": total}


class _Predictor(PredictorOfEachGroup):
    def forward(self, seen: Grouped) -> tuple[Float[Tensor, "R K"], Float[Tensor, "R K4"]]:
        logits, regression = super().forward(seen)
        return logits.index_copy(0, *_certain(seen, logits)), regression


def _certain(seen: Grouped, logits: Tensor) -> tuple[Tensor, Tensor]:
    """The rows that were rejected, and their logits: background."""
    rejected = torch.ones(len(seen.x), dtype=torch.bool, device=logits.device)
    rejected[torch.cat(seen.rows)] = False
    rows = rejected.nonzero().squeeze(1)
    values = logits.new_full((len(rows), logits.shape[1]), _CERTAIN)
    values[:, 0] = 0
    return rows, values


def _of_rows(boxes: list[Float[Tensor, "N 4"]], wanted: Bool[Tensor, " R"]) -> list[Float[Tensor, "n 4"]]:
    """Some of the boxes of each image."""
    return [b[mask] for b, mask in zip(boxes, wanted.split([len(b) for b in boxes]))]
