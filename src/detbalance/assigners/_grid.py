"""How the candidates of a level lie, several about each place and the places in rows: read off the candidates."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..common import widen
from ._common import centers

__all__ = ["per_place", "spacing"]

_SAME = 1e-2  # pixels: centres that are nearer are one place


def per_place(points: Float[Tensor, "N 2"]) -> int:
    """How many candidates of one level share a place, given their centres: the first so many do.

    >>> per_place(torch.tensor([[4.0, 4.0], [4.0, 4.0], [12.0, 4.0], [12.0, 4.0]]))
    2
    """
    if not len(points):
        return 1
    return int(((points - points[0]).abs().amax(1) < _SAME).cumprod(0).sum())


def spacing(boxes: Float[Tensor, "N 4"], levels: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
    """The stride of each candidate's level: the least step from a place to the next. A level of a single place has the
    side of its boxes.

    >>> spacing(torch.tensor([[0.0, 0, 8, 8], [8, 0, 16, 8], [0, 8, 8, 16]]), torch.zeros(3, dtype=torch.long))
    tensor([8., 8., 8.])
    """
    # Half-precision centres of one place differ by their rounding.
    same = max(_SAME, 2 * torch.finfo(boxes.dtype).eps * float(boxes.abs().amax())) if len(boxes) else _SAME
    boxes = widen(boxes)
    stride = boxes.new_ones(len(boxes))
    for level in levels.unique().tolist():
        rows = levels == level
        steps = centers(boxes[rows]).diff(dim=0).abs().flatten()
        steps = steps[steps > same]
        sides = (boxes[rows, 2:] - boxes[rows, :2]).clamp(min=0).prod(1).sqrt()
        stride[rows] = steps.amin() if len(steps) else sides.mean()
    return stride
