"""Slices: a large image cut into overlapping windows, detected one after another, the detections put together again.

Objects of a few pixels vanish when a large image is scaled down to the training size (review, section 5.1). After Akyon
et al., Slicing Aided Hyper Inference and Fine-Tuning for Small Object Detection, ICIP 2022, arXiv:2202.06934.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torchvision.ops import batched_nms, box_area

from .common import require

__all__ = ["Slices", "merge"]

_TOUCHES = 1.0
"""pixels of a window within which a box ends at its border"""


@dataclass(frozen=True, kw_only=True)
class Slices:
    """How an image is cut.

    >>> Slices(size=(100, 100), overlap=0.2).windows(100, 180).tolist()
    [[0, 0, 100, 100], [80, 0, 180, 100]]
    """

    size: tuple[int, int] = (512, 512)
    """height and width of a window, pixels of the original image"""
    overlap: float = 0.25
    """share of a window that the next one repeats; an object within that is whole in some window"""
    whole: bool = True
    """look at the whole image besides, scaled down: for objects larger than the overlap"""

    def __post_init__(self) -> None:
        require(len(self.size) == 2 and min(self.size) >= 8, "size", "a height and a width of 8 or more", self.size)
        require(0 <= self.overlap < 1, "overlap", "in [0, 1)", self.overlap)

    def windows(self, height: int, width: int) -> Int[Tensor, "W 4"]:
        """The windows of an image, xyxy. They cover it; each is of the given size, or as large as the image is."""
        tops, lefts = (_starts(length, size, self.overlap) for length, size in zip((height, width), self.size))
        y, x = (part.flatten() for part in torch.meshgrid(torch.tensor(tops), torch.tensor(lefts), indexing="ij"))
        return torch.stack((x, y, (x + self.size[1]).clamp(max=width), (y + self.size[0]).clamp(max=height)), 1)


def _starts(length: int, size: int, overlap: float) -> list[int]:
    """First pixels of the windows along one axis, evenly spread, so that none repeats more than it must."""
    if length <= size:
        return [0]
    step = max(1, int(size * (1 - overlap)))
    count = -(-(length - size) // step) + 1
    return [round(i * (length - size) / (count - 1)) for i in range(count)]


def merge(
    boxes: Float[Tensor, "N 4"],
    scores: Float[Tensor, " N"],
    labels: Int[Tensor, " N"],
    window: Float[Tensor, "N 4"],
    image: tuple[int, int],
    *,
    iou: float = 0.5,
    inside: float = 0.7,
    meets: float = 0.5,
) -> tuple[Float[Tensor, "M 4"], Float[Tensor, " M"], Int[Tensor, " M"]]:
    """One detection for each object out of those of all windows: none lost at a seam, none counted twice.

    A box that ends at a border of its window within the image is a fragment. Fragments of a class that overlap in
    neighbouring windows, and whose extents along the seam agree, are one object: the box around them, with their best
    score. A fragment that lies within a whole box of its class is dropped. What is left is suppressed as usual.

    Args:
        boxes, scores, labels: of all windows, xyxy pixels of the image.
        window: the window that each was found in; for the whole image, the image.
        image: height and width.
        iou: above which two detections of a class are one.
        inside: share of a fragment in a whole box from which on it is that box's.
        meets: IoU of the extents along the seam from which on two fragments are one object.

    Returns boxes, scores and labels, best first.

    >>> left, right = [80.0, 10, 100, 30], [80.0, 10, 130, 30]
    >>> window = torch.tensor([[0.0, 0, 100, 100], [80, 0, 180, 100]])
    >>> merge(torch.tensor([left, right]), torch.tensor([0.9, 0.8]), torch.ones(2).long(), window, (100, 180))
    (tensor([[ 80.,  10., 130.,  30.]]), tensor([0.9000]), tensor([1]))
    """
    cut = _cut(boxes, window, image)
    fragment = cut.any(1)
    if bool(fragment.any()):
        group = _groups(boxes, labels, cut, window, meets)
        boxes, scores, labels, fragment = _united(boxes, scores, labels, group, cut, window)
        kept = ~fragment | ~_within(boxes, labels, fragment, inside)
        boxes, scores, labels = boxes[kept], scores[kept], labels[kept]
    rows = batched_nms(boxes, scores, labels, iou)
    return boxes[rows], scores[rows], labels[rows]


def _cut(boxes: Tensor, window: Tensor, image: tuple[int, int]) -> Bool[Tensor, "N 4"]:
    """Which sides of each box lie at a border of its window that is none of the image."""
    border = boxes.new_tensor((0, 0, image[1], image[0]))
    return ((boxes - window).abs() <= _TOUCHES) & ((window - border).abs() >= 0.5)


def _groups(boxes: Tensor, labels: Tensor, cut: Tensor, window: Tensor, meets: float) -> Int[Tensor, " N"]:
    """A number for each detection, the same for fragments of one object."""
    rows = cut.any(1).nonzero().squeeze(1)
    one, other = boxes[rows, None], boxes[rows]
    low, high = torch.maximum(one, other)[..., :2], torch.minimum(one, other)[..., 2:]
    near = (high - low >= -_TOUCHES).all(2)  # without overlap, the parts of an object only meet
    shared = (high - low).clamp(min=0)  # along x, along y
    extent = torch.maximum(one, other)[..., 2:] - torch.minimum(one, other)[..., :2]
    agree = shared / extent.clamp(min=1e-6) >= meets
    # What one window cuts off at the right, another goes on with from its left.
    left, top, right, bottom = cut[rows].unbind(1)
    across = (right[:, None] & left) | (left[:, None] & right)
    down = (bottom[:, None] & top) | (top[:, None] & bottom)
    same = (labels[rows, None] == labels[rows]) & near
    other_window = (window[rows, None] != window[rows]).any(2)
    joined = same & other_window & ((across & agree[..., 1]) | (down & agree[..., 0]))
    first, second = (part.cpu().numpy() for part in joined.nonzero(as_tuple=True))
    graph = coo_array((torch.ones(len(first)).numpy(), (first, second)), shape=(len(rows), len(rows)))
    number = connected_components(graph, directed=False)[1]
    group = torch.arange(len(boxes), device=boxes.device)
    found = torch.as_tensor(number, device=boxes.device, dtype=torch.int64)
    leader = torch.full((len(rows),), len(boxes), device=boxes.device).scatter_reduce(0, found, rows, "amin")
    group[rows] = leader[found]
    return group


def _united(
    boxes: Tensor, scores: Tensor, labels: Tensor, group: Tensor, cut: Tensor, window: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One detection a group: the box around it, its best score, and whether it is a fragment still."""
    kept, place = group.unique(return_inverse=True)

    def reduce(values: Tensor, how: str) -> Tensor:
        empty = values.new_zeros((len(kept), *values.shape[1:]))
        index = place if values.dim() == 1 else place[:, None].expand_as(values)
        return empty.scatter_reduce(0, index, values, how, include_self=False)

    around = torch.cat((reduce(boxes[:, :2], "amin"), reduce(boxes[:, 2:], "amax")), 1)
    # A side is open still if the part that reaches furthest there is cut off there.
    furthest = (boxes - around[place]).abs() <= _TOUCHES
    open_ = reduce((cut & furthest).to(torch.uint8), "amax").bool()
    closed = reduce((~cut & furthest).to(torch.uint8), "amax").bool()
    return around, reduce(scores, "amax"), labels[kept], (open_ & ~closed).any(1)


def _within(boxes: Tensor, labels: Tensor, fragment: Tensor, inside: float) -> Bool[Tensor, " M"]:
    """Which fragments lie in a whole box of their class."""
    found = torch.zeros_like(fragment)
    rows, whole = fragment.nonzero().squeeze(1), (~fragment).nonzero().squeeze(1)
    low = torch.maximum(boxes[rows, None, :2], boxes[whole, :2])
    shared = (torch.minimum(boxes[rows, None, 2:], boxes[whole, 2:]) - low).clamp(min=0).prod(2)
    covered = shared >= inside * box_area(boxes[rows])[:, None]
    found[rows] = (covered & (labels[rows, None] == labels[whole])).any(1)
    return found
