"""The score that a detector starts from, taken from the data: its own share of foreground among the anchors.

Chen et al. (arXiv:1909.04868), optimal bias initialisation: the cross-entropy over all candidates is least, and its
gradient calm, if at first every score is what it is on average, N_fg / (N C) for N_fg positives among N candidates and
C classes. On COCO that is about 1e-5 in RetinaNet and 1e-4 in a proposal network; on other data it is something else.
"""

from __future__ import annotations

import torch
from torch import nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from .adapters.stage import objectness_biases, set_prior
from .data.annotations import Annotations
from .diagnosis.anchors import RETINANET, AnchorPreset, anchor_statistics
from .image_sampling import images_of

__all__ = ["foreground_prior", "preset_of", "set_from_data"]


def foreground_prior(
    annotations: Annotations, anchors: AnchorPreset = RETINANET, *, classes: int | None = None
) -> float:
    """N_fg / (N C): how probable one class is at one anchor. Ignored anchors do not count.

    Args:
        annotations: the training data.
        anchors: of the detector; `preset_of(model)` reads them off a model.
        classes: C; None: those of the data. 1 for a proposal network.

    Raises ValueError for data without a single anchor. Without a positive one the result is that of one.

    >>> from detbalance.data.annotations import Annotations
    >>> one = Annotations.from_arrays(classes=["cat", "dog"], sizes=[(640, 480)], image=[0], label=[1],
    ...                               boxes=[[100, 100, 300, 300]])
    >>> f"{foreground_prior(one):.2e}"  # 43 positives, 163109 negatives, 2 classes
    '1.32e-04'
    """
    counted = anchor_statistics(annotations, anchors)
    positives, negatives = int(counted.positives.sum()), int(counted.negatives.sum())
    if not positives + negatives:
        raise ValueError(f"{annotations.source or 'the dataset'} has no image of known size, and so no anchors")
    classes = len(annotations.classes) if classes is None else classes
    return max(1, positives) / ((positives + negatives) * max(1, classes))


def set_from_data(model: nn.Module, annotations: Annotations) -> dict[str, float]:
    """Start the classifiers whose recipe says `prior="data"` from the data's own share of foreground, and tell the
    methods that ask (`counts=None`) how frequent the classes are.

    Returns the priors that were set, by stage. Raises ValueError for a stage whose candidates are no anchors compared
    by IoU.
    """
    recipe, found = model.recipe, {}
    asked = {"proposals": recipe.proposals.prior == "data", "stages": any(s.prior == "data" for s in recipe.cascade)}
    if asked["stages"]:
        if not isinstance(model, RetinaNet):
            raise ValueError(f"recipe {recipe.name!r}: prior 'data' of stages needs RetinaNet's anchors")
        found["stages"] = foreground_prior(annotations, preset_of(model))
        for bias in objectness_biases(model.head):
            set_prior(bias, found["stages"], softmax=False)
    if asked["proposals"]:
        found["proposals"] = foreground_prior(annotations, preset_of(model), classes=1)
        for bias in objectness_biases(model.rpn.head):
            set_prior(bias, found["proposals"], softmax=False)
    _set_counts(model, annotations)
    return found


def _set_counts(model: nn.Module, annotations: Annotations) -> None:
    """Hand the number of objects, or images, of each class to the methods without counts of their own."""
    for part in model.modules():
        if getattr(part, "given", 0) is None and hasattr(part, "set_counts"):
            counts = images_of(annotations) if part.counts_of == "images" else annotations.counts
            part.set_counts((0, *counts.tolist()))


def preset_of(model: RetinaNet | GeneralizedRCNN) -> AnchorPreset:
    """The anchors, thresholds and image size of a RetinaNet or of a proposal network.

    Raises ValueError for anchors that the network learns.

    >>> from detbalance.detectors import build
    >>> preset = preset_of(build("retinanet", classes=3))
    >>> preset.strides, preset.sizes[0], preset.positive
    ((8, 16, 32), (16.0, 20.0, 25.0), 0.5)
    """
    owner = model if isinstance(model, RetinaNet) else model.rpn
    if not hasattr(owner.anchor_generator, "sizes"):
        raise ValueError(f"{type(model).__name__}: its anchors are learnt, and not known before")
    generator, matcher, resize = owner.anchor_generator, owner.proposal_matcher, model.transform
    return AnchorPreset(
        name=type(model).__name__,
        strides=_strides(model, resize.size_divisible),
        sizes=tuple(tuple(map(float, level)) for level in generator.sizes),
        ratios=tuple(tuple(map(float, level)) for level in generator.aspect_ratios),
        min_size=resize.min_size[-1],
        max_size=resize.max_size,
        size_divisible=resize.size_divisible,
        positive=matcher.high_threshold,
        negative=matcher.low_threshold,
        low_quality=matcher.allow_low_quality_matches,
    )


@torch.no_grad()
def _strides(model: nn.Module, divisible: int) -> tuple[int, ...]:
    """Of each pyramid level, from one pass over a blank image."""
    side, training = 8 * divisible, model.backbone.training
    like = next(model.backbone.parameters())
    maps = model.backbone.eval()(torch.zeros(1, 3, side, side, dtype=like.dtype, device=like.device))
    model.backbone.train(training)
    return tuple(side // m.shape[-1] for m in maps.values())
