"""What a trained model finds in images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torchvision.models.detection.ssd import SSD
from torchvision.ops import batched_nms

from .data.annotations import Annotations
from .data.images import DetectionImages, load_image, scaled_window
from .slicing import Slices, merge
from .valid_ranges import check_ranges, limits, sides

__all__ = ["predict", "predict_pyramid", "predict_sliced", "refuse_scales"]


@torch.no_grad()
def predict(
    model: nn.Module,
    data: Annotations,
    *,
    image_size: tuple[int, int],
    batch_size: int = 16,
    device: str | torch.device = "cpu",
    progress: Callable[[int, int], None] | None = None,
    images: DetectionImages | None = None,
) -> list[dict[str, np.ndarray]]:
    """Detections of every image: boxes (xyxy pixels of the original image), labels, scores.

    A model whose recipe says how it looks at images (`Recipe.look`) looks at them so, any other at the whole image at
    the training size. `images` are those at the size `image_size`, to share what is decoded.
    """
    options = {"batch_size": batch_size, "device": device, "progress": progress}
    look = getattr(getattr(model, "recipe", None), "look", None)
    if look is not None:
        return look(model, data, image_size=image_size, images=images, **options)
    return _predict(model, data, images=images or DetectionImages(data, image_size=image_size), **options)


@torch.no_grad()
def predict_pyramid(
    model: nn.Module,
    data: Annotations,
    *,
    image_size: tuple[int, int],
    scales: Sequence[float],
    ranges: Sequence[tuple[float, float]] | None = None,
    iou: float = 0.5,
    batch_size: int = 16,
    device: str | torch.device = "cpu",
    progress: Callable[[int, int], None] | None = None,
    images: DetectionImages | None = None,
) -> list[dict[str, np.ndarray]]:
    """Detections of every image at several scales: of those that are one object, the best.

    Singh and Davis, SNIP (arXiv:1711.08189), section 5; without `ranges`, multi-scale testing. The paper merges by
    soft-NMS, this by non-maximum suppression.

    Args:
        scales: factors on `image_size`.
        ranges: of each scale, what a detection's side over the image's must be to count (see `valid_ranges`).
        iou: above which two detections of a class are one.

    Raises ValueError for scales that are not above 0, for ranges that leave sizes to no scale, and for an SSD, whose
    boxes grow with the image.
    """
    if not len(scales) or min(scales) <= 0:
        raise ValueError(f"expected scales, one or more, above 0, but got {tuple(scales)}")
    refuse_scales(model)
    if ranges is not None:
        check_ranges(ranges, len(scales))
    found = []
    for number, scale in enumerate(scales):
        size = tuple(max(1, round(scale * side)) for side in image_size)
        here = images if scale == 1 and images is not None else DetectionImages(data, image_size=size, keep=False)
        step = None if progress is None else _further(progress, number, len(scales), len(data))
        with _scaled(model, scale):
            # No batch of more pixels than at the training size has, unless it is of one image.
            few = max(1, int(batch_size / max(1.0, scale**2)))
            part = _predict(model, data, images=here, batch_size=few, device=device, progress=step)
        if ranges is not None:
            part = [_within(one, ranges[number], here.scale(i, (1, 1)).numpy()) for i, one in enumerate(part)]
        found.append(part)
    limit = getattr(getattr(model, "roi_heads", model), "detections_per_img", None)
    return [_joined(parts, iou, limit) for parts in zip(*found)]


def refuse_scales(model: nn.Module) -> None:
    """Raise ValueError for a detector that sees the same at every scale."""
    if isinstance(model, SSD):
        raise ValueError("an SSD has default boxes of shares of the image: at another scale it sees no other sizes")


def _further(progress: Callable[[int, int], None], number: int, scales: int, images: int) -> Callable[[int, int], None]:
    """The progress of one scale as a part of the whole."""
    return lambda done, total: progress(number * images + done, scales * images)


@contextmanager
def _scaled(model: nn.Module, factor: float) -> Iterator[None]:
    """The detector lets images be of another size than the one that it scales all to."""
    transform = getattr(model, "transform", None)
    before = {name: getattr(transform, name) for name in ("min_size", "max_size", "sides") if hasattr(transform, name)}

    def times(value: Any) -> Any:
        return tuple(map(times, value)) if isinstance(value, (tuple, list)) else max(1, round(factor * value))

    try:
        for name, value in before.items():
            setattr(transform, name, times(value))
        yield
    finally:
        for name, value in before.items():
            setattr(transform, name, value)


def _within(found: dict[str, np.ndarray], valid: tuple[float, float], scale: np.ndarray) -> dict[str, np.ndarray]:
    """The detections whose size is valid; `scale` makes the boxes shares of the image."""
    share = sides(torch.from_numpy(found["boxes"] * scale)).numpy()
    low, high = limits(valid, 1.0)
    keep = (share >= low) & (share <= high)
    return {name: value[keep] for name, value in found.items()}


def _joined(parts: Sequence[dict[str, np.ndarray]], iou: float, limit: int | None) -> dict[str, np.ndarray]:
    """One image's detections of all scales, best first."""
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    rows = batched_nms(*(torch.from_numpy(found[name]) for name in ("boxes", "scores", "labels")), iou)[:limit].numpy()
    return {name: value[rows] for name, value in found.items()}


@torch.no_grad()
def _predict(
    model: nn.Module,
    data: Annotations,
    *,
    batch_size: int,
    device: str | torch.device,
    progress: Callable[[int, int], None] | None,
    images: DetectionImages,
) -> list[dict[str, np.ndarray]]:
    """Detections at one scale."""
    model = model.to(device, memory_format=torch.channels_last).eval()
    found: list[dict[str, np.ndarray]] = []
    for first in range(0, len(data), batch_size):
        rows = range(first, min(first + batch_size, len(data)))
        batch = [images.original(i)[0] for i in rows]
        outputs = model([image.to(device).float().div_(255) for image in batch])
        for i, image, output in zip(rows, batch, outputs):
            # A head of sigmoids has a column 0 too, which no object trains: a loss that only ranks may leave it high.
            output = {name: output[name][output["labels"] > 0].cpu() for name in ("boxes", "labels", "scores")}
            boxes = output["boxes"].double() / images.scale(i, tuple(image.shape[-2:]))
            found.append(
                {
                    "boxes": boxes.numpy(),
                    "labels": output["labels"].numpy(),
                    "scores": output["scores"].double().numpy(),
                }
            )
        if progress is not None:
            progress(len(found), len(data))
    return found


@torch.no_grad()
def predict_sliced(
    model: nn.Module,
    data: Annotations,
    *,
    image_size: tuple[int, int],
    slices: Slices,
    batch_size: int = 16,
    device: str | torch.device = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, np.ndarray]]:
    """Detections of every image, looked for window by window: for tiny objects in large images.

    Each window is scaled into `image_size` as a whole image would be. One image is in memory, and one batch of windows.
    """
    model = model.to(device, memory_format=torch.channels_last).eval()
    found = []
    for i in range(len(data)):
        picture = load_image(data, i)
        width, height = picture.size
        windows = slices.windows(height, width)
        if slices.whole and len(windows) > 1:
            windows = torch.cat((windows, windows.new_tensor([[0, 0, width, height]])))
        parts: list[tuple[torch.Tensor, ...]] = []
        for rows in windows.split(batch_size):
            batch = [scaled_window(picture, window, image_size) for window in rows.tolist()]
            outputs = model([pixels.to(device).float().div_(255) for pixels in batch])
            for window, pixels, output in zip(rows, batch, outputs):
                parts.append(_in_image(output, window.double(), pixels.shape[-2:]))
        boxes, scores, labels, window = map(torch.cat, zip(*parts))
        boxes, scores, labels = merge(boxes, scores, labels, window, (height, width))
        found.append({"boxes": boxes.numpy(), "labels": labels.numpy(), "scores": scores.numpy()})
        if progress is not None:
            progress(len(found), len(data))
    return found


def _in_image(output: dict[str, torch.Tensor], window: torch.Tensor, size: tuple[int, int]) -> tuple[torch.Tensor, ...]:
    """Boxes (in pixels of the image), scores and labels of one window, and that window beside each."""
    real = output["labels"] > 0
    boxes, labels, scores = (output[name][real].cpu() for name in ("boxes", "labels", "scores"))
    scale = (window[2:] - window[:2]) / window.new_tensor(size[::-1])
    boxes = boxes.double() * scale.repeat(2) + window[:2].repeat(2)
    return boxes, scores.double(), labels, window.expand(len(boxes), 4)
