"""Replacing the head of a torchvision detector, or that of its proposal network."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

from torch import nn

from .neck import takes

__all__ = ["build_head", "build_proposal_head"]


def build_head(model: nn.Module, head: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """`head` built from a copy of the model's own, whose trained weights it keeps; the model is not touched.

    Raises TypeError if what is built cannot stand in the old one's place.
    """
    return _built(model.head, head, ("classification_head", "regression_head"), model.anchor_generator)


def build_proposal_head(model: nn.Module, head: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """As `build_head`, for the proposal network of a two-stage detector."""
    return _built(model.rpn.head, head, ("cls_logits", "bbox_pred"), model.rpn.anchor_generator)


def _built(old: nn.Module, head: Callable[..., nn.Module], parts: tuple[str, str], generator: nn.Module) -> nn.Module:
    """A head that takes `levels` is told how many maps the detector predicts on."""
    options = {"levels": len(generator.num_anchors_per_location())} if takes(head, "levels") else {}
    new = head(deepcopy(old), **options)
    if not isinstance(new, nn.Module) or not all(hasattr(new, name) for name in parts):
        raise TypeError(f"{head!r}: expected a module with {' and '.join(parts)} but got {type(new).__name__}")
    return new.train(old.training)
