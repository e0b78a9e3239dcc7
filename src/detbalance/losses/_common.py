"""What losses share: checked settings, float32 at least, and powers with a bounded slope."""

from __future__ import annotations

import torch
from torch import Tensor


def require(condition: bool, name: str, allowed: str, value: object) -> None:
    """Raise the ValueError of a setting that is out of range."""
    if not condition:
        raise ValueError(f"{name} must be {allowed}, but is {value!r}")


def widen(tensor: Tensor) -> Tensor:
    """float16 and bfloat16 become float32; float64 stays, so that gradients can be checked."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def power(base: Tensor, exponent: float) -> Tensor:
    """base^exponent of a base in [0, inf). Below exponent 1 its slope has no bound at 0, so it is cut off there."""
    return base.clamp(min=1e-12) ** exponent if exponent < 1 else base**exponent
