"""Greedy suppression by any measure of likeness."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def greedy(
    boxes: Float[Tensor, "N 4"],
    scores: Float[Tensor, " N"],
    labels: Int[Tensor, " N"],
    measure: Callable[[Tensor, Tensor], Tensor],
    threshold: float,
) -> Int[Tensor, " M"]:
    """The rows that stay, best first: each takes with it those of its class that are worse and like it by more than
    `threshold`. `measure` (M, 4), (N, 4) -> (M, N). One class is held as a table at a time.

    >>> from torchvision.ops import box_iou
    >>> boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 6]])
    >>> greedy(boxes, torch.tensor([0.7, 0.9, 0.8]), torch.ones(3).long(), box_iou, 0.65)
    tensor([1])
    """
    order = scores.sort(descending=True, stable=True).indices
    stays = torch.zeros_like(order, dtype=torch.bool)
    for label in labels.unique():
        rows = order[labels[order] == label]
        like = measure(boxes[rows], boxes[rows]) > threshold
        stays[rows] = _unbeaten(like.triu(1))
    return order[stays[order]]


def _unbeaten(beats: Bool[Tensor, "N N"]) -> Bool[Tensor, " N"]:
    """Which stay, if row i beats column j > i unless it is beaten itself. Each pass settles at least one more row (as
    in Cluster-NMS, Zheng et al. 2022), so the result is that of the loop; a few passes do."""
    stays = beats.new_ones(len(beats))
    while True:
        now = ~(beats & stays[:, None]).any(0)
        if torch.equal(now, stays):
            return stays
        stays = now
