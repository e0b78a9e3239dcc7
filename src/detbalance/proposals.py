"""Where a weak detector sees objects of any class: what is hard about the background of a dataset."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .atomic import write
from .data.annotations import Annotations
from .looks import AtScales
from .prediction import predict
from .recipe import Recipe
from .runs import Settings

__all__ = ["of_one_class", "weak_proposals"]

_COUNT, _IOU = 300, 0.7
"""best proposals of an image after non-maximum suppression, as proposal networks give them"""


def weak_proposals(
    data: Annotations,
    folder: Path,
    views: Any,
    settings: Settings,
    *,
    device: str = "auto",
    precision: str = "auto",
    workers: int = 0,
    resume: bool = True,
    progress: Callable[[int, int, dict[str, float]], None] | None = None,
) -> list[np.ndarray]:
    """The proposals of a weak network for each image, (P, 4) xyxy pixels, after Singh, Najibi and Davis (SNIPER,
    section 3.3): it is trained for a short while on the same windows without negative ones, and looks at the same
    scales.

    A proposal network is a dense detector of a single class, so that any detector can have this one beside it: a
    RetinaNet of the run's size. What it finds is kept in proposals.npz; an interrupted run goes on with it.

    Args:
        data: the training images.
        folder: for the weak network's run.
        views: the recipe's; its share `weak` of the epochs, one at least, is trained.
        settings: of the run.
        device, precision, workers, resume, progress: as `train`.
    """
    from .training import place_of, train

    path = folder / "proposals.npz"
    if resume and path.exists():
        with np.load(path, allow_pickle=False) as file:
            return np.split(file["boxes"], np.cumsum(file["counts"])[:-1])
    look = AtScales(scales=views.scales, ranges=views.ranges, iou=_IOU)
    recipe = Recipe(name="proposals", views=replace(views, negatives=0), look=look)
    short = replace(settings, detector="retinanet", epochs=max(1, round(views.weak * settings.epochs)))
    how = {"device": device, "precision": precision, "workers": workers, "resume": resume, "progress": progress}
    model = train(of_one_class(data), folder, recipe=recipe, settings=short, **how)
    model.score_thresh, model.nms_thresh, model.detections_per_img = 0.0, _IOU, _COUNT
    where = place_of(device)
    found = predict(model, data, image_size=settings.image_size, batch_size=settings.batch_size, device=where)
    boxes = [one["boxes"] for one in found]
    columns = {"boxes": np.concatenate(boxes).reshape(-1, 4), "counts": np.array([len(b) for b in boxes])}
    write(path, lambda file: np.savez_compressed(file, **columns))
    return boxes


def of_one_class(data: Annotations) -> Annotations:
    """The same objects, all of the class "object".

    >>> data = Annotations.from_arrays(classes=["a", "b"], sizes=[(9, 9)], image=[0], label=[2], boxes=[[0, 0, 4, 4]])
    >>> one = of_one_class(data)
    >>> one.classes, one.label.tolist()
    (('object',), [1])
    """
    label, ids = np.ones_like(data.label), np.ones(1, np.int64)
    unknown = {"frequency": None, "negatives": None, "not_exhaustive": None}
    return replace(data, classes=("object",), label=label, category_ids=ids, **unknown)
