"""Valid ranges: which objects are of a size that one scale of an image, or one branch of a network, is made for.

Ranges are shares: the side of a box, the root of its area, over the side of its image, the root of *its* area. So they
mean the same at every training size, before and after an image is scaled; 1, the whole image, is no limit. The papers
give pixels of COCO's images, which are 640 x 480 as a rule and so have a side of 554: their 30, 90 and 160 pixels are
0.054, 0.162 and 0.289.

What is invalid takes no part in training (Singh and Davis, SNIP, section 5; Li et al., TridentNet, section 3.3): all
objects are assigned as usual, then the candidates of an invalid object are ignored, and so are anchors that overlap one
by more than 0.3; the region head trains on proposals within the range alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .common import require
from .tables import highest_iou
from .types import IGNORED, Target

__all__ = ["RANGE", "VALID", "check_ranges", "limits", "mark", "sides", "without_invalid", "without_invalid_regions"]

VALID = "valid"
"""of a target: (G,) bool, which objects are valid; all, where it is absent"""
RANGE = "valid_range"
"""of a target: (2,) the shortest and the longest side of a valid proposal, pixels of its image"""
_NEAR = 0.3


def sides(boxes: Float[Tensor, "N 4"]) -> Float[Tensor, " N"]:
    """The roots of the areas.

    >>> sides(torch.tensor([[0.0, 0, 9, 4], [5, 5, 5, 5]]))
    tensor([6., 0.])
    """
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1).sqrt()


def limits(valid: tuple[float, float], side: float) -> tuple[float, float]:
    """A range in pixels of an image of that side.

    >>> limits((0.25, 0.5), 100.0), limits((0.5, 1.0), 100.0)
    ((25.0, 50.0), (50.0, inf))
    """
    return valid[0] * side, valid[1] * side if valid[1] < 1 else math.inf


def mark(target: Target, valid: tuple[float, float], side: float) -> Target:
    """The target with what is valid of it marked; what was invalid before stays so.

    Args:
        target: of one image.
        valid: the range, shares of the image's side.
        side: of the image, in pixels of the target's boxes.

    >>> target = {"boxes": torch.tensor([[0.0, 0, 9, 4], [0, 0, 20, 20]]), "labels": torch.tensor([1, 1])}
    >>> mark(target, (0.0, 0.1), 100.0)["valid"]
    tensor([ True, False])
    """
    boxes = target["boxes"].as_subclass(Tensor)
    low, high = limits(valid, side)
    size = sides(boxes)
    inside = (size >= low) & (size <= high)
    pixels = boxes.new_tensor((low, high))
    if VALID in target:
        inside = inside & target[VALID]
    if RANGE in target:
        least, most = target[RANGE].unbind()
        pixels = torch.stack((torch.maximum(pixels[0], least), torch.minimum(pixels[1], most)))
    return {**target, VALID: inside, RANGE: pixels}


def without_invalid(matched: Int[Tensor, " N"], boxes: Float[Tensor, "N 4"], target: Target) -> Int[Tensor, " N"]:
    """What anchors are matched to, those of invalid objects, and those near one, ignored.

    >>> target = {"boxes": torch.tensor([[0.0, 0, 8, 8]]), "valid": torch.tensor([False])}
    >>> anchors = torch.tensor([[0.0, 0, 8, 8], [0, 0, 8, 4], [0, 0, 8, 2]])
    >>> without_invalid(torch.tensor([0, -1, -1]), anchors, target)
    tensor([-2, -2, -1])
    """
    if VALID not in target or not len(target[VALID]):
        return matched
    invalid = target["boxes"].to(boxes.dtype)[~target[VALID]]
    near = highest_iou(invalid, boxes) > _NEAR
    return torch.where(near | _of_invalid(matched, target), IGNORED, matched)


def without_invalid_regions(
    matched: Int[Tensor, " N"], boxes: Float[Tensor, "N 4"], target: Target
) -> Int[Tensor, " N"]:
    """What proposals are matched to, those of invalid objects, and those beyond the range, ignored."""
    if VALID in target and len(target[VALID]):
        matched = torch.where(_of_invalid(matched, target), IGNORED, matched)
    if RANGE in target:
        size, (low, high) = sides(boxes), target[RANGE].unbind()
        matched = torch.where((size < low) | (size > high), IGNORED, matched)
    return matched


def _of_invalid(matched: Tensor, target: Target) -> Bool[Tensor, " N"]:
    return (matched >= 0) & ~target[VALID][matched.clamp(min=0)]


def check_ranges(ranges: Sequence[tuple[float, float]], count: int) -> None:
    """Raises ValueError unless there is one range for each scale, and every size of object is valid at one of them."""
    good = len(ranges) == count and all(len(r) == 2 and 0 <= r[0] < r[1] for r in ranges)
    require(good, "ranges", f"{count} pairs of ascending shares", ranges)
    end = 0.0
    for low, high in sorted(ranges):
        require(low <= end, "ranges", f"without a gap, but objects of {end} to {low} are valid nowhere", ranges)
        end = max(end, high)
    require(end >= 1, "ranges", "as far as 1, the whole image", ranges)
