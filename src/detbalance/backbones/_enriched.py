"""A backbone whose maps are enriched, from fine to coarse, with what light networks see in the image made smaller."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from itertools import pairwise
from math import gcd

import torch
from torch import Tensor, nn

from ..necks._resize import fit, resize

__all__ = ["Enriched", "convolution", "enrich", "output_channels"]

_TRIAL = 512  # pixels: torchvision's SSD makes no coarse maps of less


class Enriched(nn.Module):
    """What both ways share: a norm of each map, a step down from each enriched map to the next, a merge of the two.

    Group norm where the papers have batch norm: batches of detectors are small, and the coarsest map may be one pixel.
    """

    def __init__(self, channels: Sequence[int]):
        super().__init__()
        self.norms = nn.ModuleList(group_norm(c) for c in channels)
        self.downs = nn.ModuleList(convolution(a, b, 3, stride=2, relu=False) for a, b in pairwise(channels))
        self.merges = nn.ModuleList(convolution(c, c, 3) for c in channels)

    def forward(self, image: Tensor, maps: list[Tensor]) -> list[Tensor]:
        """(B, 3, H, W) images and their maps, fine to coarse -> the maps in the same sizes."""
        found: list[Tensor] = []
        for i, x in enumerate(maps):
            size = x.shape[-2:]
            image = resize(image, size)
            passed = fit(self.downs[i - 1](found[-1]), size) if i else None
            mixed = self.mix(i, self.norms[i](x), image, passed)
            found.append(self.merges[i](mixed.relu()).to(x.dtype))
        return found

    def mix(self, level: int, x: Tensor, image: Tensor, passed: Tensor | None) -> Tensor:
        """The normalised map, the image in its size, and what comes from the finer level (None at the finest)."""
        raise NotImplementedError


def enrich(backbone: nn.Module, enriched: Enriched) -> nn.Module:
    """The backbone, with its finest maps enriched from now on; its own parameters keep their names.

    Raises ValueError for one that runs all of its parts in turn: it would run this one, too.
    """
    if isinstance(backbone, (nn.Sequential, nn.ModuleDict, nn.ModuleList)):
        raise ValueError(f"expected a backbone with levels of its own but got a {type(backbone).__name__} of layers")
    backbone.enriched = enriched
    backbone.register_forward_hook(_enriched)
    return backbone


def _enriched(backbone: nn.Module, inputs: tuple, output: dict[str, Tensor]) -> dict[str, Tensor]:
    """A hook: the maps of as many levels as there are merges."""
    names = list(output)[: len(backbone.enriched.merges)]
    found = backbone.enriched(inputs[0], [output[name] for name in names])
    return type(output)({**output, **dict(zip(names, found))})


def output_channels(backbone: nn.Module, levels: int) -> list[int]:
    """Channels of the backbone's finest maps, tried on a black image: a backbone need not know them.

    Raises ValueError for a backbone that does not give maps by name.
    """
    parameter = next(backbone.parameters())
    with torch.no_grad():
        maps = deepcopy(backbone).eval()(parameter.new_zeros(1, 3, _TRIAL, _TRIAL))
    if not isinstance(maps, dict):
        raise ValueError(
            f"expected a backbone that gives a dict of maps, fine to coarse, but got {type(backbone).__name__}, which "
            f"gives a {type(maps).__name__}"
        )
    return [x.shape[1] for x in maps.values()][:levels]


def convolution(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, dilation: int = 1, relu: bool = True
) -> nn.Sequential:
    """A convolution that keeps the size (or divides it by the stride, rounding up), group norm, ReLU."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2 * dilation, dilation, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out")
    return nn.Sequential(layer, group_norm(outputs), *([nn.ReLU()] if relu else []))


def group_norm(channels: int) -> nn.GroupNorm:
    """Of groups of eight channels or more, where there are so many."""
    return nn.GroupNorm(gcd(8, max(1, channels // 8)), channels)
