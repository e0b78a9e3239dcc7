"""What every loss does first: check its settings, and compute in float32 at least."""

from __future__ import annotations

import torch
from torch import Tensor

__all__: list[str] = []


def require(condition: bool, name: str, allowed: str, value: object) -> None:
    """Raise the ValueError of a setting that is out of range."""
    if not condition:
        raise ValueError(f"{name} must be {allowed}, but is {value!r}")


def widen(tensor: Tensor) -> Tensor:
    """float16 and bfloat16 become float32; float64 stays, so that gradients can be checked."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
