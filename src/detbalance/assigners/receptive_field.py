"""Assignment by receptive fields, for tiny objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..common import require
from ..tables import largest, slices
from ..taxonomy import Imbalance
from ..types import BACKGROUND, Target
from ._common import centers, nobody, numbers, settle

__all__ = ["ReceptiveFieldAssigner"]


@dataclass(frozen=True, kw_only=True)
class ReceptiveFieldAssigner:
    """Gives every object, however small, the candidates whose receptive field resembles it most. IoU knows nothing of
    objects that no anchor overlaps and of how near those are; a distance between normal distributions does, so tiny
    objects get as many positives as large ones.

    Xu et al. (RFLA). An object is a normal distribution with the box's middle as mean and half its sides as standard
    deviations, and so is a candidate's effective receptive field. Their likeness is 1 / (1 + D), D the Kullback-Leibler
    divergence of the field from the object ("kl") or the squared Wasserstein distance ("wasserstein"). The hierarchical
    assignment takes for each object the `first` candidates of the highest likeness, then shrinks the fields by `decay`
    and lets each object have `second` more among those not yet taken. A candidate of several objects goes to the one
    that it resembles most; all others show background.

    The effective field is a square of `fraction` of the level's theoretical field, given in `fields` (pixels; of
    ResNet-50 with a pyramid (91, 267, 427, 555, 811) for levels 3 to 7, (35, 91, 267, 427, 555) for 2 to 6). Where
    `fields` is None the candidate's own box stands for it.

    Shapes: boxes (N, 4), target of G objects, levels (N,), predictions unused -> (N,).
    Identity: a candidate that equals the object has likeness 1 and comes first.
    Errors: ValueError for settings out of range, or fewer fields than levels.

    >>> x = torch.arange(4) * 16.0
    >>> boxes = torch.stack((x, torch.zeros(4), x + 16, torch.full((4,), 16.0)), 1)
    >>> tiny = {"boxes": torch.tensor([[14.0, 6, 18, 10]]), "labels": torch.tensor([1])}
    >>> ReceptiveFieldAssigner(first=1)(boxes, tiny, torch.zeros(4, dtype=torch.long))
    tensor([ 0, -1, -1, -1])
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.OBJECT_SCALE, Imbalance.FOREGROUND_BACKGROUND)
    paper: ClassVar[str] = (
        "Xu et al., RFLA: Gaussian Receptive Field based Label Assignment for Tiny Object Detection, ECCV 2022, "
        "arXiv:2208.08738"
    )

    first: int = 3
    second: int = 1
    decay: float = 0.9
    """of the fields' sides, for the second assignment"""
    distance: str = "kl"
    """"kl" or "wasserstein\""""
    fields: tuple[float, ...] | None = None
    """side of each level's theoretical receptive field, pixels"""
    fraction: float = 0.5
    """of the theoretical field that is effective"""

    def __post_init__(self) -> None:
        require(self.first >= 1, "first", "at least 1", self.first)
        require(self.second >= 0, "second", "at least 0", self.second)
        require(0 < self.decay <= 1, "decay", "in (0, 1]", self.decay)
        require(0 < self.fraction <= 1, "fraction", "in (0, 1]", self.fraction)
        require(self.distance in ("kl", "wasserstein"), "distance", "'kl' or 'wasserstein'", self.distance)
        fields = self.fields is None or (len(self.fields) > 0 and min(self.fields) > 0)
        require(fields, "fields", "None or sides greater than 0", self.fields)

    def __call__(
        self,
        boxes: Float[Tensor, "N 4"],
        target: Target,
        levels: Int[Tensor, " N"],
        predictions: tuple[Tensor, Tensor] | None = None,
    ) -> Int[Tensor, " N"]:
        boxes, truth = numbers(boxes, target)
        if not len(truth) or not len(boxes):
            return nobody(boxes)
        sides = self._sides(boxes, levels)
        matched = self._ranked(boxes, sides, truth, self.first)
        if not self.second:
            return matched
        more = self._ranked(boxes, sides * self.decay, truth, self.second)
        return torch.where(matched == BACKGROUND, more, matched)

    def _sides(self, boxes: Tensor, levels: Tensor) -> Float[Tensor, "N 2"]:
        if self.fields is None:
            return boxes[:, 2:] - boxes[:, :2]
        require(len(self.fields) > int(levels.amax()), "fields", f"{int(levels.amax()) + 1} sides or more", self.fields)
        return self.fraction * boxes.new_tensor(self.fields)[levels][:, None].expand(-1, 2)

    def _ranked(self, boxes: Tensor, sides: Tensor, truth: Tensor, count: int) -> Int[Tensor, " N"]:
        """Each object takes the `count` candidates that resemble it most."""
        points, found = centers(boxes), []
        likeness = {"kl": _kl, "wasserstein": _wasserstein}[self.distance]
        for part in slices(len(truth), len(boxes)):
            middle, side = centers(truth[part])[:, None], (truth[part, 2:] - truth[part, :2])[:, None]
            table = 1 / (1 + sum(likeness(*axis) for axis in _axes(points, sides, middle, side)))
            objects, rows = largest(table, count)
            found.append((objects + part.start, rows, table[objects, rows]))
        return settle(*map(torch.cat, zip(*found)), len(boxes))


def _axes(points: Tensor, sides: Tensor, middle: Tensor, side: Tensor):
    """(squared shift, side of the field, side of the object) along x and along y: the distances are sums over both."""
    for i in (0, 1):
        yield (points[:, i] - middle[..., i]) ** 2, sides[:, i].clamp(min=1e-6), side[..., i].clamp(min=1e-6)


def _kl(shift: Tensor, field: Tensor, side: Tensor) -> Float[Tensor, "G N"]:
    return 0.5 * ((field / side) ** 2 + 4 * shift / side**2 - 1) - (field / side).log()


def _wasserstein(shift: Tensor, field: Tensor, side: Tensor) -> Float[Tensor, "G N"]:
    return shift + (field - side) ** 2 / 4
