"""Powers with a bounded slope."""

from __future__ import annotations

from torch import Tensor


def power(base: Tensor, exponent: float) -> Tensor:
    """base^exponent of a base in [0, inf). Below exponent 1 its slope has no bound at 0, so it is cut off there."""
    return base.clamp(min=1e-12) ** exponent if exponent < 1 else base**exponent
