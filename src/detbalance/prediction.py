"""What a trained model finds in images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from .data.annotations import Annotations
from .data.images import DetectionImages, load_image, scaled_window
from .slicing import Slices, merge

__all__ = ["predict", "predict_sliced"]


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
    """Detections of every image: boxes (xyxy pixels of the original image), labels, scores."""
    images = images or DetectionImages(data, image_size=image_size)
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
