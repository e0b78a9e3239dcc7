"""What the methods of all folders share: checked settings, float32 at least, sums over processes."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["require", "sum_over_ranks", "widen", "world_size"]


def require(condition: bool, name: str, allowed: str, value: object) -> None:
    """Raise the ValueError of a setting that is out of range."""
    if not condition:
        raise ValueError(f"{name} must be {allowed}, but is {value!r}")


def widen(tensor: Tensor) -> Tensor:
    """float16 and bfloat16 become float32; float64 stays, so that gradients can be checked."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def world_size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_over_ranks(statistic: Tensor) -> Tensor:
    """The sum over all processes, so that N of them keep the statistics of one. Every process must call it."""
    if world_size() > 1:
        statistic = statistic.detach().clone()
        dist.all_reduce(statistic)
    return statistic
