"""Bootstrapping: train, collect the false detections of the training set, train again with them as negatives.

Sung and Poggio (1998), Rowley et al. (1998), Dalal and Triggs (2005), Felzenszwalb et al. (2010); review section 4.1.1:
"an initial model using a subset of negative examples, then using the negative examples on which the classifier fails, a
new classifier is trained". Each round trains a new detector; what earlier rounds got wrong is kept in one file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.tv_tensors import BoundingBoxes

from .adapters.remembered import KEY
from .data.annotations import Annotations
from .data.images import DetectionImages, flips
from .hard_negatives import HardNegatives, false_detections
from .prediction import predict
from .recipe import Recipe
from .runs import Settings, build_model
from .training import place_of, train

__all__ = ["RememberingImages", "bootstrap"]


class RememberingImages(DetectionImages):
    """Images whose targets also have the regions of a store, which follow flips and scaling like the objects."""

    def __init__(self, annotations: Annotations, store: HardNegatives, **options) -> None:
        super().__init__(annotations, **options)
        self.store = store

    def original(self, i: int) -> tuple[Tensor, dict[str, Tensor]]:
        """As `DetectionImages`, with the regions."""
        image, target = super().original(i)
        size = tuple(image.shape[-2:])
        regions = torch.from_numpy(self.store.of(str(self.annotations.file_names[i]))) * self.scale(i, size)
        target[KEY] = BoundingBoxes(regions.float().reshape(-1, 4), format="XYXY", canvas_size=size)
        return image, target

    def __getitem__(self, i: int) -> tuple[Tensor, dict[str, Tensor]]:
        image, target = super().__getitem__(i)
        return image, {**target, KEY: target[KEY].as_subclass(Tensor)}


def bootstrap(
    data: Annotations,
    folder: Path | str,
    *,
    rounds: int = 2,
    recipe: Recipe | str = "bootstrapping",
    settings: Settings | None = None,
    device: str = "auto",
    score_threshold: float = 0.3,
    iou_threshold: float = 0.3,
    limit: int = 50,
    progress: Callable[[int, int, dict[str, float]], None] | None = None,
) -> nn.Module:
    """Train `rounds` + 1 detectors, each with the false detections of those before it as negatives.

    `folder` gets a run folder for each, `round-0` and so on, and the store, `hard-negatives.npz`. What is there already
    is not done again, so that an interrupted run goes on. A dataset that is not labelled exhaustively (LVIS, Open
    Images) holds objects that nobody labelled: these would be taken for background, so it is refused.

    Args:
        data: the training images.
        folder: for runs and store.
        rounds: how often false detections are collected.
        recipe: one whose sampler remembers (`BootstrappedSampler`, alone or as a part of `CombinedSampler`).
        settings, device, progress: as `train`.
        score_threshold, iou_threshold, limit: as `false_detections`.

    Returns:
        The last detector, on the CPU, ready to predict.

    Raises:
        ValueError: for a recipe that remembers nothing, or a dataset that is not labelled exhaustively.
    """
    if data.negatives is not None:
        raise ValueError(f"{data.source}: not every object is labelled; unlabelled ones would be trained as background")
    settings, folder = settings or Settings(), Path(folder)
    model = build_model(settings, data.classes, recipe)
    if not _remembers(model):
        raise ValueError(f"recipe {model.recipe.name!r} has no sampler that remembers, such as BootstrappedSampler")
    if model.recipe.views is not None:
        raise ValueError(f"recipe {model.recipe.name!r} trains on windows, and regions are remembered of whole images")
    path = folder / "hard-negatives.npz"
    store = HardNegatives.load(path) if path.exists() else HardNegatives.empty()
    for number in range(rounds + 1):
        options = {"image_size": settings.image_size, "transforms": flips(), "seed": settings.seed}
        images = RememberingImages(data, store.before(number), **options)
        images.check()
        run = folder / f"round-{number}"
        model = train(data, run, recipe=recipe, settings=settings, device=device, images=images, progress=progress)
        if number < rounds and store.rounds <= number:
            where = place_of(device)
            found = predict(model, data, image_size=settings.image_size, device=where)
            limits = {"score_threshold": score_threshold, "iou_threshold": iou_threshold, "limit": limit}
            truth = [data.boxes[data.rows(i)] for i in range(len(data))]
            boxes, scores = zip(*(false_detections(one, objects, **limits) for one, objects in zip(found, truth)))
            store = store.with_round([str(name) for name in data.file_names], list(boxes), list(scores))
            store.save(path)
    return model.cpu().eval()


def _remembers(model: nn.Module) -> bool:
    """Does a sampler of the model's recipe look at what is remembered?"""
    recipe = model.recipe
    samplers = [recipe.proposals.sample, *(stage.sample for stage in recipe.cascade)]
    parts = [part for s in samplers for part in (s, getattr(s, "negative", None))]
    return any(getattr(part, "remembers", False) for part in parts)
