"""Statistics of each class that a loss gathers while it trains."""

from __future__ import annotations

import torch
from torch import nn


class PerClass(nn.Module):
    """A module with one number a class in each named buffer.

    The buffers take their length from the first batch, or from a checkpoint, so that a recipe need not know the
    dataset. They are resized in place: whoever holds them (a distributed wrapper) keeps holding the right ones.
    """

    def __init__(self, *names: str):
        super().__init__()
        for name in names:
            self.register_buffer(name, torch.zeros(0))

    @property
    def gathers(self) -> bool:
        """Only a training step counts; hard example mining, which merely looks at the loss, does not."""
        return self.training and torch.is_grad_enabled()

    def fit(self, columns: int) -> None:
        """Give the buffers their length. Raises ValueError if they have another one already."""
        for buffer in self.buffers(recurse=False):
            if not len(buffer):
                buffer.resize_(columns).zero_()
            elif len(buffer) != columns:
                raise ValueError(f"logits must have {len(buffer)} columns, as in earlier batches, but have {columns}")

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *rest: object) -> None:
        for name, buffer in self.named_buffers(recurse=False):
            if prefix + name in state_dict:
                buffer.resize_(state_dict[prefix + name].shape)
        super()._load_from_state_dict(state_dict, prefix, *rest)
