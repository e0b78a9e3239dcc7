"""What the assigners share: coordinates and predictions to reckon with, and who gets a candidate that several want."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..common import widen
from ..types import BACKGROUND, Target

__all__ = ["centers", "inside", "nobody", "numbers", "predicted", "scores_of", "settle"]


def numbers(boxes: Tensor, target: Target) -> tuple[Float[Tensor, "N 4"], Float[Tensor, "G 4"]]:
    """Candidates and objects in float32 at least: half-precision coordinates are whole pixels off."""
    boxes = widen(boxes)
    return boxes, target["boxes"].to(boxes.dtype)


def nobody(boxes: Float[Tensor, "N 4"]) -> Int[Tensor, " N"]:
    """All candidates show background."""
    return torch.full((len(boxes),), BACKGROUND, dtype=torch.int64, device=boxes.device)


def predicted(
    assigner: object, predictions: tuple[Tensor, Tensor] | None
) -> tuple[Float[Tensor, "N C"], Float[Tensor, "N 4"]]:
    """Scores and boxes that the detector predicts now; an error that names the assigner where it gives none."""
    if predictions is None:
        raise ValueError(
            f"{type(assigner).__name__} goes by the present predictions, which this head does not give its assigner; "
            "it is for one-stage detectors"
        )
    scores, boxes = predictions
    return widen(scores.detach()), widen(boxes.detach())


def scores_of(scores: Float[Tensor, "N C"], labels: Int[Tensor, " G"]) -> Float[Tensor, "G N"]:
    """The score of each object's class; a single column stands for all classes."""
    return scores.t()[labels.clamp(max=scores.shape[1] - 1)]


def settle(
    objects: Int[Tensor, " P"], rows: Int[Tensor, " P"], value: Float[Tensor, " P"], candidates: int
) -> Int[Tensor, " N"]:
    """`matched` of pairs of an object and a candidate: a candidate goes to the object of the highest value, the first
    of equal ones, and shows background where it is in no pair.

    >>> settle(torch.tensor([0, 1, 1]), torch.tensor([2, 2, 0]), torch.tensor([0.3, 0.7, 0.1]), 4)
    tensor([ 1, -1,  1, -1])
    """
    best = value.new_full((candidates,), -torch.inf).scatter_reduce(0, rows, value, "amax")
    won = value == best[rows]
    matched = torch.full((candidates,), BACKGROUND, dtype=torch.int64, device=rows.device)
    return matched.scatter_reduce(0, rows[won], objects[won], "amin", include_self=False)


def centers(boxes: Float[Tensor, "N 4"]) -> Float[Tensor, "N 2"]:
    """The middles of boxes."""
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def inside(points: Float[Tensor, "N 2"], boxes: Float[Tensor, "G 4"]) -> Bool[Tensor, "G N"]:
    """Which points lie within which boxes, not on their edges."""
    x, y = points.unbind(1)
    left, top, right, bottom = boxes[:, :, None].unbind(1)
    return (x > left) & (x < right) & (y > top) & (y < bottom)
