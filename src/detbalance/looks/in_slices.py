"""Detection window by window."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from ..data.annotations import Annotations
from ..data.images import DetectionImages
from ..prediction import predict_sliced
from ..slicing import Slices
from ..taxonomy import Imbalance

__all__ = ["InSlices"]


@dataclass(frozen=True, kw_only=True)
class InSlices:
    """Looks at each image window by window, and puts together what it sees: objects of a few pixels in a large image,
    which vanish when that is scaled down, are seen in the image's own pixels.

    Akyon et al., section 3 (SAHI). Fragments of an object at the seams become one detection, see `slicing.merge`. See
    `prediction.predict_sliced`, which it calls.

    Shapes: images -> a dict each: boxes (D, 4), labels (D,), scores (D,).
    Identity: for images that fit one window it is the plain detection.

    >>> InSlices(size=(512, 512)).slices((192, 256)).size, InSlices().slices((192, 256)).size
    ((512, 512), (192, 256))
    """

    size: tuple[int, int] | None = None
    """height and width of a window, pixels of the original image; None: the training size"""
    overlap: float = 0.25
    """share of a window that the next one repeats"""
    whole: bool = True
    """look at the whole image besides, scaled down"""

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.OBJECT_SCALE,)
    paper: ClassVar[str] = (
        "Akyon, Altinuc, Temizel, Slicing Aided Hyper Inference and Fine-Tuning for Small Object Detection, ICIP 2022, "
        "arXiv:2202.06934"
    )

    def __post_init__(self) -> None:
        self.slices((512, 512))

    def slices(self, image_size: tuple[int, int]) -> Slices:
        """How an image is cut, at that training size."""
        return Slices(size=self.size or image_size, overlap=self.overlap, whole=self.whole)

    def __call__(
        self,
        model: nn.Module,
        data: Annotations,
        *,
        image_size: tuple[int, int],
        batch_size: int = 16,
        device: str | torch.device = "cpu",
        progress: Callable[[int, int], None] | None = None,
        images: DetectionImages | None = None,
    ) -> list[dict[str, np.ndarray]]:
        slices = self.slices(image_size)
        options = {"batch_size": batch_size, "device": device, "progress": progress}
        return predict_sliced(model, data, image_size=image_size, slices=slices, **options)
