"""What networks share that learn against one another in one step, each while the other stands still."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .common import widen

__all__ = ["entropy", "still"]


def still(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """The module with parameters that learn nothing; what it is given still has its gradient.

    >>> layer, x = nn.Linear(1, 1, bias=False), torch.ones(1, 1, requires_grad=True)
    >>> still(layer)(x).sum().backward()
    >>> layer.weight.grad is None, x.grad is None
    (True, False)
    """
    fixed = {name: p.detach() for name, p in module.named_parameters()}
    return lambda x: torch.func.functional_call(module, fixed, (x,))


def entropy(logit: Float[Tensor, " n"], truth: float) -> Float[Tensor, " n"]:
    """Binary cross-entropy of each row with one truth for all.

    >>> entropy(torch.zeros(1), 1.0)
    tensor([0.6931])
    """
    logit = widen(logit)
    return F.binary_cross_entropy_with_logits(logit, torch.full_like(logit, truth), reduction="none")
