"""Adversarial examples: an opponent hides and turns parts of the regions that the detector finds easy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ..common import require, sum_over_ranks, widen, world_size
from ..opponents import still
from ..taxonomy import Imbalance
from ..types import RegionParts, RegionStep, Samples
from ._kept import gathered
from ._losses import class_rows, plain_losses
from ._norms import norms_as_they_are

__all__ = ["AdversarialExamples"]


@dataclass(frozen=True, kw_only=True)
class AdversarialExamples:
    """Makes examples that no image of the data shows, where they are needed: an opponent learns which part of an object
    to hide, and how to turn its features, so that the detector fails, and the detector learns to tell it all the same.

    Wang et al., A-Fast-RCNN, on the pooled features (d x d places) of the regions that show an object:

    - `hide`, the spatial dropout network (ASDN, section 4.1): of all windows of d/3 x d/3 places the one whose loss of
      features raises the classification loss most is searched, and the network learns it by binary cross-entropy
      (`loss_hiding`). From the upper half of the places that it points at a random third is set to 0.
    - `turn`, the spatial transformer network (ASTN, section 4.2): it turns four blocks of channels, each by an angle of
      its own within +-`degrees`, and learns by the reversed gradient of the classification loss.

    Both together hide first and turn then, as the paper does. The head sees the changed regions beside the ones as they
    are, and its losses of these, with the average of the step, train it (`loss_hard_classifier`, `loss_hard_box_reg`):
    the plain detector's losses, whatever the recipe's. Opponent and detector learn in the same step, each with the
    other held fixed. For `start` steps the opponent alone learns, as the paper trains it beforehand. Nothing of it is
    left in detection.

    What differs from the paper, or is from memory: the head sees changed and plain features in the same step (the
    authors' code seems to alternate); the paper trains detector and opponent for many thousand iterations first and
    then keeps those masks that lowered the score, here the exact search goes on in every step; the authors' code drops
    15 of the 20 places pointed at of 7 x 7, while upper half and a third are from memory of the text, as are the order
    of both, the degrees and the four blocks; the sizes of both networks are ours.

    Shapes: RegionParts -> RegionParts. It comes behind others in the slot `region`, and takes a pool that gives a map.
    Identity: with `hide` and `turn` off the added losses are those of the objects' regions as they are.
    Errors: ValueError for settings out of range, channels that `turn` cannot part into four, or a pool that gives more
    than a map of each region.

    >>> from detbalance.detectors import build
    >>> from detbalance import Recipe, attach
    >>> model = attach(build("faster_rcnn", classes=2).train(), Recipe(name="mine", region=AdversarialExamples()))
    >>> target = {"boxes": torch.tensor([[8.0, 8, 60, 60]]), "labels": torch.tensor([1])}
    >>> sorted(model([torch.rand(3, 96, 128)], [target]))[2:5]
    ['loss_hard_box_reg', 'loss_hard_classifier', 'loss_hiding']
    """

    hide: bool = True
    turn: bool = True
    window: float = 1 / 3
    """side of the hidden window, over the region's"""
    upper: float = 0.5
    """share of the places that may be hidden, those that the opponent points at most"""
    hidden: float = 1 / 3
    """share of these that is hidden, at random"""
    degrees: float = 10.0
    """largest angle, either way"""
    weight: float = 1.0
    """of the detector's losses of the changed regions"""
    start: int = 100
    """steps of training during which the opponent alone learns"""

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FOREGROUND_BACKGROUND, Imbalance.FOREGROUND_FOREGROUND)
    paper: ClassVar[str] = (
        "Wang, Shrivastava, Gupta, A-Fast-RCNN: Hard Positive Generation via Adversary for Object Detection, CVPR "
        "2017, arXiv:1704.03414"
    )

    def __post_init__(self) -> None:
        for name in ("window", "upper", "hidden"):
            require(0 < getattr(self, name) <= 1, name, "above 0, and 1 at most", getattr(self, name))
        require(0 <= self.degrees <= 180, "degrees", "from 0 to 180", self.degrees)
        require(0 <= self.weight < float("inf"), "weight", "0 or greater", self.weight)
        require(isinstance(self.start, int) and self.start >= 0, "start", "an integer of 0 or more", self.start)

    def __call__(self, parts: RegionParts) -> RegionParts:
        if self.turn and parts.channels % BLOCKS:
            raise ValueError(f"{self!r} turns {BLOCKS} blocks of channels, but the regions have {parts.channels}")
        parts.pool.opponent = _Opponent(self, parts.channels)
        return parts


BLOCKS = 4
"""of channels that are turned together"""


class _Opponent(nn.Module):
    """Both networks, and the losses of a step."""

    steps: Tensor

    def __init__(self, settings: AdversarialExamples, channels: int) -> None:
        super().__init__()
        self.settings = settings
        self.hiding = _Hiding(channels) if settings.hide else None
        self.turning = _Turning(channels, settings.degrees) if settings.turn else None
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def supervise(self, step: RegionStep) -> dict[str, Tensor]:
        """The losses of the opponent, and of the detector on what it makes."""
        if not (isinstance(step.pooled, Tensor) and step.pooled.dim() == 4):
            raise ValueError(f"{self.settings!r} changes the map of each region, but this pool gives more than a map")
        with torch.autocast(step.pooled.device.type, enabled=False):
            shows = step.samples.positive
            if step.samples.generated is not None:
                shows = shows & ~step.samples.generated
            rows, losses = shows.nonzero().squeeze(1), {}
            alone = bool(self.steps < self.settings.start)
            self.steps += 1
            clean = widen(step.pooled)[rows]
            hard = fixed = clean.detach() if alone else clean
            if self.hiding is not None:
                heat = self.hiding(clean.detach())
                losses["loss_hiding"] = self._hiding_loss(heat, clean.detach(), shows, step)
                hard = fixed = hard * sampled_mask(heat.detach(), self.settings.upper, self.settings.hidden)[:, None]
            if self.turning is not None:
                angles = self.turning(fixed.detach())
                hard, fixed = turned(hard, _Reversed.apply(angles)), turned(fixed, angles.detach())
            # The boxes are learnt from the same regions, but do not drive the opponent.
            classified = self._seen(hard, rows, shows, step, alone=alone)
            regressed = classified if hard is fixed else self._seen(fixed, rows, shows, step, alone=alone)
            told, placed = plain_losses(classified)[0], plain_losses(regressed)[1]
        weight = 1.0 if alone else self.settings.weight
        return {**losses, "loss_hard_classifier": weight * told, "loss_hard_box_reg": weight * placed}

    def _seen(
        self, x: Tensor, rows: Int[Tensor, " R"], shows: Bool[Tensor, " S"], step: RegionStep, *, alone: bool
    ) -> Samples:
        """What the head makes of changed regions; with `alone` its parameters learn nothing from it."""
        head, predictor = (still(part) if alone else part for part in (step.head, step.predictor))
        with norms_as_they_are(step.head, step.predictor):
            logits, regression = predictor(head(x))
        count = len(step.samples.labels)
        table = step.table(*(gathered([(rows, widen(part))], count) for part in (logits, regression)))
        return table.take(shows)

    def _hiding_loss(self, heat: Tensor, x: Tensor, shows: Tensor, step: RegionStep) -> Tensor:
        side = max(1, round(self.settings.window * x.shape[-1]))
        with torch.no_grad(), norms_as_they_are(step.head, step.predictor):
            samples = step.samples.take(shows)

            def loss(changed: Tensor) -> Tensor:
                return class_rows(replace(samples, logits=widen(step.predictor(step.head(changed))[0])))

            window = hardest_window(x, side, loss)
        found = F.binary_cross_entropy_with_logits(heat, window.to(heat.dtype), reduction="none").mean((1, 2))
        count = sum_over_ranks(found.new_tensor(float(len(found)))) / world_size()
        return found.sum() / count.clamp(min=1)


def hardest_window(x: Float[Tensor, "R C h w"], side: int, loss: Callable[[Tensor], Tensor]) -> Bool[Tensor, "R h w"]:
    """The window of `side` x `side` places without which each region's loss is highest; the first of several.

    >>> x = torch.zeros(1, 1, 3, 3)
    >>> x[0, 0, 2, 1] = 5.0
    >>> hardest_window(x, 1, lambda changed: -changed.sum((1, 2, 3)))[0].int()
    tensor([[0, 0, 0],
            [0, 0, 0],
            [0, 1, 0]], dtype=torch.int32)
    """
    count, _, height, width = x.shape
    best = x.new_full((count,), -math.inf)
    found = torch.zeros(count, height, width, dtype=torch.bool, device=x.device)
    for top in range(height - side + 1):
        for left in range(width - side + 1):
            window = torch.zeros(height, width, dtype=torch.bool, device=x.device)
            window[top : top + side, left : left + side] = True
            value = loss(x.masked_fill(window, 0))
            better = value > best
            best = torch.where(better, value, best)
            found = torch.where(better[:, None, None], window, found)
    return found


def sampled_mask(heat: Float[Tensor, "R h w"], upper: float, hidden: float) -> Float[Tensor, "R h w"]:
    """1 where a place stays, 0 where it is hidden: a random share of those of the highest heat.

    >>> sampled_mask(torch.arange(16.0).reshape(1, 4, 4), 0.5, 1.0)[0].int()
    tensor([[1, 1, 1, 1],
            [1, 1, 1, 1],
            [0, 0, 0, 0],
            [0, 0, 0, 0]], dtype=torch.int32)
    """
    places = heat.flatten(1)
    eligible = max(1, round(upper * places.shape[1]))
    top = places.topk(eligible, dim=1).indices
    order = torch.rand(top.shape, device=heat.device).argsort(1)[:, : max(1, round(hidden * eligible))]
    return torch.ones_like(places).scatter(1, top.gather(1, order), 0.0).reshape(heat.shape)


def turned(x: Float[Tensor, "R C h w"], angles: Float[Tensor, "R 4"]) -> Float[Tensor, "R C h w"]:
    """Each block of channels turned about the middle, by angles in radians; zeros come in at the corners."""
    count, channels, height, width = x.shape
    blocks = angles.shape[1]
    if not count:
        return x + angles.sum()
    cos, sin, none = angles.flatten().cos(), angles.flatten().sin(), torch.zeros_like(angles.flatten())
    ratio = height / width  # of a place's share of the height to that of the width
    matrix = torch.stack((cos, -sin * ratio, none, sin / ratio, cos, none), 1).reshape(-1, 2, 3)
    shape = (count * blocks, channels // blocks, height, width)
    grid = F.affine_grid(matrix, list(shape), align_corners=False)
    return F.grid_sample(x.reshape(shape), grid, align_corners=False).reshape(x.shape)


class _Hiding(nn.Module):
    """(R, C, h, w) -> (R, h, w), a logit for each place: is it of the part without which the detector fails?"""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(8, channels // 4)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, hidden, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(hidden, 1, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).squeeze(1)


class _Turning(nn.Module):
    """(R, C, h, w) -> (R, 4) angles in radians; at first hardly any."""

    def __init__(self, channels: int, degrees: float) -> None:
        super().__init__()
        hidden = max(8, channels // 4)
        self.limit = math.radians(degrees)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, hidden, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
        )
        self.angles = nn.Linear(4 * hidden, BLOCKS)
        nn.init.normal_(self.angles.weight, std=1e-2)
        nn.init.zeros_(self.angles.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.limit * self.angles(self.layers(x)).tanh()


class _Reversed(torch.autograd.Function):
    """The same values, and the gradient turned round: what makes a loss fall behind it makes it rise before it."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return -gradient
