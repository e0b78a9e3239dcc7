"""What a target holds besides its objects, in pixels: false detections of earlier models, and the range of valid sizes.

Both follow the images when the detector resizes them.
"""

from __future__ import annotations

from torch import Tensor, nn

from ..valid_ranges import RANGE

__all__ = ["KEY", "keep_in_place", "remembered"]

KEY = "hard_negatives"
"""of a target: (M, 4), xyxy pixels of its image, where an earlier model saw objects that are none"""


def remembered(target: dict[str, Tensor]) -> Tensor | None:
    """The regions of one image; None where nothing is remembered."""
    return target.get(KEY)


def keep_in_place(model: nn.Module) -> None:
    """torchvision resizes the boxes of a target and leaves what it does not know as it is."""
    if hasattr(model, "transform"):
        model.transform.register_forward_hook(_scale)


def _scale(module: nn.Module, inputs: tuple, output: tuple) -> None:
    before, (images, targets) = inputs[0], output
    for image, size, target in zip(before, images.image_sizes, targets or ()):
        y, x = (new / old for new, old in zip(size, image.shape[-2:]))
        if RANGE in target:
            target[RANGE] = target[RANGE] * (x * y) ** 0.5
        if KEY in target:
            target[KEY] = target[KEY] * target[KEY].new_tensor((x, y, x, y))
