"""Where a piece may lie: enough of it in the image, and not too much on another."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.ops import box_iou

from ._draw import uniforms

_TRIES = 20  # the authors' number (Dwibedi et al.)


def place(
    wide: int,
    high: int,
    size: tuple[int, int],
    boxes: Float[Tensor, "G 4"],
    *,
    outside: float = 0.0,
    overlap: float = 1.0,
) -> tuple[int, int] | None:
    """Left and top, even over all places; None if none is found.

    Args:
        wide, high: of the piece.
        size: height and width of the image.
        boxes: those there are.
        outside: share of the piece's area that may lie outside of the image.
        overlap: largest IoU with any of the boxes.
    """
    extent = torch.tensor([wide, high], dtype=torch.float64)
    image = torch.tensor(size[::-1], dtype=torch.float64)
    low, high_end = -outside * extent, image - (1 - outside) * extent
    corner = (low + (high_end - low).clamp(min=0) * uniforms(_TRIES, 2)).round()
    end = corner + extent
    inside = (torch.minimum(end, image) - corner.clamp(min=0)).clamp(min=0)
    good = inside.prod(1) >= (1 - outside) * extent.prod()
    if len(boxes):
        shown = torch.cat((corner.clamp(min=0), torch.minimum(end, image)), 1)
        good &= box_iou(shown, boxes.double()).amax(1) <= overlap
    if not good.any():
        return None
    first = int(good.byte().argmax())
    return int(corner[first, 0]), int(corner[first, 1])
