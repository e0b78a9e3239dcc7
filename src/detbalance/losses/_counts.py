"""How many objects, or images, of each class the training data have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..common import require


class Counted(nn.Module):
    """A module that knows the counts of the classes, in a buffer, so that they go with the checkpoint.

    Args:
        counts: of each column; that of column 0, the background, is not used. None: those of the training data, which
            `train`, or `priors.set_from_data` in a loop of one's own, fills in.
    """

    counts_of: ClassVar[str] = "objects"
    """"objects" or "images": what is counted"""
    counts: Tensor

    def __init__(self, counts: Sequence[int] | None):
        super().__init__()
        self.given = None if counts is None else tuple(counts)
        self.register_buffer("counts", torch.zeros(0))
        if counts is not None:
            self.set_counts(counts)

    def set_counts(self, counts: Sequence[int]) -> None:
        """Fill in the counts, column 0 first."""
        values = torch.as_tensor(counts, dtype=torch.float32)
        valid = values.dim() == 1 and len(values) > 1 and bool((values >= 0).all())
        require(valid, "counts", "a number for the background and each class", counts)
        self.counts.resize_(values.shape).copy_(values)

    def needed(self, columns: int) -> Tensor:
        """(C,) the counts. Raises ValueError if they are not known, or are those of another number of columns."""
        if not len(self.counts):
            raise ValueError(
                f"{type(self).__name__} has not been told how frequent the classes are: give counts, train with "
                "detbalance.training.train, or call priors.set_from_data(model, annotations)"
            )
        if len(self.counts) != columns:
            raise ValueError(f"counts must have one entry a column, {columns}, but has {len(self.counts)}")
        return self.counts

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *rest: object) -> None:
        for name, buffer in self.named_buffers(recurse=False):
            if prefix + name in state_dict:
                buffer.resize_(state_dict[prefix + name].shape)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _settings(self) -> str:
        return f"counts={self.given}"
