"""The interplay of the imbalances: one candidate slides, grows or changes its class, and every index and every loss
answers together, under any recipe (review, section 9.1 and figure 18).

A small scene of objects and candidates is treated by a recipe's own parts, as in training: assigned, sampled, weighed,
its losses taken and differentiated. What changes the network or the images (necks, heads, drawing, augmentation) has
no part in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

from .adapters.stage import StageLoss, labels_of, truth_of
from .adapters.torchvision_losses import BOX_LOSSES, cross_entropy, focal, smooth_l1
from .boxes import decode, encode
from .diagnosis.indices import entropy_index, log_ratio_index, wasserstein_counts, wasserstein_uniform
from .recipe import Recipe, Stage
from .samplers import RandomSampler
from .taxonomy import Imbalance
from .types import BACKGROUND, IGNORED, Candidates, Samples

__all__ = ["MEASURES", "Play", "Scene", "evenly", "play"]

MEASURES = {
    "iou": "IoU with its object",
    "state": "positive (1), negative (0), ignored (-1)",
    "drawn": "does it train?",
    "positives": "positives that train",
    "negatives": "negatives that train",
    **{f"index {problem.value}": f"index of the {problem.value} imbalance" for problem in Imbalance},
    "class loss": "classification loss of the batch",
    "box loss": "box loss of the batch",
    "class share": "share of the classification gradient that it owns",
    "box share": "share of the box gradient that it owns",
}
"""What is measured in every state, and what it means."""

_CLASSES = 2
_SIZES = (24.0, 48.0)
"""sides (square roots of areas, pixels) between small, medium and large objects of the scene, and between its levels"""
_CODE = {"dense": (1.0, 1.0, 1.0, 1.0), "rcnn": (10.0, 10.0, 5.0, 5.0)}
"""factors of each detector's box code"""
_OUTLIER = 1.0
"""an error of the region head's box code beyond which a box is an outlier: where smooth L1 bends there"""
_COUNTS = (0, 900, 100)
"""objects of each class in the training data that the scene stands for: a frequent and a rare one"""
_DRAWN = {"count": 20, "positive_fraction": 0.25}
"""what a sampler of fixed size draws from the scene: all positives, and three negatives for each"""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Objects and candidates of one image (xyxy pixels). The first candidate is the one that moves; it starts on the
    first object."""

    size: tuple[int, int] = (160, 256)
    """height and width"""
    objects: tuple[tuple[float, float, float, float], ...] = (
        (88.0, 44.0, 152.0, 108.0),
        (188.0, 24.0, 216.0, 52.0),
        (24.0, 96.0, 60.0, 148.0),
    )
    labels: tuple[int, ...] = (1, 1, 2)
    """the first object's is replaced by the state's"""
    others: tuple[tuple[float, float, float, float], ...] = (
        (96.0, 52.0, 148.0, 104.0),  # a smaller positive of the first object
        (184.0, 22.0, 214.0, 54.0),
        (190.0, 20.0, 220.0, 50.0),
        (26.0, 92.0, 58.0, 150.0),
        (60.0, 24.0, 120.0, 84.0),  # hard negatives
        (200.0, 36.0, 232.0, 68.0),
        (44.0, 108.0, 84.0, 156.0),
    )
    scores: tuple[float, ...] = (0.6, 0.55, 0.4, 0.35, 0.45, 0.3, 0.2)
    """present probability of the nearest object's class, of each of the others"""
    easy: int = 24
    """negatives of low score, in rows over the empty parts of the image"""

    def background(self) -> np.ndarray:
        """(easy, 4) boxes that overlap no object by half."""
        height, width = self.size
        x, y = np.meshgrid(np.linspace(0, width - 32, 6), np.linspace(0, height - 32, -(-self.easy // 6)))
        corner = np.stack((x.ravel(), y.ravel()), 1)[: self.easy]
        return np.concatenate((corner, corner + 32), 1)


@dataclass(frozen=True)
class Play:
    """What one recipe makes of every state of the scene."""

    recipe: str
    shifts: tuple[float, ...]
    """of the moving candidate to the right, in widths of its object"""
    scales: tuple[float, ...]
    """its side, in sides of its object"""
    labels: tuple[int, ...]
    """class of its object"""
    scores: tuple[float, ...]
    """its present probability of that class"""
    values: dict[str, np.ndarray] = field(repr=False)
    """of each measure, (shifts, scales, labels, scores); NaN where it is not defined"""


def play(
    recipe: Recipe,
    kind: str = "dense",
    *,
    scene: Scene | None = None,
    shifts: Sequence[float] | None = None,
    scales: Sequence[float] = (0.7, 1.0, 1.4),
    scores: Sequence[float] = (0.2, 0.5, 0.8),
    progress: Callable[[int, int], None] | None = None,
) -> Play:
    """Every state of the scene under a recipe.

    Args:
        recipe: its stage (in a cascade the first) is what treats the scene.
        kind: "dense" (RetinaNet: sigmoids, IoU 0.5 and 0.4) or "rcnn" (the region head: softmax unless its loss says
            otherwise, IoU 0.5).
        shifts, scales, scores: the states of the moving candidate.
        progress: called with the number of states done and of all.

    Raises ValueError for another kind, and for a part that needs a whole detector to work on.

    >>> from detbalance import recipes
    >>> found = play(recipes.get("baseline", "dense"), shifts=(0.0, 0.4, 1.0), scales=(1.0,), scores=(0.5,))
    >>> found.values["state"][:, 0, 0, 0].tolist()
    [1.0, -1.0, 0.0]
    """
    if kind not in ("dense", "rcnn"):
        raise ValueError(f"expected kind 'dense' or 'rcnn' but got {kind!r}")
    scene, shifts = scene or Scene(), evenly() if shifts is None else shifts
    labels = tuple(range(1, _CLASSES + 1))
    shape = (len(shifts), len(scales), len(labels), len(scores))
    values = {name: np.full(shape, np.nan, np.float32) for name in MEASURES}
    make = _stage_of(recipe, kind)
    for done, place in enumerate(np.ndindex(shape)):
        shift, scale, label, score = (axis[i] for axis, i in zip((shifts, scales, labels, scores), place))
        for name, value in _measure(make(), scene, shift, scale, label, score, kind).items():
            values[name][place] = value
        if progress is not None:
            progress(done + 1, int(np.prod(shape)))
    return Play(recipe.name, tuple(shifts), tuple(scales), labels, tuple(scores), values)


def evenly(number: int = 25) -> tuple[float, ...]:
    """Shifts from one side of the object to the other, far enough to leave it.

    >>> evenly(3)
    (-1.2, 0.0, 1.2)
    """
    return tuple(np.linspace(-1.2, 1.2, number).round(3).tolist())


def _stage_of(recipe: Recipe, kind: str) -> Callable[[], StageLoss]:
    """Makes the recipe's stage as it is at the start of training: what accumulates does not carry over."""
    stage: Stage = recipe.cascade[0]
    region = kind == "rcnn"
    softmax = region and bool(getattr(stage.cls_loss, "softmax", True))
    if stage.box_generator is not None:
        raise ValueError(f"recipe {recipe.name!r} makes candidates of its own: there is none to slide")
    sampler = RandomSampler() if region and stage.sample is None else stage.sample
    if is_dataclass(sampler):
        numbers = {name: value for name, value in _DRAWN.items() if hasattr(sampler, name)}
        stage = replace(stage, sample=replace(sampler, **numbers))

    def make() -> StageLoss:
        made = StageLoss(
            stage,
            cls_loss=cross_entropy if region else focal,
            box_loss=smooth_l1 if region else BOX_LOSSES["l1"],
            softmax=softmax,
            names=("class loss", "box loss"),
            generator=torch.Generator().manual_seed(0),
        )
        for part in made.modules():
            if getattr(part, "given", 0) is None and hasattr(part, "set_counts"):
                part.set_counts(_COUNTS)
        return made

    return make


def _measure(
    treatment: StageLoss, scene: Scene, shift: float, scale: float, label: int, score: float, kind: str
) -> dict[str, float]:
    """All measures of one state."""
    truth = torch.tensor(scene.objects)
    labels = torch.tensor((label, *scene.labels[1:]))
    fixed = np.concatenate((scene.others, scene.background())).astype(np.float32)
    boxes = torch.cat((_moved(truth[0], shift, scale), torch.from_numpy(fixed)))
    overlaps = box_iou(truth, boxes)
    best, nearest = overlaps.max(0)
    target = {"boxes": truth, "labels": labels}
    level = _group(boxes)
    score_of = torch.tensor((score, *scene.scores, *[0.03] * scene.easy))
    logits = _logits(labels[nearest], score_of, softmax=treatment.softmax)
    scores = logits.softmax(1) if treatment.softmax else logits.sigmoid()
    if treatment.assign is None:
        negative = 0.5 if kind == "rcnn" else 0.4
        matched = torch.where(best >= 0.5, nearest, torch.where(best < negative, BACKGROUND, IGNORED))
    else:
        matched = treatment.assign(boxes, target, level, (scores, boxes))
    make = partial(_samples, logits, boxes, target, matched, best, level, kind, treatment.softmax)
    candidates = Candidates(
        boxes=boxes,
        matched=matched,
        iou=best,
        labels=labels_of(matched, labels),
        scores=scores,
        loss=lambda: treatment.candidate_loss(make(torch.arange(len(boxes)))),
        predicted=boxes,
        level=level,
    )
    rows = treatment.choose(candidates)
    samples = make(rows)
    samples.logits.requires_grad_(), samples.deltas.requires_grad_()
    losses = treatment(samples)
    if not {"class loss", "box loss"} <= losses.keys():
        raise ValueError(f"{treatment.joint_loss!r} does not part its loss into one of classes and one of boxes")
    moving = rows[matched[rows] != IGNORED] == 0
    found = _of_losses(losses, samples, moving)
    return {
        "iou": float(overlaps[0, 0]),
        "state": float(1 if matched[0] >= 0 else 0 if matched[0] == BACKGROUND else -1),
        "drawn": float(moving.any()),
        **found,
        **_indices(samples, losses, scene),
    }


def _moved(box: Tensor, shift: float, scale: float) -> Tensor:
    """(1, 4) a box shifted to the right by `shift` of its width, its sides scaled about the centre."""
    centre, side = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) * scale
    centre = centre + torch.stack((shift * (box[2] - box[0]), torch.zeros(())))
    return torch.cat((centre - side / 2, centre + side / 2))[None]


def _group(boxes: Tensor) -> Tensor:
    """Small, medium or large: 0, 1, 2."""
    side = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    return torch.bucketize(side, torch.tensor(_SIZES))


def _logits(labels: Tensor, score: Tensor, *, softmax: bool) -> Tensor:
    """Logits that give each candidate the stated probability of one class, and the other classes next to nothing."""
    logits = torch.full((len(labels), _CLASSES + 1), -6.0)
    if softmax:
        logits[:, 0] = 0.0
    return logits.scatter_(1, labels[:, None], torch.logit(score)[:, None])


def _samples(logits, boxes, target, matched, iou, level, kind: str, softmax: bool, rows: Tensor) -> Samples:
    """The table of the rows that train. The boxes stand for predictions: their codes are zero."""
    rows = rows[matched[rows] != IGNORED]
    matched, truth = matched[rows], truth_of(matched, target["boxes"])[rows]
    positive = (matched >= 0).nonzero().squeeze(1)
    codes = torch.zeros(len(rows), 4).index_copy_(
        0, positive, encode(truth[positive], boxes[rows][positive], _CODE[kind])
    )
    count = max(1, len(rows) if kind == "rcnn" else len(positive))
    return Samples(
        logits=logits[rows].clone(),
        labels=labels_of(matched, target["labels"]),
        deltas=torch.zeros(len(rows), 4),
        codes=codes,
        boxes=boxes[rows],
        truth=truth,
        iou=iou[rows],
        image=torch.zeros_like(rows),
        level=level[rows],
        norm=torch.full((len(rows),), 1 / count),
        softmax=softmax,
        matched=matched,
        decode=partial(decode, weights=_CODE[kind]),
        objects=(target,),
    )


def _of_losses(losses: dict[str, Tensor], samples: Samples, moving: Tensor) -> dict[str, float]:
    """The losses, and how much of their gradients the moving candidate has."""
    found = {name: float(losses[name].detach()) for name in ("class loss", "box loss")}
    for task, by in (("class", samples.logits), ("box", samples.deltas)):
        norms = _gradient(losses[f"{task} loss"], by)
        found[f"{task} share"] = float(norms[moving].sum() / norms.sum().clamp(min=1e-12))
    return found


def _gradient(loss: Tensor, by: Tensor) -> Tensor:
    """(S,) the norm of the loss's gradient by each row; zeros where it does not depend on them."""
    gradient = None
    if loss.requires_grad:
        (gradient,) = torch.autograd.grad(loss, by, retain_graph=True, allow_unused=True)
    return by.new_zeros(len(by)) if gradient is None else gradient.norm(dim=1)


def _indices(samples: Samples, losses: dict[str, Tensor], scene: Scene) -> dict[str, float]:
    """Numbers of the samples, and the index (0 balanced, 1 worst) of each problem among them."""
    positive = samples.positive
    some, none = int(positive.sum()), int((~positive).sum())
    labels = np.bincount(samples.labels[positive].numpy(), minlength=_CLASSES + 1)[1:]
    sizes = np.bincount(_group(samples.truth[positive]).numpy(), minlength=len(_SIZES) + 1)
    levels = np.bincount(samples.level[positive].numpy(), minlength=len(_SIZES) + 1)
    quality = np.histogram(samples.iou[positive].numpy(), bins=10, range=(0.5, 1.0))[0]
    centre = (samples.boxes[positive, :2] + samples.boxes[positive, 2:]).numpy() / 2 / np.array(scene.size[::-1])
    task = [float(losses[name].detach()) for name in ("class loss", "box loss")]
    values = {
        Imbalance.FOREGROUND_BACKGROUND: log_ratio_index(np.float64(none), np.float64(some)),
        Imbalance.FOREGROUND_FOREGROUND: entropy_index(labels),
        Imbalance.OBJECT_SCALE: entropy_index(sizes),
        Imbalance.FEATURE_LEVEL: entropy_index(levels),
        Imbalance.REGRESSION_LOSS: _outliers(samples, losses["box loss"]),
        Imbalance.IOU_DISTRIBUTION: wasserstein_counts(quality),
        Imbalance.LOCATION: np.mean([wasserstein_uniform(np.clip(axis, 0, 1)) for axis in centre.T]) if some else 0.0,
        Imbalance.OBJECTIVE: log_ratio_index(np.float64(task[0]), np.float64(task[1])),
    }
    indices = {f"index {problem.value}": float(value) for problem, value in values.items()}
    return {"positives": float(some), "negatives": float(none), **indices}


def _outliers(samples: Samples, loss: Tensor) -> float:
    """Share of the box gradient that boxes far from their object own."""
    norms = _gradient(loss, samples.deltas)
    error = encode(samples.truth, samples.boxes, _CODE["rcnn"]).abs().amax(1)
    far = samples.positive & (error > _OUTLIER)
    return float(norms[far].sum() / norms.sum().clamp(min=1e-12))
