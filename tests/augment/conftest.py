"""Small scenes whose masks are known: discs and bars, each class a colour, on a noisy background."""

import numpy as np
import pytest
import torch
from torchvision.tv_tensors import BoundingBoxes, Mask

from detbalance.data.annotations import Annotations

COLOURS = np.array([[220, 40, 40], [40, 200, 60], [60, 80, 230], [230, 200, 40]])
HEIGHT, WIDTH = 48, 64


def scene(rng, classes, weights, most):
    """Image (3, H, W) uint8, masks (G, H, W) of what is seen, labels: later objects lie in front."""
    image = rng.integers(90, 130, (HEIGHT, WIDTH, 3))
    owner = np.zeros((HEIGHT, WIDTH), int)
    labels = 1 + rng.choice(classes, rng.integers(1, most + 1), p=weights / weights.sum())
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    for number, label in enumerate(labels, 1):
        cx, cy, rx, ry = rng.uniform((8, 8, 4, 4), (WIDTH - 8, HEIGHT - 8, 9, 9))
        shape = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 <= 1
        image[shape] = COLOURS[label - 1] + rng.integers(-8, 9, (shape.sum(), 3))
        owner[shape] = number
    masks = owner == np.arange(1, len(labels) + 1)[:, None, None]
    there = masks.sum((1, 2)) > 12
    return image.clip(0, 255).astype(np.uint8).transpose(2, 0, 1), masks[there], labels[there]


class World:
    """A dataset in memory: annotations, and `others(i)`."""

    def __init__(self, seed=0, *, images=8, classes=3, skew=1.0, masks=True, most=4):
        rng = np.random.default_rng(seed)
        weights = skew ** -np.linspace(0, 1, classes)
        self.scenes = [scene(rng, classes, weights, most) for _ in range(images)]
        self.masks = masks
        boxes = [self._boxes(m) for _, m, _ in self.scenes]
        self.annotations = Annotations.from_arrays(
            classes=[f"c{k}" for k in range(classes)],
            sizes=[(WIDTH, HEIGHT)] * images,
            image=np.repeat(np.arange(images), [len(b) for b in boxes]),
            label=np.concatenate([labels for *_, labels in self.scenes]),
            boxes=np.concatenate(boxes),
        )

    @staticmethod
    def _boxes(masks):
        ends = [(np.flatnonzero(m.any(0)), np.flatnonzero(m.any(1))) for m in masks]
        return np.array([[x[0], y[0], x[-1] + 1, y[-1] + 1] for x, y in ends], float).reshape(-1, 4)

    def others(self, i):
        image, masks, labels = self.scenes[i]
        target = {
            "boxes": BoundingBoxes(
                torch.from_numpy(self._boxes(masks)).float(), format="XYXY", canvas_size=(HEIGHT, WIDTH)
            ),
            "labels": torch.from_numpy(labels),
            "image_id": torch.tensor(i),
        }
        if self.masks:
            target["masks"] = Mask(torch.from_numpy(masks).to(torch.uint8))
        return torch.from_numpy(image.copy()), target


@pytest.fixture(scope="session")
def world():
    """The function that makes a dataset."""
    return World
