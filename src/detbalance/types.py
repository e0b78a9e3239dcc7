"""What travels between the parts of a detector: targets, candidates and samples, and the shapes of the plugs.

Lists of images outside, one flat table inside. Any callable of the right shape fits a plug: there is no base class to
derive from and no registry to enter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from . import boxes as box_ops

if TYPE_CHECKING:
    import numpy as np

    from .data.annotations import Annotations
    from .data.images import DetectionImages
    from .views import View

__all__ = ["BACKGROUND", "IGNORED", "Candidates", "RegionParts", "RegionStep", "Samples", "Target"]

BACKGROUND = -1
"""`matched` of a candidate that shows background."""
IGNORED = -2
"""`matched` of a candidate that takes no part in training."""


class Target(TypedDict):
    """The objects of one image, in torchvision's own form. An image without objects has G = 0."""

    boxes: Float[Tensor, "G 4"]
    """xyxy, pixels"""
    labels: Int[Tensor, " G"]
    """1..K; 0 is background"""


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """The candidates (anchors, proposals) of one image: assigned to objects, not yet sampled. What a sampler sees."""

    boxes: Float[Tensor, "N 4"]
    """xyxy, pixels"""
    matched: Int[Tensor, " N"]
    """row of the ground truth, or BACKGROUND, or IGNORED"""
    iou: Float[Tensor, " N"]
    """IoU with the ground truth that it overlaps most (0 in an image without objects)"""
    labels: Int[Tensor, " N"]
    """1..K where matched, else 0"""
    scores: Float[Tensor, "N C"] | None = None
    """present class probabilities, detached; column 0 is the background under softmax. Filled when the sampler has
    `needs_predictions = True`, always in one-stage heads"""
    loss: Callable[[], Float[Tensor, " N"]] | None = None
    """present loss of each candidate (class and box), detached; computed when called"""
    predicted: Float[Tensor, "N 4"] | None = None
    """present predicted boxes, decoded, detached; filled together with `scores`"""
    level: Int[Tensor, " N"] | None = None
    """pyramid level of each candidate, 0 is the finest; None where candidates have none"""
    objectness: Float[Tensor, " N"] | None = None
    """present probability that there is an object, detached; None where the head predicts none beside the classes"""
    remembered: Float[Tensor, "M 4"] | None = None
    """where an earlier model saw objects that are none, xyxy pixels; None outside of bootstrapping"""

    @property
    def positive(self) -> Bool[Tensor, " N"]:
        """Mask of the candidates that show an object."""
        return self.matched >= 0

    @property
    def negative(self) -> Bool[Tensor, " N"]:
        """Mask of the candidates that show background."""
        return self.matched == BACKGROUND


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """The chosen candidates of the whole batch, one flat table; what weights and joint losses see.

    In a head with sigmoid scores the column of class c is c (torchvision's own convention: column 0 is there and never
    positive); a head with a single column (objectness) has its objects there.
    """

    logits: Float[Tensor, "S C"]
    labels: Int[Tensor, " S"]
    """0 is background"""
    deltas: Float[Tensor, "S 4"]
    """predicted code"""
    codes: Float[Tensor, "S 4"]
    """true code; meaningless in background rows"""
    boxes: Float[Tensor, "S 4"]
    """the candidate, xyxy pixels"""
    truth: Float[Tensor, "S 4"]
    """its ground truth, xyxy pixels; meaningless in background rows"""
    iou: Float[Tensor, " S"]
    """IoU of the candidate with the ground truth that it overlaps most"""
    image: Int[Tensor, " S"]
    """row of the image in the batch"""
    level: Int[Tensor, " S"]
    """pyramid level, 0 where the head has none"""
    norm: Float[Tensor, " S"]
    """the detector's own averaging, as a weight: the sum of norm * loss is the detector's loss"""
    softmax: bool = False
    """is column 0 the background of a softmax?"""
    matched: Int[Tensor, " S"] | None = None
    """row of the ground truth in its image, BACKGROUND in background rows"""
    decode: Callable[[Tensor, Tensor], Tensor] | None = None
    """(deltas, boxes) -> xyxy; None: the plain (dx, dy, log w, log h) code"""
    loss: Callable[[], Float[Tensor, " S"]] | None = None
    """present classification loss of each row, detached; None where the class loss ranks a set"""
    objects: tuple[Target, ...] | None = None
    """all objects of each image, those without a row too; None where the head does not tell"""
    log_variance: Float[Tensor, "S 4"] | None = None
    """predicted log sigma^2 of the code; None where the head learns none"""
    generated: Bool[Tensor, " S"] | None = None
    """rows made for the box loss, which they alone train, and nothing else; None where all rows train both"""

    @property
    def positive(self) -> Bool[Tensor, " S"]:
        """Mask of the rows that show an object."""
        return self.labels > 0

    def take(self, rows: Bool[Tensor, " S"]) -> Samples:
        """Some of the rows."""
        columns = (f.name for f in fields(self) if isinstance(getattr(self, f.name), Tensor))
        return replace(self, **{name: getattr(self, name)[rows] for name in columns})

    def predicted(self) -> Float[Tensor, "S 4"]:
        """The predicted boxes, xyxy pixels, with gradient."""
        decode = self.decode or box_ops.decode
        return decode(self.deltas, self.boxes)

    def scores(self) -> Float[Tensor, "S C"]:
        """Class probabilities, with gradient."""
        return self.logits.softmax(-1) if self.softmax else self.logits.sigmoid()

    def onehot(self) -> Float[Tensor, "S C"]:
        """The target of a classification loss: one at the true class, a row of zeros for background under sigmoid."""
        target = torch.zeros_like(self.logits)
        columns = self.labels.clamp(max=target.shape[1] - 1)
        if self.softmax:
            return target.scatter_(1, columns[:, None], 1.0)
        rows = self.positive.nonzero().squeeze(1)
        target[rows, columns[rows]] = 1.0
        return target

    def instance(self) -> Int[Tensor, " S"]:
        """A number for each row's ground truth, distinct over the batch; background rows get BACKGROUND."""
        rows = self.positive
        if self.matched is not None:
            key = torch.stack((self.image[rows].double(), self.matched[rows].double()), 1)
        else:
            key = torch.cat((self.image[rows, None].double(), self.truth[rows].double()), 1)
        number = torch.full_like(self.labels, BACKGROUND)
        if len(key):
            number[rows] = torch.unique(key, dim=0, return_inverse=True)[1]
        return number


@dataclass(frozen=True, slots=True, eq=False)
class RegionParts:
    """What the region head of a two-stage detector is made of, one part after the other. What one returns the next one
    takes: a pool may give its head more than a map of each region."""

    pool: nn.Module
    """(features, boxes of each image, image shapes) -> what `head` takes; (R, C, h, w) in torchvision"""
    head: nn.Module
    """-> what `predictor` takes; (R, D) in torchvision"""
    predictor: nn.Module
    """-> logits (R, K), regression (R, 4 K), or (R, 4) for all classes together"""
    channels: int
    """of the feature maps"""
    neck: nn.Module | None = None
    """the pyramid that the detector will have; to look at"""
    softmax: bool = True
    """do the classes share a softmax? Else they have a sigmoid each, as the recipe's class loss has it"""


@dataclass(frozen=True, slots=True, eq=False)
class RegionStep:
    """A step of training of one region head: what a part with `supervise(step) -> dict of losses` is shown."""

    samples: Samples
    """the boxes that train, and the predictions that the head makes of them"""
    boxes: list[Float[Tensor, "N 4"]]
    """the same boxes, image by image"""
    features: dict[str, Float[Tensor, "B C H W"]]
    image_shapes: list[tuple[int, int]]
    """height, width"""
    pooled: Any
    """what the pool gave"""
    table: Callable[[Tensor, Tensor], Samples]
    """(other logits, other regression) of the same boxes -> samples with these"""
    head: nn.Module
    """what takes `pooled`"""
    predictor: nn.Module
    """what takes what `head` gives, and gives logits and regression"""


class Assigner(Protocol):
    """boxes (N, 4), target, level (N,), predictions or None -> matched (N,).

    One with `after_step(samples)` is told when a step of training is over; so is a box loss.
    """

    def __call__(
        self,
        boxes: Float[Tensor, "N 4"],
        target: Target,
        levels: Int[Tensor, " N"],
        predictions: tuple[Tensor, Tensor] | None = None,
    ) -> Int[Tensor, " N"]: ...


class Sampler(Protocol):
    """Candidates of one image -> rows of the chosen ones (hard sampling)."""

    def __call__(self, candidates: Candidates, generator: torch.Generator | None = None) -> Int[Tensor, " S"]: ...


class Weights(Protocol):
    """Samples -> a factor for each row (soft sampling).

    The attribute `applies_to`, "class" (the default), "box" or "both", says which loss it multiplies.
    """

    def __call__(self, samples: Samples) -> Float[Tensor, " S"]: ...


class ClassLoss(Protocol):
    """logits (S, C), target (S, C) -> (S, C), (S,), or () if it ranks a set.

    Attributes: `softmax` (False: one sigmoid a class), `target_kind` ("onehot", or "iou" for quality losses).
    A ranking loss takes `groups` (S,), the image of each row, and may rank within them. One with a method
    `soften(samples) -> (S,)` says how much of its object each positive row shows; the target is that instead of 1.
    """

    def __call__(
        self, logits: Float[Tensor, "S C"], target: Float[Tensor, "S C"], groups: Int[Tensor, " S"] | None = None
    ) -> Tensor: ...


class BoxLoss(Protocol):
    """predicted (P, 4), target (P, 4) -> (P,). `space` = "code" (the detector's box code) or "xyxy"."""

    def __call__(self, predicted: Float[Tensor, "P 4"], target: Float[Tensor, "P 4"]) -> Float[Tensor, " P"]: ...


class Augment(Protocol):
    """Image and target -> image and target; `others(j)` gives image and target j of the dataset, scaled alike.

    Targets may have masks (G, H, W). Chance comes from torch's own generator. One that has `fit(annotations, others)`
    is told the data before it is called, and gives a copy that knows it; one that has `hear(feedback)` is told at every
    epoch what it asks for with `needs`, see `image_sampling.Feedback`.
    """

    def __call__(
        self, image: Tensor, target: Target, others: Callable[[int], tuple[Tensor, Target]]
    ) -> tuple[Tensor, Target]: ...


class Views(Protocol):
    """Row of an image, how often it has been shown in this epoch, chance -> what of it is shown (`views.View`).

    `fit(annotations, image_size, proposals=None)` gives a copy that knows the data. See the folder `views` for what
    else one may have.
    """

    def __call__(self, i: int, nth: int, rng: np.random.Generator) -> View: ...


class Look(Protocol):
    """A detector and the images of a dataset -> the detections of each, as `prediction.predict`, which calls it.

    One that has `check(model)` raises ValueError there for detectors that cannot look so; `attach` calls it.
    """

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
    ) -> list[dict[str, np.ndarray]]: ...


class JointLoss(Protocol):
    """Samples -> the named losses, class and box together."""

    def __call__(self, samples: Samples) -> dict[str, Tensor]: ...
