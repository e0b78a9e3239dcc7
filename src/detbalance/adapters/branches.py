"""A backbone of several branches in a detector: each image stands in the batch once for each of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from functools import partial

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import batched_nms

from ..backbones import Trident
from ..valid_ranges import limits, mark, sides

__all__ = ["attach_branches", "build_backbone"]


def build_backbone(model: nn.Module, refine: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """The refined backbone, made from a copy of the model's own, whose weights it keeps; the model is not touched."""
    return refine(deepcopy(model.backbone))


def attach_branches(model: nn.Module, trident: Trident) -> None:
    """Let the detector train and detect on all branches from now on."""
    model.transform.register_forward_hook(partial(_branched, trident))
    limit = getattr(model, "roi_heads", model).detections_per_img
    # A partial and not a method: a method of no class could not be pickled, nor sent to another process.
    model.transform.postprocess = partial(_merged, trident, model.transform, limit)


def _branched(trident: Trident, transform: nn.Module, inputs: tuple, output: tuple) -> tuple:
    """A hook: the sizes of the images, and their targets with what is valid in each branch, branch by branch."""
    images, targets = output
    active = trident.active(transform.training)
    if targets is not None:
        targets = [
            dict(target) if trident.ranges is None else mark(target, trident.ranges[i], math.sqrt(math.prod(size)))
            for i in active
            for target, size in zip(targets, images.image_sizes)
        ]
    return ImageList(images.tensors, images.image_sizes * len(active)), targets


def _merged(
    trident: Trident, transform: nn.Module, limit: int, result: list[dict], shapes: list, originals: list
) -> list[dict[str, Tensor]]:
    """The detections of all branches, in place of the transform's `postprocess`, which scales them back."""
    active = trident.active(transform.training)
    if not transform.training and len(active) > 1:
        images = len(originals)
        for found, shape, i in zip(result, shapes, (i for i in active for _ in range(images))):
            if trident.ranges is not None:
                low, high = limits(trident.ranges[i], math.sqrt(math.prod(shape)))
                size = sides(found["boxes"])
                _keep(found, (size >= low) & (size <= high))
        result = [_joined(result[image::images], trident.iou, limit) for image in range(images)]
    return type(transform).postprocess(transform, result, shapes[: len(originals)], originals)


def _keep(found: dict[str, Tensor], rows: Tensor) -> None:
    found.update({name: value[rows] for name, value in found.items()})


def _joined(branches: list[dict[str, Tensor]], iou: float, limit: int) -> dict[str, Tensor]:
    """One image's detections of all branches: of those that are one object, the best; the best of all first."""
    found = {name: torch.cat([one[name] for one in branches]) for name in branches[0]}
    _keep(found, batched_nms(found["boxes"], found["scores"], found["labels"], iou)[:limit])
    return found
