"""An image while pieces are pasted on it, and the target that follows from what is still seen."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchvision import tv_tensors

from ..types import Target
from ._blend import blend
from ._piece import Piece, bounds, in_unit


class Canvas:
    """An image and its target; neither is changed, `finish` gives new ones.

    Args:
        image: (3, H, W), bytes or float in [0, 1].
        target: of G objects, with or without masks (G, H, W).
    """

    def __init__(self, image: Tensor, target: Target) -> None:
        self.given, self.target = image, target
        self.pixels = image.as_subclass(Tensor).clone()
        self.front = torch.zeros(image.shape[-2:], dtype=torch.int16)
        """0 where the image itself is seen, n where the n-th piece is"""
        self._pieces: list[tuple[Tensor, Tensor, tuple]] = []

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return tuple(self.given.shape[-2:])

    def paste(self, piece: Piece, left: int, top: int, how: str) -> bool:
        """Paste a piece in front of all, its object's corner there; False, and nothing done, if none of it is in."""
        height, width = self.size
        x1, y1, _, _ = piece.bounds
        left, top = left - x1, top - y1
        high, wide = piece.masks.shape[-2:]
        rows, columns = slice(max(top, 0), min(top + high, height)), slice(max(left, 0), min(left + wide, width))
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return False
        part = (..., slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
        masks, window = piece.masks[part], (..., rows, columns)
        if not masks[0].any():
            return False
        made = blend(how, in_unit(self.pixels[window]), piece.pixels[part], masks[0])
        self.pixels[window] = as_type(made, self.pixels)
        self._pieces.append((masks, piece.labels, window))
        self.front[window].masked_fill_(masks[0], len(self._pieces))
        return True

    def finish(self, hidden: float) -> tuple[Tensor, Target]:
        """Image and target. What is hidden by more than the share `hidden` of what would be seen of it in the image has
        no label any more; boxes and masks of the others are of what is seen."""
        if not self._pieces:
            return self.given, self.target
        parts = [
            left_behind(self.target, self.front > 0, hidden),
            *(self._seen(n, hidden) for n in range(1, len(self._pieces) + 1)),
        ]
        boxes, labels, masks = (None if None in part else torch.cat(part) for part in zip(*parts))
        pixels = tv_tensors.wrap(self.pixels, like=self.given) if _is_special(self.given) else self.pixels
        return pixels, with_objects(self.target, boxes, labels, masks, self.size)

    def _seen(self, number: int, hidden: float) -> tuple[Tensor, Tensor, Tensor | None]:
        """The objects of a piece."""
        masks, labels, window = self._pieces[number - 1]
        seen = masks & (self.front[window] == number)
        total, left = (m.numpy().sum((1, 2)) for m in (masks, seen))
        keep = torch.from_numpy((left > 0) & (left >= (1 - hidden) * total))
        corner = torch.tensor([window[2].start, window[1].start] * 2)
        seen = seen[keep]
        boxes = (bounds(seen) + corner).to(self.target["boxes"].dtype)
        if "masks" not in self.target:
            return boxes, labels[keep], None
        whole = self.target["masks"].new_zeros((len(seen), *self.size)).as_subclass(Tensor)
        whole[window] = seen.to(whole.dtype)
        return boxes, labels[keep], whole


def left_behind(target: Target, cover: Bool[Tensor, "H W"], hidden: float) -> tuple[Tensor, Tensor, Tensor | None]:
    """Boxes, labels and masks (None where there are none) of what is still seen of a target's objects when some of the
    image is covered. What is hidden by more than the share `hidden` is gone."""
    boxes, masks = target["boxes"].as_subclass(Tensor), target.get("masks")
    if masks is None:
        share, seen = uncovered(boxes, cover)
    else:
        masks = masks.as_subclass(Tensor)
        left, total = (masks > 0) & ~cover, (masks > 0).sum((1, 2))
        share, seen = left.sum((1, 2)) / total.clamp(min=1), bounds(left).to(boxes.dtype)
        masks = masks * left
        if not total.all():  # an object without a mask is its box
            by_box = uncovered(boxes, cover)
            share = torch.where(total > 0, share, by_box[0])
            seen = torch.where(total[:, None] > 0, seen, by_box[1])
    seen = torch.where((share < 1)[:, None], seen, boxes)
    keep = (share > 0) & (share >= 1 - hidden)
    return seen[keep], target["labels"][keep], None if masks is None else masks[keep]


def uncovered(
    boxes: Float[Tensor, "G 4"], cover: Bool[Tensor, "H W"]
) -> tuple[Float[Tensor, " G"], Float[Tensor, "G 4"]]:
    """The share of each box that is not covered, and the box around that share.

    >>> share, box = uncovered(torch.tensor([[0.0, 0, 4, 2]]), torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0]]).bool())
    >>> share.tolist(), box.tolist()
    ([0.625], [[1.0, 0.0, 4.0, 2.0]])
    """
    height, width = cover.shape
    whole = torch.cat((boxes[:, :2].floor(), boxes[:, 2:].ceil()), 1)
    whole = torch.minimum(whole.clamp(min=0), whole.new_tensor([width, height] * 2))
    there = (whole[:, 2:] > whole[:, :2]).all(1)
    share, seen = torch.ones(len(boxes), dtype=boxes.dtype), torch.where(there[:, None], whole, boxes)
    covered = cover.numpy()
    for number in there.nonzero().flatten().tolist():
        x1, y1, x2, y2 = map(int, whole[number].tolist())
        hidden = covered[y1:y2, x1:x2]
        if not hidden.any():
            continue
        share[number] = 1 - np.count_nonzero(hidden) / hidden.size
        rows, columns = (np.flatnonzero(~hidden.all(axis)) for axis in (1, 0))
        if len(rows):
            tight = (x1 + columns[0], y1 + rows[0], x1 + columns[-1] + 1, y1 + rows[-1] + 1)
            seen[number] = boxes.new_tensor(list(map(int, tight)))
    # The box of what is seen, but never beyond the given box, whose sides lie between pixels.
    return share, torch.cat((torch.maximum(seen[:, :2], boxes[:, :2]), torch.minimum(seen[:, 2:], boxes[:, 2:])), 1)


def as_given(pixels: Float[Tensor, "3 H W"], given: Tensor) -> Tensor:
    """Pixels of the type that the image had; a blend may leave the range of colours."""
    pixels = as_type(pixels, given)
    return tv_tensors.wrap(pixels, like=given) if _is_special(given) else pixels


def as_type(pixels: Float[Tensor, "3 h w"], given: Tensor) -> Tensor:
    """The same as bytes where the image is of bytes, a plain tensor."""
    pixels = pixels.clamp(0, 1)
    return pixels.mul_(255).round_().to(torch.uint8) if given.dtype == torch.uint8 else pixels.to(given.dtype)


def _is_special(image: Tensor) -> bool:
    return isinstance(image, tv_tensors.TVTensor)


def with_objects(
    target: Target, boxes: Float[Tensor, "N 4"], labels: Int[Tensor, " N"], masks: Tensor | None, size: tuple[int, int]
) -> Target:
    """The target with other objects; boxes and masks of the type that they had, other entries as they were."""
    made = {**target, "boxes": boxes, "labels": labels}
    if isinstance(target["boxes"], tv_tensors.BoundingBoxes):
        made["boxes"] = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size)
    if masks is not None:
        is_mask = isinstance(target["masks"], tv_tensors.Mask)
        made["masks"] = tv_tensors.Mask(masks) if is_mask else masks
    return made
