"""Batch norms that look away while a part of training runs besides the step itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["norms_as_they_are"]


@contextmanager
def norms_as_they_are(*modules: nn.Module) -> Iterator[None]:
    """Batch norms by their running statistics, which stay: other inputs than the step's are no sample of the data."""
    every = (m for module in modules for m in module.modules())
    norms = [m for m in every if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    try:
        for norm in norms:
            norm.eval()
        yield
    finally:
        for norm in norms:
            norm.train()
