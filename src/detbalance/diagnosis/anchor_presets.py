"""Where detectors place their anchors, how large these are, and how images are resized before. Numpy only."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import inf, sqrt
from typing import Literal

import numpy as np

__all__ = ["FASTER_RCNN", "RETINANET", "SSD300", "YOLOV2", "YOLOV3", "AnchorPreset"]

_PLACINGS = ("corner", "cell", "relative")


@dataclass(frozen=True, kw_only=True)
class AnchorPreset:
    """The anchors of a detector, its resize rule and its labelling rule; to describe one's own, fill in another.

    Shapes are given either as `sizes` (square roots of areas) times `ratios` (height / width), as in torchvision's
    AnchorGenerator, or as `shapes` (width, height). The grid of a level has ceil(side / stride) cells a side, where
    side is the image's after resizing and padding; as in torchvision the anchors then lie side // cells pixels apart.

    >>> own = AnchorPreset(name="own", strides=(8, 16), sizes=((24,), (48, 64)), ratios=(1.0, 2.0))
    >>> own.level_shapes[0].tolist()
    [[24.0, 24.0], [16.970561981201172, 33.941123962402344]]
    >>> own.resized(np.array([[640, 480]]))
    (array([[1066,  800]]), array([[1088,  800]]))
    """

    name: str
    strides: tuple[int, ...]
    """one a level, finest first"""
    sizes: tuple[tuple[float, ...], ...] = ()
    """of each level"""
    ratios: tuple[float, ...] | tuple[tuple[float, ...], ...] = (0.5, 1.0, 2.0)
    """height / width, the same for all levels or a tuple for each; not used with `shapes`"""
    shapes: tuple[tuple[tuple[float, float], ...], ...] = ()
    """(width, height) of each anchor of each level, pixels (fractions of the side where placing is "relative")"""
    placing: Literal["corner", "cell", "relative"] = "corner"
    """"corner": centred on the corners of cells, half sides rounded (torchvision's AnchorGenerator); "cell": centred in
    cells, not rounded (YOLO); "relative": centred in cells of size stride, in fractions of the side, sides clipped to 1
    (torchvision's DefaultBoxGenerator)"""
    min_size: int = 800
    """the shorter side after resizing ..."""
    max_size: int = 1333
    """... unless the longer would become longer than this"""
    size_divisible: int = 32
    """sides are padded to a multiple of it"""
    fixed_size: tuple[int, int] | None = None
    """(width, height): resize to exactly this instead"""
    positive: float = 0.5
    """anchors with at least this IoU are positive; infinity: none by its IoU alone"""
    negative: float = 0.4
    """anchors below this IoU are negative; those between are ignored"""
    low_quality: bool | Literal["first"] = False
    """are the best anchors of an object positive whatever their IoU? True: all that tie, each for the object it
    overlaps most (torchvision's Matcher, Faster R-CNN); "first": the first one, for this object (SSD, YOLO)"""
    roi_levels: int | None = None
    """how many levels the box head pools from (FPN's level rule); None: all"""

    def __post_init__(self) -> None:
        """Check what can be wrong in a preset of one's own."""
        layout = self.shapes or self.sizes
        if bool(self.shapes) == bool(self.sizes) or len(layout) != len(self.strides) or not all(map(len, layout)):
            raise ValueError(
                f"{self.name}: expected either sizes or shapes, for each of the {len(self.strides)} strides, "
                f"but got {len(self.sizes)} sizes and {len(self.shapes)} shapes"
            )
        if list(self.strides) != sorted(set(self.strides)) or not self.strides[0] > 0:
            raise ValueError(f"{self.name}: expected ascending strides > 0 but got {self.strides}")
        if self.placing not in _PLACINGS:
            raise ValueError(f"{self.name}: expected placing to be one of {_PLACINGS} but got {self.placing!r}")
        if self.placing == "relative" and self.fixed_size is None:
            raise ValueError(f"{self.name}: expected a fixed_size with placing 'relative' but got None")
        if min(self.min_size, self.max_size, self.size_divisible, *(self.fixed_size or ())) < 1:
            raise ValueError(f"{self.name}: expected sizes of images of at least 1 pixel")
        if any(not np.isfinite(shapes).all() or self._pixels(shapes).min() < 1 for shapes in self.level_shapes):
            raise ValueError(f"{self.name}: expected finite anchors with sides of at least 1 pixel")
        check_thresholds(self.positive, self.negative, self.low_quality)

    def _pixels(self, shapes: np.ndarray) -> np.ndarray:
        return shapes * self.fixed_size if self.placing == "relative" else shapes

    @cached_property
    def level_shapes(self) -> list[np.ndarray]:
        """(S, 2) float32 of each level: width and height, in torchvision's order of anchors."""
        if self.shapes:
            shapes = [np.array(level, np.float32).reshape(-1, 2) for level in self.shapes]
            return [level.clip(0, 1) for level in shapes] if self.placing == "relative" else shapes
        ratios = self.ratios if isinstance(self.ratios[0], tuple) else (self.ratios,) * len(self.sizes)
        roots = [np.sqrt(np.array(level, np.float32)) for level in ratios]
        sides = [np.array(level, np.float32) for level in self.sizes]
        return [
            np.stack((np.outer(np.float32(1) / root, side).ravel(), np.outer(root, side).ravel()), 1)
            for root, side in zip(roots, sides, strict=True)
        ]

    def resized(self, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Width and height (I, 2) of images after resizing, and after padding; a side never falls below one pixel."""
        sizes = np.asarray(sizes, np.int64)
        if self.fixed_size is not None:
            new = np.broadcast_to(np.array(self.fixed_size, np.int64), sizes.shape)
        else:
            scale = np.minimum(self.min_size / sizes.min(1), self.max_size / sizes.max(1))
            new = np.floor(sizes * scale[:, None]).astype(np.int64).clip(1)
        return new, -(-new // self.size_divisible) * self.size_divisible

    def edges(self, level: int, axis: int, side: int) -> tuple[np.ndarray, np.ndarray]:
        """Near and far edges (S, n), float32 pixels, of a level's anchors along an axis (0: x) of a padded side.

        Bit for bit what torchvision computes: anchors are the product of their edges along x and along y.

        >>> near, far = RETINANET.edges(level=4, axis=0, side=800)
        >>> near.shape, near[0, :3], far[0, :3]
        ((9, 7), array([-362., -248., -134.], dtype=float32), array([362., 476., 590.], dtype=float32))
        """
        stride, extent = self.strides[level], self.level_shapes[level][:, axis, None]
        cells = np.arange(-(-side // stride))
        if self.placing == "relative":
            centre = (cells.astype(np.float32) + np.float32(0.5)) / np.float32(side / stride)
            half = np.float32(0.5) * extent
            return (centre - half) * np.float32(side), (centre + half) * np.float32(side)
        step = side // len(cells)
        if self.placing == "corner":
            centre, half = cells * step, (extent / 2).round()
        else:
            centre, half = (cells + 0.5) * step, extent.astype(np.float64) / 2
        return (centre - half).astype(np.float32), (centre + half).astype(np.float32)


def check_thresholds(positive: float, negative: float, low_quality: bool | str) -> None:
    """Raise ValueError for a labelling rule that makes no sense."""
    if not 0 < negative <= positive:
        raise ValueError(f"expected 0 < negative <= positive but got negative={negative}, positive={positive}")
    if negative > 1:
        raise ValueError(f"expected negative <= 1 but got {negative}")
    if low_quality not in (False, True, "first"):
        raise ValueError(f"expected low_quality to be False, True or 'first' but got {low_quality!r}")


def default_boxes(scales: tuple[float, ...], ratios: tuple[tuple[int, ...], ...]) -> tuple:
    """SSD's shapes (Liu et al., section 2.2): two squares, then each ratio lying and standing."""
    return tuple(
        (
            (s, s),
            (sqrt(s * following),) * 2,
            *(p for r in level for w in [sqrt(r)] for p in ((s * w, s / w), (s / w, s * w))),
        )
        for s, following, level in zip(scales, scales[1:], ratios)
    )


RETINANET = AnchorPreset(
    name="RetinaNet",
    strides=(8, 16, 32, 64, 128),
    sizes=tuple((x, int(x * 2 ** (1 / 3)), int(x * 2 ** (2 / 3))) for x in (32, 64, 128, 256, 512)),
)
"""torchvision's retinanet_resnet50_fpn (Lin et al., arXiv 1708.02002): nine anchors a place, P3 to P7."""

FASTER_RCNN = AnchorPreset(
    name="Faster R-CNN (RPN)",
    strides=(4, 8, 16, 32, 64),
    sizes=((32,), (64,), (128,), (256,), (512,)),
    positive=0.7,
    negative=0.3,
    low_quality=True,
    roi_levels=4,
)
"""torchvision's fasterrcnn_resnet50_fpn, first stage (arXiv 1506.01497 on 1612.03144): three anchors a place, P2-P6."""

SSD300 = AnchorPreset(
    name="SSD300",
    strides=(8, 16, 32, 64, 100, 300),
    shapes=default_boxes((0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05), ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))),
    placing="relative",
    size_divisible=1,
    fixed_size=(300, 300),
    positive=0.5,
    negative=0.5,
    low_quality="first",
)
"""torchvision's ssd300_vgg16 (Liu et al., arXiv 1512.02325): 8,732 default boxes."""

YOLOV2 = AnchorPreset(
    name="YOLOv2",
    strides=(32,),
    shapes=(
        tuple(
            (32 * w, 32 * h)
            for w, h in (
                (0.57273, 0.677385),
                (1.87446, 2.06253),
                (3.33843, 5.47434),
                (7.88282, 3.52778),
                (9.77052, 9.16828),
            )
        ),
    ),
    placing="cell",
    fixed_size=(416, 416),
    positive=inf,
    negative=0.6,
    low_quality="first",
)
"""Redmon and Farhadi, arXiv 1612.08242, the five COCO priors: the best prior of an object is positive, others above the
threshold are ignored. (YOLO itself ignores by the IoU of its predictions; here it is that of the priors.)"""

YOLOV3 = AnchorPreset(
    name="YOLOv3",
    strides=(8, 16, 32),
    shapes=(
        ((10, 13), (16, 30), (33, 23)),
        ((30, 61), (62, 45), (59, 119)),
        ((116, 90), (156, 198), (373, 326)),
    ),
    placing="cell",
    fixed_size=(416, 416),
    positive=inf,
    negative=0.5,
    low_quality="first",
)
"""Redmon and Farhadi, arXiv 1804.02767, section 2.3: as YOLOv2, nine COCO priors on three levels, threshold 0.5."""
