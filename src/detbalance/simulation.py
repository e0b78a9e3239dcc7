"""Boxes that are regressed by gradient descent alone: how fast, and from where, a loss brings them home.

The experiment of DIoU's authors (Zheng et al., AAAI 2020, arXiv:1911.08287, section 3.1 and algorithm 1): targets of
area 1 in seven aspect ratios at the centre; anchors at points drawn evenly from the disc of radius 3 about it, in seven
scales and seven aspect ratios; 200 steps at rates of 0.1, from 80 % of the way 0.01, from 90 % 0.001, each times 2 -
IoU. The error is the sum of |x|, |y|, |w| and |h| off. The authors take 5000 points: 1,715,000 boxes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import box_convert

from .boxes import decode, encode, paired_iou

__all__ = ["CELLS", "RADIUS", "Descent", "simulate"]

RADIUS = 3.0
CELLS = 24
"""cells a side of the map of final errors"""
RATIOS = (1 / 4, 1 / 3, 1 / 2, 1.0, 2.0, 3.0, 4.0)
SCALES = (0.5, 0.67, 0.75, 1.0, 1.33, 1.5, 2.0)
_CHUNK = 500  # points whose boxes move at a time
_THINNEST = 1e-3  # a side does not fall below this, where the authors let it turn negative


@dataclass(frozen=True, eq=False)
class Descent:
    """What one loss made of the boxes."""

    error: Tensor
    """(iterations + 1,) mean error of the boxes, the start first"""
    iou: Tensor
    """(iterations + 1,) mean IoU with the target"""
    place: Tensor
    """(CELLS, CELLS) mean final error by where the anchor began, rows are y; nan where none did"""


def simulate(
    losses: Mapping[str, Callable],
    *,
    points: int = 100,
    iterations: int = 200,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Descent]:
    """Regress boxes from many starts under each box loss; losses of another kind are left out.

    A loss on the box code moves the code, as a detector does, any other the centre and the sides. Where a box
    collapses, its sides stay at a thousandth.

    Args:
        losses: by name.
        points: anchors' places; each stands for 7 x 7 x 7 boxes. The paper has 5000.
        iterations: steps of gradient descent.
        seed: of the places.
        progress: called with (steps done, steps in all).

    >>> from detbalance.losses import DIoULoss, IoULoss
    >>> found = simulate({"IoU": IoULoss(mode="linear"), "DIoU": DIoULoss()}, points=5, iterations=40)
    >>> bool(found["DIoU"].error[-1] < found["IoU"].error[-1] < found["IoU"].error[0])
    True
    """
    for name, value in (("points", points), ("iterations", iterations)):
        if value < 1:
            raise ValueError(f"expected {name} of at least 1 but got {value}")
    losses = {name: loss for name, loss in losses.items() if hasattr(loss, "space")}
    places = _places(points, seed)
    parts = places.split(_CHUNK)
    total, done = len(losses) * len(parts) * iterations, 0
    found = {}
    for name, loss in losses.items():
        sums, final = torch.zeros(2, iterations + 1, dtype=torch.float64), []
        for part in parts:
            anchors, targets = _start(part)
            for step, (boxes, iou) in enumerate(_descend(deepcopy(loss), anchors, targets, iterations)):
                error = (boxes - targets).abs().sum(1)
                sums[:, step] += torch.stack((error.double().sum(), iou.double().sum()))
                done += step > 0
                if progress is not None and step:
                    progress(done, total)
            final.append(error.view(len(part), -1).mean(1))
        mean = sums / (points * len(RATIOS) ** 2 * len(SCALES))
        found[name] = Descent(*mean, _map(places, torch.cat(final)))
    return found


def _places(points: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    radius, angle = torch.rand(2, points, generator=generator)
    radius, angle = RADIUS * radius.sqrt(), 2 * torch.pi * angle
    return torch.stack((radius * angle.cos(), radius * angle.sin()), 1)


def _start(places: Tensor) -> tuple[Tensor, Tensor]:
    """Anchors and targets (N, 4), centre and sides; N = points x 7 x 7 x 7."""
    roots, sides = torch.tensor(RATIOS).sqrt(), torch.tensor(SCALES).sqrt()
    shapes = torch.stack((roots, 1 / roots), 1)
    anchors = (sides[:, None, None] * shapes).reshape(-1, 2)
    count, kinds, targets = len(places), len(anchors), len(shapes)
    full = (count, targets, kinds, 2)
    boxes = torch.cat((places[:, None, None].expand(full), anchors.expand(full)), -1)
    truth = torch.cat((torch.zeros(full), shapes[:, None].expand(full)), -1)
    return boxes.reshape(-1, 4), truth.reshape(-1, 4)


def _descend(loss: Callable, anchors: Tensor, targets: Tensor, iterations: int):
    """Yield the boxes and their IoU, before the first step and after each: centre and sides move, or the code."""
    start, truth = _corners(anchors), _corners(targets)
    if in_code := loss.space == "code":
        free, goal = torch.zeros_like(anchors), encode(truth, start)
    else:
        free, goal = anchors.clone(), truth
    boxes, iou = anchors, paired_iou(start, truth)
    yield boxes, iou
    for step in range(iterations):
        free.requires_grad_()
        value = loss(free if in_code else _corners(free), goal)
        (gradient,) = torch.autograd.grad(value.sum(), free)
        rate = 0.1 if step < 0.8 * iterations else 0.01 if step < 0.9 * iterations else 0.001
        free = free.detach() - (rate * (2 - iou))[:, None] * gradient
        if in_code:
            boxes = box_convert(decode(free, start), "xyxy", "cxcywh")
        else:
            free[:, 2:].clamp_(min=_THINNEST)
            boxes = free
        iou = paired_iou(_corners(boxes), truth)
        yield boxes, iou


def _corners(boxes: Tensor) -> Tensor:
    return box_convert(boxes, "cxcywh", "xyxy")


def _map(places: Tensor, error: Tensor) -> Tensor:
    cell = ((places / RADIUS + 1) / 2 * CELLS).long().clamp(0, CELLS - 1)
    cell = cell[:, 1] * CELLS + cell[:, 0]
    count = torch.bincount(cell, minlength=CELLS**2)
    total = torch.bincount(cell, error.double(), CELLS**2)
    return (total / count.where(count > 0, torch.nan)).view(CELLS, CELLS)
