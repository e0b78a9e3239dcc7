"""Box arithmetic: intersection over union and the (dx, dy, log w, log h) code. xyxy pixels throughout."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.ops import box_iou

__all__ = ["box_iou", "decode", "encode", "mean_side", "paired_iou", "wasserstein"]

_LARGEST_LOG = math.log(1000.0 / 16)  # torchvision's own limit on log w, log h: keeps exp() finite


def paired_iou(first: Float[Tensor, "N 4"], second: Float[Tensor, "N 4"]) -> Float[Tensor, " N"]:
    """IoU of row i of the one with row i of the other; 0 where both are empty. Safe gradient everywhere.

    >>> paired_iou(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 0, 3, 2]]))
    tensor([0.3333])
    """
    top_left = torch.maximum(first[:, :2], second[:, :2])
    bottom_right = torch.minimum(first[:, 2:], second[:, 2:])
    intersection = (bottom_right - top_left).clamp(min=0).prod(1)
    area1 = (first[:, 2:] - first[:, :2]).clamp(min=0).prod(1)
    area2 = (second[:, 2:] - second[:, :2]).clamp(min=0).prod(1)
    union = area1 + area2 - intersection
    return intersection / torch.where(union > 0, union, torch.ones_like(union))


def encode(
    truth: Float[Tensor, "N 4"],
    boxes: Float[Tensor, "N 4"],
    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0),
) -> Float[Tensor, "N 4"]:
    """The code that turns `boxes` into `truth` (Girshick et al. 2014): offsets by size, logarithms of size ratios.

    >>> encode(torch.tensor([[1.0, 0, 3, 2]]), torch.tensor([[0.0, 0, 2, 2]]))
    tensor([[0.5000, 0.0000, 0.0000, 0.0000]])
    """
    size, true_size = boxes[:, 2:] - boxes[:, :2], truth[:, 2:] - truth[:, :2]
    shift = (truth[:, :2] + truth[:, 2:] - boxes[:, :2] - boxes[:, 2:]) / (2 * size)
    return torch.cat((shift, torch.log(true_size / size)), 1) * boxes.new_tensor(weights)


def decode(
    deltas: Float[Tensor, "N 4"],
    boxes: Float[Tensor, "N 4"],
    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0),
) -> Float[Tensor, "N 4"]:
    """The box that a code makes of `boxes`; the inverse of `encode`.

    >>> decode(torch.tensor([[0.5, 0, 0, 0]]), torch.tensor([[0.0, 0, 2, 2]]))
    tensor([[1., 0., 3., 2.]])
    """
    boxes = boxes.to(deltas.dtype)
    code = deltas / deltas.new_tensor(weights)
    size = boxes[:, 2:] - boxes[:, :2]
    center = boxes[:, :2] + 0.5 * size + code[:, :2] * size
    half = 0.5 * size * code[:, 2:].clamp(max=_LARGEST_LOG).exp()
    return torch.cat((center - half, center + half), 1)


def wasserstein(first: Float[Tensor, "*S 4"], second: Float[Tensor, "*S 4"]) -> Float[Tensor, "*S"]:
    """2-Wasserstein distance, in pixels, of normal distributions with the boxes' centres as means and half their sides
    as standard deviations (Wang et al. 2021, equation 5). The shapes broadcast. Its gradient at equal boxes is 0.

    >>> wasserstein(torch.tensor([0.0, 0, 4, 4]), torch.tensor([[3.0, 4, 7, 8], [0, 0, 10, 4]]))
    tensor([5.0000, 4.2426])
    """
    # Half the sum and half the difference of the corners' differences: exact far from the origin.
    low, high = first[..., :2] - second[..., :2], first[..., 2:] - second[..., 2:]
    squared = ((high + low) / 2).square().sum(-1) + ((high - low) / 2).square().sum(-1)
    return squared.clamp(min=1e-24).sqrt()


def mean_side(boxes: Float[Tensor, "N 4"]) -> Float[Tensor, ""]:
    """Mean side (square root of the area) of boxes, in pixels, no less than 1e-3; 1 without any. No gradient.

    >>> mean_side(torch.tensor([[0.0, 0, 4, 4], [0, 0, 2, 8]]))
    tensor(4.)
    """
    sides = (boxes.detach()[:, 2:] - boxes.detach()[:, :2]).clamp(min=0).prod(1).sqrt()
    return sides.mean().clamp(min=1e-3) if len(sides) else sides.new_ones(())
