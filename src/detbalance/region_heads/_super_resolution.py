"""The parts of super-resolution: generator, discriminator, dilated target extractor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchvision.ops import MultiScaleRoIAlign, roi_align

from ._kept import gathered

__all__ = ["Discriminator", "Generator", "dilated", "pooled_at"]


class Generator(nn.Module):
    """A region's features and those of a lower layer -> the features that it would have in a larger image.

    Adds to the features what a few residual blocks make of both; at first that is nothing.
    """

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.join = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)
            )
            for _ in range(blocks)
        )
        self.add = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.add.weight)
        nn.init.zeros_(self.add.bias)

    def forward(self, x: Float[Tensor, "n C h w"], lower: Float[Tensor, "n C h w"]) -> Float[Tensor, "n C h w"]:
        """Of the regions' own size."""
        y = F.relu(self.join(torch.cat((x, lower), 1)))
        for block in self.blocks:
            y = y + block(y)
        return x + self.add(F.relu(y))


class Discriminator(nn.Module):
    """A region's features -> the logit of their being those of a large region, and not made by the generator."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // 2, 1)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, hidden, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(hidden, hidden, 3, padding=1),
            nn.LeakyReLU(0.2),
        )
        self.score = nn.Linear(hidden, 1)

    def forward(self, x: Float[Tensor, "n C h w"]) -> Float[Tensor, " n"]:
        """One logit a region."""
        return self.score(self.layers(x).mean((2, 3))).squeeze(1)


@contextmanager
def dilated(network: nn.Module, factor: int = 2) -> Iterator[None]:
    """The network with the field of all its convolutions and poolings so many times as wide; weights and strides stay.

    At every second place its maps are then those of the same network on every second pixel.

    >>> layer, image = nn.Conv2d(1, 1, 3, 2, 1), torch.rand(1, 1, 8, 8)
    >>> with dilated(layer):
    ...     wide = layer(image)
    >>> torch.allclose(wide[..., ::2, ::2], layer(image[..., ::2, ::2]))
    True
    """
    layers = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.MaxPool2d))]
    before = [(m.dilation, m.padding) for m in layers]
    hooks = []
    try:
        for m, (dilation, padding) in zip(layers, before):
            m.dilation = _times(dilation, factor)
            if isinstance(m, nn.MaxPool2d):  # it refuses a padding beyond half its kernel
                m.padding = 0
                hooks.append(m.register_forward_pre_hook(partial(_pad, _times(padding, factor))))
            else:
                m.padding = _times(padding, factor)
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for m, (dilation, padding) in zip(layers, before):
            m.dilation, m.padding = dilation, padding


def _times(value: int | tuple[int, ...] | str, factor: int) -> int | tuple[int, ...] | str:
    if isinstance(value, str):
        return value  # "same" and "valid" follow the dilation
    return factor * value if isinstance(value, int) else tuple(factor * v for v in value)


def _pad(padding: int | tuple[int, int], layer: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    y, x = (padding, padding) if isinstance(padding, int) else padding
    return (F.pad(inputs[0], (x, x, y, y), value=float("-inf")),)


def pooled_at(
    maps: list[Float[Tensor, "B C H W"]],
    level: Int[Tensor, " R"],
    boxes: list[Float[Tensor, "N 4"]],
    scales: list[float],
    pool: MultiScaleRoIAlign,
) -> Float[Tensor, "R C h w"]:
    """The features of each box in the map of its level, in the size that `pool` gives; `scales` are cells a pixel."""
    found = []
    for i, (feature, scale) in enumerate(zip(maps, scales)):
        wanted = level == i
        some = [b[mask] for b, mask in zip(boxes, wanted.split([len(b) for b in boxes]))]
        grid = roi_align(feature, some, pool.output_size, spatial_scale=scale, sampling_ratio=pool.sampling_ratio)
        found.append((wanted.nonzero().squeeze(1), grid))
    return gathered(found, len(level))
