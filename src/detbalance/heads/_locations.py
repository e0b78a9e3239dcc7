"""Where guided anchors learn that objects are: the places of every level, and what each of them shows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..types import BACKGROUND, IGNORED, Target
from ..valid_ranges import VALID
from ._guidance import Guidance

__all__ = ["location_targets", "places"]


def location_targets(
    target: Target,
    sizes: Sequence[tuple[int, int]],
    strides: Sequence[tuple[int, int]],
    bases: Sequence[float],
    guidance: Guidance,
) -> Int[Tensor, " N"]:
    """What each place of each level is: 1 the middle of an object, BACKGROUND or IGNORED.

    An object is for the level whose square is nearest to it in size. Of places that are the middle of one object and
    near another's, the first counts.

    >>> one = {"boxes": torch.tensor([[4.0, 0, 28, 8]])}
    >>> location_targets(one, [(1, 5)], [(8, 8)], [16.0], Guidance())
    tensor([-1, -2,  1, -2, -1])
    """
    boxes = target["boxes"].as_subclass(Tensor)
    valid = target.get(VALID, torch.ones(len(boxes), dtype=torch.bool, device=boxes.device))
    side = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-6).prod(1).sqrt()
    level = (side.log()[:, None] - boxes.new_tensor(bases).log()).abs().argmin(1)
    goals = []
    for i, (size, stride) in enumerate(zip(sizes, strides)):
        near = _region(boxes[(level - i).abs() <= 1], guidance.ignore, size, stride)
        middle = _region(boxes[(level == i) & valid], guidance.center, size, stride)
        goal = torch.full(size, BACKGROUND, device=boxes.device).masked_fill(near, IGNORED).masked_fill(middle, 1)
        goals.append(goal.flatten())
    return torch.cat(goals)


def _region(boxes: Tensor, share: float, size: tuple[int, int], stride: tuple[int, int]) -> Bool[Tensor, "H W"]:
    """The places within the middle part of some box; at least one of each box."""
    middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, share * (boxes[:, 2:] - boxes[:, :2]) / 2
    covered = []
    for axis in (1, 0):
        last, step = size[1 - axis] - 1, stride[1 - axis]
        low = ((middle[:, axis] - half[:, axis]) / step).round().clamp(0, last)
        high = ((middle[:, axis] + half[:, axis]) / step).round().clamp(0, last)
        place = torch.arange(last + 1, device=boxes.device)
        covered.append(((place >= low[:, None]) & (place <= high[:, None])).to(middle.dtype))
    return covered[0].t() @ covered[1] > 0


def places(
    sizes: Sequence[tuple[int, int]], strides: Sequence[tuple[int, int]], bases: Sequence[float], like: Tensor
) -> tuple[Float[Tensor, "N 2"], Float[Tensor, " N"]]:
    """Where torchvision has the centres of the anchors of all levels, and the side of the square there."""
    centres, sides = [], []
    for (height, width), (down, right), base in zip(sizes, strides, bases):
        y, x = (step * torch.arange(n, device=like.device) for n, step in ((height, down), (width, right)))
        y, x = torch.meshgrid(y, x, indexing="ij")
        centres.append(torch.stack((x.flatten(), y.flatten()), 1).to(like.dtype))
        sides.append(like.new_full((height * width,), base))
    return torch.cat(centres), torch.cat(sides)
