"""What the tests of single necks share: maps of odd sizes, random parameters, and resizing read place by place."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn


def maps(channels, sizes, batch=2):
    generator = torch.Generator().manual_seed(0)
    shapes = [(batch, c, *size) for c, size in zip(channels, sizes)]
    return {str(i): torch.randn(s, dtype=torch.float64, generator=generator) for i, s in enumerate(shapes)}


def randomise(neck, seed=0):
    """In float64 and evaluation, every parameter and statistic away from where it starts."""
    generator = torch.Generator().manual_seed(seed)
    neck = neck.double().eval()
    for p in neck.parameters():
        nn.init.normal_(p, std=0.4, generator=generator)
    for module in neck.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.3, generator=generator)
            nn.init.uniform_(module.running_var, 0.5, 2, generator=generator)
    return neck


def windows(x, size, reduce):
    """Adaptive pooling, one output place at a time."""
    (height, width), new = x.shape[-2:], x.new_empty(*x.shape[:2], *size)
    for i in range(size[0]):
        for j in range(size[1]):
            rows = slice(i * height // size[0], math.ceil((i + 1) * height / size[0]))
            columns = slice(j * width // size[1], math.ceil((j + 1) * width / size[1]))
            new[:, :, i, j] = reduce(x[:, :, rows, columns])
    return new


def at(x, i, j):
    """Bilinear value at a place between the pixels (B, C), zero outside."""
    value = x.new_zeros(x.shape[:2])
    for a in (math.floor(i), math.floor(i) + 1):
        for b in (math.floor(j), math.floor(j) + 1):
            if 0 <= a < x.shape[2] and 0 <= b < x.shape[3]:
                value = value + x[:, :, a, b] * (1 - abs(i - a)) * (1 - abs(j - b))
    return value


def bilinear(x, size):
    """Up, half a pixel in from the border, which is held beyond."""
    (height, width), new = x.shape[-2:], x.new_empty(*x.shape[:2], *size)
    for i in range(size[0]):
        for j in range(size[1]):
            row = min(max((i + 0.5) * height / size[0] - 0.5, 0), height - 1)
            column = min(max((j + 0.5) * width / size[1] - 0.5, 0), width - 1)
            new[:, :, i, j] = at(x, row, column)
    return new


def nearest(x, size):
    (height, width), new = x.shape[-2:], x.new_empty(*x.shape[:2], *size)
    for i in range(size[0]):
        for j in range(size[1]):
            new[:, :, i, j] = x[:, :, i * height // size[0], j * width // size[1]]
    return new


def mean(x, size):
    return windows(x, size, lambda w: w.mean((2, 3)))


def blend(x, size):
    """The mean down, bilinear up."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return mean(x, size) if x.shape[-2] >= size[0] and x.shape[-1] >= size[1] else bilinear(x, size)


def resize(x, size):
    """The maximum down, nearest neighbour up."""
    down = x.shape[-2] >= size[0] and x.shape[-1] >= size[1]
    return windows(x, size, lambda w: w.amax((2, 3))) if down else nearest(x, size)


@pytest.fixture
def naive():
    return SimpleNamespace(
        maps=maps, randomise=randomise, mean=mean, bilinear=bilinear, nearest=nearest, blend=blend, resize=resize, at=at
    )
