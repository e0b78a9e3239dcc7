"""The generator of guided anchors, and what location and shape learn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..assigners import MaxIoUAssigner
from ..boxes import box_iou
from ..common import sum_over_ranks, widen, world_size
from ..losses import BoundedIoULoss, FocalLoss
from ..types import IGNORED, Target
from ..valid_ranges import VALID
from ._guidance import Guidance
from ._locations import location_targets, places

__all__ = ["GuidedAnchors"]

_LARGEST_LOG = math.log(1000.0 / 16)  # torchvision's own limit on log w, log h: keeps exp() finite


class GuidedAnchors(nn.Module):
    """Takes the place of a detector's anchor generator: an anchor a place, of the shape that the head predicts there.

    Args:
        head: has the maps of its last pass in `predicted`, a pair of location and shape a level.
        bases: side of each level's square, pixels.
        guidance: the settings.
    """

    def __init__(self, head: nn.Module, bases: Sequence[float], guidance: Guidance) -> None:
        super().__init__()
        self._of = (head,)  # in a tuple, or the head would be a part of this module as well
        self.bases, self.guidance = tuple(map(float, bases)), guidance

    def num_anchors_per_location(self) -> list[int]:
        """Of each level."""
        return [1] * len(self.bases)

    def forward(self, images, features: list[Tensor]) -> list[Float[Tensor, "N 4"]]:
        """The anchors of each image; in detection those of places without an object have no size."""
        maps = self._of[0].__dict__.pop("predicted")
        height, width = images.tensors.shape[-2:]
        sizes = [tuple(location.shape[-2:]) for location, _ in maps]
        strides = [(height // h, width // w) for h, w in sizes]
        location = torch.cat([widen(m).flatten(1) for m, _ in maps], 1)
        centre, side = places(sizes, strides, self.bases, location)
        shape = torch.cat([widen(m).flatten(2).mT for _, m in maps], 1)
        if self.training:
            self._last = location, shape, centre, side, sizes, strides
        extent = side[:, None] * shape.detach().clamp(-_LARGEST_LOG, _LARGEST_LOG).exp()
        if not self.training:
            extent = extent * (location.sigmoid() >= self.guidance.threshold)[..., None]
        return list(torch.cat((centre - extent / 2, centre + extent / 2), -1).unbind())

    def losses(self, targets: list[Target]) -> dict[str, Float[Tensor, ""]]:
        """What location and shape learn from the images of the last pass: `location` and `shape`."""
        location, shape, centre, side, sizes, strides = self.__dict__.pop("_last")
        with torch.autocast(location.device.type, enabled=False):
            goals = [location_targets(t, sizes, strides, self.bases, self.guidance) for t in targets]
            squares = torch.cat((centre - side[:, None] / 2, centre + side[:, None] / 2), 1)
            shapes = [self._shape_loss(s, side, squares, t) for s, t in zip(shape, targets)]
            count = _mean_over_ranks(torch.stack([n for _, n in shapes]).sum())
            return {
                "location": self.guidance.location_weight * self._location_loss(location, torch.stack(goals)),
                "shape": self.guidance.shape_weight * torch.stack([value for value, _ in shapes]).sum() / count,
            }

    def _location_loss(self, logits: Float[Tensor, "B N"], goals: Int[Tensor, "B N"]) -> Float[Tensor, ""]:
        positive = goals == 1
        weight = torch.full_like(logits, self.guidance.background_weight)
        weight = weight.masked_fill(goals == IGNORED, 0.0).masked_fill(positive, 1.0)
        values = FocalLoss()(logits.reshape(-1, 1), positive.reshape(-1, 1).to(logits.dtype)).view_as(logits)
        return (values * weight).sum() / _mean_over_ranks(positive.sum())

    def _shape_loss(self, shape: Tensor, side: Tensor, squares: Tensor, target: Target) -> tuple[Tensor, Tensor]:
        """Summed over the places of one image that learn a shape, and how many these are."""
        truth = target["boxes"].to(squares.dtype)
        truth = truth[target[VALID]] if VALID in target else truth
        assign = _ShapeAssigner(pairs=self.guidance.pairs(), positive=self.guidance.positive, negative=0.0)
        matched = assign(squares, {"boxes": truth})
        rows = (matched >= 0).nonzero().squeeze(1)
        extent = side[rows, None] * shape[rows].clamp(-_LARGEST_LOG, _LARGEST_LOG).exp()
        box = truth[matched[rows]]
        # Both about the same middle: the error of the place is no matter of the shape.
        loss = BoundedIoULoss(beta=0.2, factor=1.0)(_about_zero(extent), _about_zero(box[:, 2:] - box[:, :2]))
        return loss.sum(), torch.tensor(len(rows), device=shape.device)


@dataclass(frozen=True, kw_only=True)
class _ShapeAssigner(MaxIoUAssigner):
    """`MaxIoUAssigner` by the best IoU that an anchor of any shape could reach, approximated by a few shapes.

    >>> square = torch.tensor([[4.0, 0, 12, 8]])  # the object is twice as wide
    >>> _ShapeAssigner(pairs=((1.0, 1.0), (2**0.5, 0.5))).measure(torch.tensor([[0.0, 0, 16, 8]]), square)
    tensor([[1.]])
    """

    pairs: tuple[tuple[float, float], ...] = Guidance().pairs()
    """scale and height / width"""

    def measure(self, truth: Float[Tensor, "G 4"], boxes: Float[Tensor, "N 4"]) -> Float[Tensor, "G N"]:
        """The best IoU over the shapes; `boxes` are squares."""
        middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
        best = truth.new_zeros(len(truth), len(boxes))
        for scale, ratio in self.pairs:
            extent = half * half.new_tensor((scale / math.sqrt(ratio), scale * math.sqrt(ratio)))
            best = torch.maximum(best, box_iou(truth, torch.cat((middle - extent, middle + extent), 1)))
        return best


def _about_zero(extent: Float[Tensor, "P 2"]) -> Float[Tensor, "P 4"]:
    return torch.cat((-extent / 2, extent / 2), 1)


def _mean_over_ranks(count: Tensor) -> Tensor:
    """A number of positives, 1 at least, averaged over the processes."""
    return (sum_over_ranks(count.float()) / world_size()).clamp(min=1)
