"""Which image is drawn how often, and new images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..augment import ContextPaste, CopyPaste, CutPaste, InstanceSwitching, MixUp, Mosaic
from ..image_sampling import (
    BalancedBatches,
    ClassAwareSampling,
    EffectiveNumberSampling,
    FailingClassSampling,
    ImageLossSampling,
    OverSampling,
    RepeatFactorSampling,
    SizeGroupSampling,
    UnderSampling,
)
from ..recipe import Recipe, Stage
from ..weights import ClassBalancedWeights
from ._shared import check_kind

__all__ = [
    "balanced_batches",
    "class_aware",
    "context_paste",
    "copy_paste",
    "cut_paste",
    "easy_images_first",
    "effective_number_sampling",
    "failing_classes",
    "hard_images_first",
    "instance_switching",
    "mixup",
    "mosaic",
    "over_sampling",
    "repeat_factor",
    "size_groups",
    "under_sampling",
]


def repeat_factor(kind: str) -> Recipe:
    """LVIS's repeat factor sampling, every class below the most frequent one repeated by the root of its rarity."""
    return _drawn("repeat_factor", kind, RepeatFactorSampling(threshold=None))


def class_aware(kind: str) -> Recipe:
    """Images drawn class by class, every class in turn."""
    return _drawn("class_aware", kind, ClassAwareSampling())


def over_sampling(kind: str) -> Recipe:
    """Images of rare classes repeated until all classes are in equally many, ten times at most."""
    return _drawn("over_sampling", kind, OverSampling(limit=10.0))


def under_sampling(kind: str) -> Recipe:
    """Images of frequent classes left out, others in each pass, a tenth of them kept at least."""
    return _drawn("under_sampling", kind, UnderSampling(least=0.1))


def effective_number_sampling(kind: str) -> Recipe:
    """Images drawn by the inverse of the effective number of images of their rarest class."""
    return _drawn("effective_number_sampling", kind, EffectiveNumberSampling())


def size_groups(kind: str) -> Recipe:
    """Images drawn size by size: with small, with medium and with large objects in turn."""
    return _drawn("size_groups", kind, SizeGroupSampling())


def failing_classes(kind: str) -> Recipe:
    """Images of the classes of low AP, measured after every epoch, drawn more often."""
    return _drawn("failing_classes", kind, FailingClassSampling())


def easy_images_first(kind: str) -> Recipe:
    """Self-paced learning: images of low loss first, those of high loss let in epoch by epoch."""
    return _drawn("easy_images_first", kind, ImageLossSampling())


def hard_images_first(kind: str) -> Recipe:
    """Images of high loss first, those of low loss let in epoch by epoch."""
    return _drawn("hard_images_first", kind, ImageLossSampling(hardest_first=True))


def balanced_batches(kind: str) -> Recipe:
    """Images drawn class by class, and spread over the batches so that each has its share of every class."""
    return _drawn("balanced_batches", kind, BalancedBatches(images=ClassAwareSampling()))


def cut_paste(kind: str) -> Recipe:
    """Objects cut out of other images and pasted anywhere, every class as often, under several blendings."""
    return _augmented("cut_paste", kind, CutPaste())


def copy_paste(kind: str) -> Recipe:
    """Objects of one image over another, both jittered strongly in scale; the pasted ones of every class as often."""
    return _augmented("copy_paste", kind, CopyPaste(classes="even"))


def context_paste(kind: str) -> Recipe:
    """Objects of every class as often, pasted where the data show such objects, and as large."""
    return _augmented("context_paste", kind, ContextPaste())


def instance_switching(kind: str) -> Recipe:
    """Objects in the places of others of their class, more of the classes of low AP, with a class-balanced loss."""
    balanced = Stage(weigh=ClassBalancedWeights(counts=None))
    return replace(_augmented("instance_switching", kind, InstanceSwitching()), stages=balanced)


def mosaic(kind: str) -> Recipe:
    """Half of the images made of four."""
    return _augmented("mosaic", kind, Mosaic())


def mixup(kind: str) -> Recipe:
    """Half of the images mixed of two."""
    return _augmented("mixup", kind, MixUp())


def _drawn(name: str, kind: str, images: Callable) -> Recipe:
    """A choice of images, which any detector takes."""
    check_kind(kind)
    return Recipe(name=name, images=images)


def _augmented(name: str, kind: str, augment: Callable) -> Recipe:
    """New images, which any detector takes."""
    check_kind(kind)
    return Recipe(name=name, augment=augment)
