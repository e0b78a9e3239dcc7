"""What the head says at present of some rows, in float32 at least: half precision can neither hold an area nor rank."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from .. import boxes as box_ops
from ..common import widen
from ..types import Samples

__all__ = ["class_scores", "predicted_boxes"]


def class_scores(samples: Samples, rows: Int[Tensor, " R"]) -> Float[Tensor, "R C"]:
    """The class probabilities of the rows, with gradient."""
    logits = widen(samples.logits[rows])
    return logits.softmax(-1) if samples.softmax else logits.sigmoid()


def predicted_boxes(samples: Samples, rows: Int[Tensor, " R"]) -> Float[Tensor, "R 4"]:
    """The predicted boxes of the rows, xyxy pixels, with gradient."""
    decode = samples.decode or box_ops.decode
    return decode(widen(samples.deltas[rows]), samples.boxes[rows])
