"""Labels of a detector's anchors, counted without a model and without listing the anchors (review, figures 4, 12a, 14).

>>> from detbalance.data.annotations import Annotations
>>> one = Annotations.from_arrays(classes=["cat"], sizes=[(640, 480)], image=[0], label=[1],
...                               boxes=[[100, 100, 300, 300]])
>>> counted = anchor_statistics(one, RETINANET)
>>> counted.positives, counted.negatives, counted.ignored
(array([43]), array([163109]), array([54]))
>>> counted.best_iou.round(3)
array([0.78], dtype=float32)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ..data.annotations import Annotations
from ._grid import Cells, Grid
from ._labelling import Part, labelled_parts
from .anchor_presets import FASTER_RCNN, RETINANET, SSD300, YOLOV2, YOLOV3, AnchorPreset

__all__ = [
    "FASTER_RCNN",
    "RETINANET",
    "SSD300",
    "YOLOV2",
    "YOLOV3",
    "AnchorMatches",
    "AnchorPreset",
    "AnchorStatistics",
    "anchor_matches",
    "anchor_statistics",
    "covering_count",
    "recall_by_shape",
]

IOU_EDGES = np.linspace(0, 1, 101)
POSITION_EDGES = np.linspace(-1, 1, 41)
ASPECT_LIMITS = (1 / 3, 2 / 3, 3 / 2, 3.0)  # of width / height
_CHUNK = 2048
_SIZE_LIMITS = (32.0**2, 96.0**2)  # COCO's small, medium, large


@dataclass(frozen=True, eq=False)
class AnchorStatistics:
    """How a detector's anchors are labelled over a dataset. I images, B boxes, K classes, L levels."""

    preset: AnchorPreset
    """with the thresholds that were used"""
    positives: np.ndarray
    """(I,) anchors that show an object"""
    negatives: np.ndarray
    """(I,) anchors that show background"""
    ignored: np.ndarray
    """(I,) anchors between the thresholds"""
    per_class: np.ndarray
    """(K,) positives"""
    per_level: np.ndarray
    """(L, 3) positives, negatives, ignored"""
    objects_per_level: np.ndarray
    """(L,) objects by FPN's rule (Lin et al., arXiv 1612.03144, equation 1): the last level whose stride is at most
    16 sqrt(w h) / 224, as in torchvision's LevelMapper"""
    iou_by_class_size: np.ndarray
    """(K, 3, 100) positives by class, COCO size of their object (small, medium, large) and IoU, in hundredths"""
    claimed_iou: np.ndarray
    """(100,) anchors, positive or ignored, by IoU with the object they overlap most, in hundredths"""
    position: np.ndarray
    """(40, 40) positives by where their top left corner lies from that of their object, in units of the object's height
    (rows) and width (columns), from -1 to 1 (figure 14)"""
    best_iou: np.ndarray
    """(B,) float32, IoU of each object with the anchor that overlaps it most; nan where no anchor is compared (crowd
    regions, images of unknown size)"""
    positives_per_box: np.ndarray
    """(B,) anchors that are positive for each object"""
    unknown_images: int
    """images whose size is not known: they have no anchors and are left out"""

    @property
    def iou_histogram(self) -> tuple[np.ndarray, np.ndarray]:
        """Edges (101,) and number (100,) of positives by their IoU (figure 12a)."""
        return IOU_EDGES, self.iou_by_class_size.sum((0, 1))

    @property
    def position_edges(self) -> np.ndarray:
        """(41,) edges of `position`."""
        return POSITION_EDGES


@dataclass(frozen=True, eq=False)
class AnchorMatches:
    """The anchors that are not negative, one row each. N anchors."""

    image: np.ndarray
    """(N,) row of the image"""
    box: np.ndarray
    """(N,) row of the object"""
    level: np.ndarray
    """(N,)"""
    iou: np.ndarray
    """(N,) float32"""
    positive: np.ndarray
    """(N,) bool; the others are ignored"""
    anchors: np.ndarray
    """(N, 4) float32, xyxy pixels of the resized image"""


def anchor_statistics(
    annotations: Annotations,
    anchors: AnchorPreset = RETINANET,
    positive: float | None = None,
    negative: float | None = None,
    *,
    low_quality: bool | Literal["first"] | None = None,
    min_size: int | None = None,
    max_size: int | None = None,
    chunk: int = _CHUNK,
) -> AnchorStatistics:
    """Count the positive, negative and ignored anchors of every image, exactly as torchvision labels them.

    What is not given is the preset's own (RetinaNet: 0.5, 0.4, no low-quality matches, 800, 1333). Every image is taken
    as a batch of its own. Crowd regions take no part; images of unknown size are left out and counted. Time and memory
    are linear in the boxes and do not depend on the number of anchors; `chunk` (images plus boxes worked on at once)
    bounds the memory.

    One case differs on purpose: with low-quality matches, an object that no anchor touches (outside of its image)
    claims none, where torchvision's Matcher makes every anchor of the image positive.
    """
    preset = _with(anchors, positive, negative, low_quality, min_size, max_size)
    images, boxes, classes = len(annotations), len(annotations.boxes), len(annotations.classes)
    levels = len(preset.strides)
    counts, per_level = np.zeros((3, images), np.int64), np.zeros((levels, 3), np.int64)
    objects_per_level, claimed_iou = np.zeros(levels, np.int64), np.zeros(101, np.int64)
    by_class_size, position = np.zeros(classes * 3 * 101, np.int64), np.zeros(1600, np.int64)
    best_iou, positives_per_box = np.full(boxes, np.nan, np.float32), np.zeros(boxes, np.int64)
    kind = (annotations.label - 1) * 3 + np.searchsorted(_SIZE_LIMITS, annotations.area)
    for part in labelled_parts(annotations, preset, chunk):
        labels = _labels(part)
        counts[:, part.images] = labels.sum(2)
        per_level += labels.sum(1).T
        objects_per_level += np.bincount(_fpn_level(preset, part.objects.boxes), minlength=levels)
        hundredth = (part.cells.iou.astype(np.float64) * 100).astype(np.int64)
        claimed_iou += np.bincount(hundredth[part.claimed], minlength=101)
        shown = part.cells[part.positive]
        bucket = (kind[part.rows] * 101)[shown.box] + hundredth[part.positive]
        by_class_size += np.bincount(bucket, minlength=by_class_size.size)
        position += _position(part.grid, part.objects.boxes, shown)
        best_iou[part.rows] = part.best
        positives_per_box[part.rows] = np.bincount(shown.box, minlength=len(part.rows))
    by_class_size = _last_closed(by_class_size.reshape(classes, 3, 101))
    return AnchorStatistics(
        preset=preset,
        positives=counts[0],
        negatives=counts[1],
        ignored=counts[2],
        per_class=by_class_size.sum((1, 2)),
        per_level=per_level,
        objects_per_level=objects_per_level,
        iou_by_class_size=by_class_size,
        claimed_iou=_last_closed(claimed_iou),
        position=position.reshape(40, 40),
        best_iou=best_iou,
        positives_per_box=positives_per_box,
        unknown_images=int((annotations.sizes <= 0).any(1).sum()),
    )


def anchor_matches(
    annotations: Annotations,
    anchors: AnchorPreset = RETINANET,
    positive: float | None = None,
    negative: float | None = None,
    *,
    low_quality: bool | Literal["first"] | None = None,
) -> AnchorMatches:
    """List the anchors that are not negative, some 500 an image: for examples, and what lies near the thresholds."""
    preset = _with(anchors, positive, negative, low_quality)
    none = np.zeros(0, np.int64)
    columns = [(none, none, none, none.astype(np.float32), none.astype(bool), np.zeros((0, 4), np.float32))]
    for part in labelled_parts(annotations, preset, _CHUNK):
        cells, x, y = part.cells[part.claimed], part.grid.x, part.grid.y
        corners = x.near[cells.column], y.near[cells.row], x.far[cells.column], y.far[cells.row]
        box = part.rows[cells.box]
        level = part.grid.level[cells.shape]
        columns.append(
            (annotations.image[box], box, level, cells.iou, part.positive[part.claimed], np.stack(corners, 1))
        )
    return AnchorMatches(*map(np.concatenate, zip(*columns)))


def recall_by_shape(
    annotations: Annotations, best_iou: np.ndarray, threshold: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """Share (3, 5) of the objects that some anchor overlaps by `threshold` or more, and how many objects there are.

    Rows are COCO's sizes, columns are width / height: to 1/3, to 2/3, to 3/2, to 3, above. A share of nothing is nan.
    """
    known = np.flatnonzero(~np.isnan(best_iou))
    width, height = (annotations.boxes[known, 2:] - annotations.boxes[known, :2]).T
    size = np.searchsorted(_SIZE_LIMITS, annotations.area[known])
    bucket = size * 5 + np.searchsorted(ASPECT_LIMITS, width / height)
    objects = np.bincount(bucket, minlength=15).reshape(3, 5)
    found = np.bincount(bucket[best_iou[known] >= threshold], minlength=15).reshape(3, 5)
    return np.divide(found, objects, out=np.full((3, 5), np.nan), where=objects > 0), objects


def covering_count(boxes: np.ndarray, width: int, height: int) -> np.ndarray:
    """(height, width) number of boxes (N, 4) that cover the centre of each pixel (review, figure 15), in linear time.

    >>> covering_count(np.array([[0, 0, 2, 1], [1, 0, 3, 2]]), 3, 2)
    array([[1, 2, 1],
           [0, 1, 1]])
    """
    limits = (width, height, width, height)
    x1, y1, x2, y2 = np.ceil(np.asarray(boxes, np.float64).reshape(-1, 4) - 0.5).clip(0, limits).astype(np.int64).T
    corners = np.zeros((height + 1) * (width + 1), np.int64)
    for row, column, sign in ((y1, x1, 1), (y2, x2, 1), (y1, x2, -1), (y2, x1, -1)):
        corners += sign * np.bincount(row * (width + 1) + column, minlength=len(corners))
    return corners.reshape(height + 1, width + 1).cumsum(0).cumsum(1)[:-1, :-1]


def _with(anchors: AnchorPreset, *given) -> AnchorPreset:
    names = ("positive", "negative", "low_quality", "min_size", "max_size")
    return replace(anchors, **{name: value for name, value in zip(names, given) if value is not None})


def _labels(part: Part) -> np.ndarray:
    """(3, I, L) number of positive, negative and ignored anchors."""
    images, levels = part.totals.shape
    state = part.claimed.astype(np.int8) + part.positive
    place = (part.objects.image * (3 * levels)).take(part.cells.box) + (part.grid.level * 3).take(part.cells.shape)
    counted = np.bincount(place + state, minlength=3 * images * levels).reshape(images, levels, 3)
    _, ignored, positive = counted.transpose(2, 0, 1)
    return np.stack((positive, part.totals - ignored - positive, ignored))


def _last_closed(hundredths: np.ndarray) -> np.ndarray:
    """IoU of exactly 1, bin 100, belongs to the last bin."""
    return np.concatenate((hundredths[..., :99], hundredths[..., 99:].sum(-1, keepdims=True)), -1)


def _fpn_level(preset: AnchorPreset, boxes: np.ndarray) -> np.ndarray:
    side = np.sqrt(((boxes[:, 2:] - boxes[:, :2]).astype(np.float64)).prod(1))
    strides = np.log2(preset.strides[: preset.roi_levels])
    with np.errstate(divide="ignore"):
        level = 4 + np.log2(side / 224) + 1e-6  # the margin is torchvision's
    return (np.searchsorted(strides, level, "right") - 1).clip(0)


def _position(grid: Grid, boxes: np.ndarray, cells: Cells) -> np.ndarray:
    """(1600,) pairs by place of the top left corner: see AnchorStatistics.position."""
    bins = []
    for axis, ruler, place in ((0, grid.x, cells.column), (1, grid.y, cells.row)):
        near, extent = boxes[:, axis], boxes[:, axis + 2] - boxes[:, axis]
        shift = (ruler.near[place] - near[cells.box]) / extent[cells.box]
        bins.append(((shift + 1) * 20).clip(0, 39).astype(np.int64))
    return np.bincount(bins[1] * 40 + bins[0], minlength=1600)
