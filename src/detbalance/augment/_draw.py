"""Chance, from torch's own generator: the dataset seeds it for each image, whatever worker makes it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def uniform(low: float = 0.0, high: float = 1.0) -> float:
    """A number in [low, high)."""
    return low + (high - low) * float(torch.rand((), dtype=torch.float64))


def uniforms(*shape: int) -> Tensor:
    """Numbers in [0, 1), float64."""
    return torch.rand(shape, dtype=torch.float64)


def whole(low: int, high: int) -> int:
    """A whole number from low to high, both included."""
    return int(torch.randint(low, high + 1, ()))


def row(weights: np.ndarray) -> int:
    """A row, in proportion to its weight; weights are 0 or more, and not all 0."""
    ends = np.cumsum(weights)
    # The last row of any weight takes what rounding leaves beyond the sum.
    return min(int(np.searchsorted(ends, uniform() * ends[-1], side="right")), int(np.flatnonzero(weights)[-1]))
