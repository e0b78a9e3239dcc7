"""Anchor shapes of a dataset by k-means with 1 - IoU (Redmon and Farhadi 2017, "Dimension Clusters"). Numpy only."""

from __future__ import annotations

import numpy as np

from ..clusters import cluster_shapes, shape_iou
from ..data.annotations import Annotations

__all__ = ["COCO_SHAPES", "cluster_shapes", "shape_iou", "yolo_anchors"]

# YOLOv2's own for COCO, in thirteenths of the image.
COCO_SHAPES = np.array(
    [(0.57273, 0.677385), (1.87446, 2.06253), (3.33843, 5.47434), (7.88282, 3.52778), (9.77052, 9.16828)]
)


def yolo_anchors(
    annotations: Annotations, count: int = 5, *, image_size: tuple[int, int] = (192, 256), seed: int = 0
) -> np.ndarray:
    """(count, 2) widths and heights of anchors that fit a dataset's boxes, smallest first, in pixels of the input.

    Args:
        annotations: the training images.
        count: how many; 5 in the paper.
        image_size: height and width that images are scaled into, keeping their shape.
        seed: of the first guesses.

    Where there are fewer distinct boxes than anchors, YOLOv2's own anchors for COCO stand in for the missing ones.
    """
    if count < 1:
        raise ValueError(f"expected count of at least 1 but got {count}")
    keep = ~annotations.crowd
    sizes = annotations.sizes[annotations.image[keep]].astype(np.float64)
    boxes = annotations.boxes[keep].astype(np.float64)
    shapes = boxes[:, 2:] - boxes[:, :2]
    usable = (sizes > 0).all(1) & (shapes > 0).all(1)
    sizes, shapes = sizes[usable], shapes[usable]
    short, long = sorted(image_size)
    scale = np.minimum(short / sizes.min(1, initial=np.inf), long / sizes.max(1, initial=1))
    shapes = shapes * scale[:, None]
    if len(np.unique(shapes, axis=0)) < count:
        usual = COCO_SHAPES * np.sqrt(short * long) / 13
        shapes = np.concatenate((shapes, np.resize(usual, (count, 2))))
    return cluster_shapes(shapes, count, seed=seed)
