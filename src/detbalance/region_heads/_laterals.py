"""The lateral maps of a feature pyramid in a step of training."""

from __future__ import annotations

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["Laterals", "check_neck"]


def check_neck(neck: nn.Module | None, asker: object) -> None:
    """Raises ValueError for a pyramid without lateral layers."""
    if not hasattr(neck, "inner_blocks"):
        raise ValueError(
            f"{asker!r}: expected a feature pyramid with lateral layers (`inner_blocks`, as FPN has) but got "
            f"{type(neck).__name__}"
        )


class Laterals(nn.Module):
    """Sees what the lateral layers give, before anything is added to it, and holds it until it is taken."""

    def __init__(self) -> None:
        super().__init__()
        self._maps: dict[int, Tensor] = {}

    def watch(self, model: nn.Module) -> None:
        """From now on."""
        for i, layer in enumerate(model.backbone.fpn.inner_blocks):
            layer.register_forward_hook(partial(_keep, self, i))

    def take(self) -> list[Float[Tensor, "B C H W"]]:
        """Fine to coarse."""
        maps, self._maps = self._maps, {}
        return [maps[i] for i in sorted(maps)]


def _keep(laterals: Laterals, level: int, layer: nn.Module, inputs: tuple, output: Tensor) -> None:
    """A hook."""
    if laterals.training and torch.is_grad_enabled():
        laterals._maps[level] = output
