"""What both heads of a two-stage detector share: torchvision's box loss, its averaging, how a head is replaced."""

from __future__ import annotations

from copy import copy
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .stage import StageLoss, mean_over_ranks

__all__ = ["norm", "smooth_l1", "subclassed"]

Head = TypeVar("Head", bound=nn.Module)

# A module's tables of parts, copied so that the part we add does not show up in the old head.
_TABLES = ("_parameters", "_buffers", "_modules")


def subclassed(old: nn.Module, kind: type[Head]) -> Head:
    """`old` as an instance of `kind`, a subclass of its class: same parameters, same state_dict keys."""
    new = kind.__new__(kind)
    nn.Module.__init__(new)
    new.__dict__.update({k: copy(v) if k in _TABLES else v for k, v in old.__dict__.items()})
    return new


def smooth_l1(predicted: Tensor, target: Tensor) -> Tensor:
    """torchvision's box loss in both heads."""
    return F.smooth_l1_loss(predicted, target, reduction="none", beta=1 / 9).sum(1)


def norm(treatment: StageLoss, labels: Tensor, like: Tensor, rows: int | None = None) -> Tensor:
    """The averaging of torchvision's two-stage heads, over all samples of the batch: for so many rows, or for each."""
    count = (labels > 0).sum() if treatment.normalised_by_positives else torch.tensor(len(labels), device=like.device)
    count = mean_over_ranks(count.to(like.dtype)).clamp(min=1)
    return (1 / count).expand(len(labels) if rows is None else rows)
