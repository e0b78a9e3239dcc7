"""The pixels: a torch dataset over annotations, with boxes that follow the image."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import BoundingBoxes

from ..valid_ranges import RANGE, VALID
from .annotations import Annotations, DataError

__all__ = ["DetectionImages", "collate", "flips", "load_image", "scaled_window"]

_CACHE_BYTES = 2 << 30
_GREY = 114
"""of what lies beyond an image"""


def flips() -> Callable:
    """The default augmentation: a horizontal flip, half of the time."""
    return v2.RandomHorizontalFlip(0.5)


class DetectionImages(Dataset):
    """Images and targets for a torchvision detector.

    Every image is scaled to fit the training size once and kept in memory (as bytes, while all fit two gigabytes).
    What is random about item i in epoch e depends on (seed, e, i) alone: not on the number of workers, nor on what
    was drawn before, so that an interrupted run goes on as if it had not been.

    Args:
        annotations: the boxes; crowds are left out of the targets.
        image_size: height and width that images are scaled into, keeping their shape.
        transforms: a transforms v2 callable on (image, target); None for none.
        augment: the recipe's (image, target, others) -> (image, target); `others(j)` gives image and target j. One that
            has `fit(annotations, others)` is told the data: that gives a copy, and the copy augments.
        seed: of all that is random.
        keep: the images in memory; False where each is looked at once.

    With `views` (a method of that folder, fitted), a training image is a window of its image, cut from the original.
    What is random about the nth turn of an image within an epoch is a function of n as well: ask for item (i, n).

    Items are (image, target): uint8 (3, H, W), and boxes (xyxy pixels of that image), labels, image_id (the row).
    Boxes that an augmentation leaves without area are dropped and counted in `dropped`.

    Raises DataError (file named) for an image that is missing, damaged, or of no known format.
    """

    def __init__(
        self,
        annotations: Annotations,
        *,
        image_size: tuple[int, int],
        transforms: Callable | None = None,
        augment: Callable | None = None,
        seed: int = 0,
        keep: bool = True,
    ) -> None:
        self.annotations, self.image_size, self.seed = annotations, image_size, seed
        self.transforms = transforms
        self.views: Callable | None = None
        self.epoch = 0
        self.dropped = 0
        self._cache: list[Tensor | None] = [None] * len(annotations)
        self._pictures: dict[int, Image.Image] = {}
        self._caching = keep and 3 * image_size[0] * image_size[1] * len(annotations) <= _CACHE_BYTES
        self.treat(augment)

    def __len__(self) -> int:
        return len(self.annotations)

    def treat(self, augment: Callable | None) -> None:
        """Augment by this from now on, and show whole images."""
        self.views = None
        self.augment = augment.fit(self.annotations, self.original) if hasattr(augment, "fit") else augment

    def hear(self, feedback: Any) -> None:
        """Tell the augmentation how the training stands, if it listens."""
        if hasattr(self.augment, "hear"):
            self.augment = self.augment.hear(feedback)

    def check(self, progress: Callable[[Iterable], Iterable] = iter) -> None:
        """Open every image once, so that bad files are found before training starts and not in its third hour."""
        for i in progress(range(len(self))):
            if self._caching:
                self._scaled(i)
            else:
                load_image(self.annotations, i)

    def original(self, i: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Image and target as they are, scaled but not augmented."""
        image = self._scaled(i)
        rows = self.annotations.rows(i)
        keep = ~self.annotations.crowd[rows]
        height, width = image.shape[-2:]
        boxes = torch.from_numpy(self.annotations.boxes[rows][keep]) * self.scale(i, (height, width))
        boxes = boxes.to(torch.float32).reshape(-1, 4)
        boxes = BoundingBoxes(boxes, format="XYXY", canvas_size=(height, width))
        labels = torch.from_numpy(self.annotations.label[rows][keep])
        return image, {"boxes": boxes, "labels": labels, "image_id": torch.tensor(i)}

    def scale(self, i: int, size: tuple[int, int]) -> Tensor:
        """(4,) what turns a box of the original image into one of an image of the given height and width."""
        width, height = self.annotations.sizes[i]
        if not (width and height):
            width, height = load_image(self.annotations, i).size
        x, y = size[1] / float(width), size[0] / float(height)
        return torch.tensor([x, y, x, y], dtype=torch.float64)

    def __getitem__(self, item: int | tuple[int, int]) -> tuple[Tensor, dict[str, Tensor]]:
        i, nth = item if isinstance(item, tuple) else (item, 0)
        image, target = self.original(i) if self.views is None else self.viewed(i, nth)
        if self.augment is None and self.transforms is None:
            return image, _plain(target)
        with torch.random.fork_rng(devices=[]):
            turn = (nth,) if nth else ()
            # Of the CPU alone: torch.manual_seed would also note down seed and stack for every device unused so far.
            torch.default_generator.manual_seed(
                int(np.random.SeedSequence((self.seed, self.epoch, i, *turn)).generate_state(1, np.uint64)[0] >> 1)
            )
            if self.augment is not None:
                image, target = self.augment(image, target, self.original)
            if self.transforms is not None:
                image, target = self.transforms(image, target)
        target = self._without_degenerate(target, image.shape[-2:])
        return image, _plain(target)

    def viewed(self, i: int, nth: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """The window of image i that is shown at its nth turn of the epoch, and what of the objects is seen in it."""
        view = self.views(i, nth, np.random.default_rng((self.seed, self.epoch, i)))
        window = np.array(view.window)
        width = int(self.annotations.sizes[i, 0])
        picture = self._picture(i, width / (window[2] - window[0]))
        image = scaled_window(picture, window * (picture.width / width), self.image_size)
        rows = self.annotations.rows(i)
        boxes = self.annotations.boxes[rows].clip(window[[0, 1, 0, 1]], window[[2, 3, 2, 3]]) - window[[0, 1, 0, 1]]
        size = tuple(image.shape[-2:])
        x, y = size[1] / (window[2] - window[0]), size[0] / (window[3] - window[1])
        boxes = torch.from_numpy(boxes * (x, y, x, y)).to(torch.float32)
        keep = torch.from_numpy(~self.annotations.crowd[rows]) & ((boxes[:, 2:] - boxes[:, :2]) > 0.5).all(1)
        target = {
            "boxes": BoundingBoxes(boxes[keep], format="XYXY", canvas_size=size),
            "labels": torch.from_numpy(self.annotations.label[rows])[keep],
            "image_id": torch.tensor(i),
            VALID: torch.from_numpy(view.valid)[keep],
        }
        if view.range is not None:
            target[RANGE] = torch.tensor(view.range, dtype=torch.float32) * (x * y) ** 0.5
        return image, target

    def _picture(self, i: int, zoom: float) -> Image.Image:
        """The original image, or one that is large enough for a window of which that many make its width."""
        if i in self._pictures:
            return self._pictures[i]
        whole = 3 * self.annotations.sizes.prod(1).sum() <= _CACHE_BYTES
        side = zoom * max(self.image_size)
        picture = load_image(self.annotations, i, fit=None if whole else (math.ceil(side), math.ceil(side)))
        if whole:
            self._pictures[i] = picture
        return picture

    def _without_degenerate(self, target: dict, size: tuple[int, int]) -> dict:
        boxes = (
            F.clamp_bounding_boxes(target["boxes"]) if isinstance(target["boxes"], BoundingBoxes) else target["boxes"]
        )
        keep = ((boxes[:, 2:] - boxes[:, :2]) > 0.5).all(1)
        if keep.all():
            return {**target, "boxes": boxes}
        self.dropped += int((~keep).sum())
        of_objects = {name: target[name][keep] for name in ("labels", "masks", "weights", VALID) if name in target}
        return {**target, "boxes": boxes[keep], **of_objects}

    def _scaled(self, i: int) -> Tensor:
        cached = self._cache[i]
        if cached is not None:
            return cached
        image = load_image(self.annotations, i, fit=self.image_size)
        tensor = scaled_window(image, (0, 0, *image.size), self.image_size)
        if self._caching:
            self._cache[i] = tensor
        return tensor


def load_image(annotations: Annotations, i: int, *, fit: tuple[int, int] | None = None) -> Image.Image:
    """One image as RGB, decoded whole. `fit` lets a JPEG be decoded at a lower size that is still large enough.

    Raises DataError that names the file if it is missing or damaged, or if its size is not the one stated.
    """
    path = Path(annotations.path(i))
    where = f"{annotations.source}: image {str(annotations.file_names[i])!r}"
    try:
        with Image.open(path) as image:
            stated = tuple(annotations.sizes[i].tolist())
            if all(stated) and image.size != stated:
                raise DataError(
                    f"{where}: the file is {image.size[0]}x{image.size[1]} but the annotations say "
                    f"{stated[0]}x{stated[1]}, so its boxes cannot be trusted ({path})"
                )
            if fit is not None:
                image.draft("RGB", (2 * fit[1], 2 * fit[0]))
            if image.mode != "RGB":
                return image.convert("RGB")
            image.load()  # `convert` would copy it: a large image need not be in memory twice
            return image
    except FileNotFoundError:
        raise DataError(f"{where}: no such file: {path}") from None
    except DataError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{where}: cannot be decoded, the file is damaged or no image: {path} ({error})") from None


def scaled_window(image: Image.Image, window: Sequence[float], image_size: tuple[int, int]) -> Tensor:
    """(3, H, W) uint8: a window (xyxy pixels) of an image, scaled to fit `image_size` (height, width). What lies beyond
    the image is grey."""
    left, top, right, bottom = map(float, window)
    size = _fit((round(right - left), round(bottom - top)), image_size)
    x, y = size[0] / (right - left), size[1] / (bottom - top)
    box = max(0.0, left), max(0.0, top), min(float(image.width), right), min(float(image.height), bottom)
    corner = round(x * (box[0] - left)), round(y * (box[1] - top))
    part = max(1, round(x * (box[2] - left)) - corner[0]), max(1, round(y * (box[3] - top)) - corner[1])
    pixels = np.asarray(image.resize(part, Image.Resampling.BILINEAR, box=box))
    if part != size:
        whole = np.full((size[1], size[0], 3), _GREY, np.uint8)
        whole[corner[1] : corner[1] + part[1], corner[0] : corner[0] + part[0]] = pixels
        pixels = whole
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).contiguous()


def _fit(size: tuple[int, int], image_size: tuple[int, int]) -> tuple[int, int]:
    """Width and height after scaling, by torchvision's rule: the short side to the short, but no more than the long."""
    short, long = sorted(image_size)
    scale = min(short / min(size), long / max(size))
    return max(1, int(size[0] * scale)), max(1, int(size[1] * scale))


def _plain(target: dict) -> dict[str, Tensor]:
    return {name: value.as_subclass(Tensor) for name, value in target.items()}


def collate(batch: list) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Lists of images and of targets, as torchvision's detectors want them."""
    images, targets = zip(*batch)
    return list(images), list(targets)
