"""What the head says at present of some rows, in float32 at least: half precision can neither hold an area nor rank."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .. import boxes as box_ops
from ..types import Samples

__all__ = ["class_scores", "full_precision", "predicted_boxes"]


def full_precision(values: Tensor) -> Tensor:
    """float32, or float64 where it is that already.

    >>> full_precision(torch.zeros(1, dtype=torch.float16)).dtype
    torch.float32
    """
    return values.to(torch.promote_types(values.dtype, torch.float32))


def class_scores(samples: Samples, rows: Int[Tensor, " R"]) -> Float[Tensor, "R C"]:
    """The class probabilities of the rows, with gradient."""
    logits = full_precision(samples.logits[rows])
    return logits.softmax(-1) if samples.softmax else logits.sigmoid()


def predicted_boxes(samples: Samples, rows: Int[Tensor, " R"]) -> Float[Tensor, "R 4"]:
    """The predicted boxes of the rows, xyxy pixels, with gradient."""
    decode = samples.decode or box_ops.decode
    return decode(full_precision(samples.deltas[rows]), samples.boxes[rows])
