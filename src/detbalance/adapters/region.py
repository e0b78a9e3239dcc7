"""Other parts in the region head of a two-stage detector: how they are put in, told the model, and asked for losses."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

from torch import nn
from torchvision.models.detection.roi_heads import RoIHeads

from ..types import RegionParts
from .two_stage import subclassed

__all__ = ["classifiers_of", "screens_of", "show_model", "supervisors_of", "with_region"]


def with_region(
    heads: RoIHeads, region: Callable | tuple[Callable, ...], channels: int, neck: nn.Module | None, softmax: bool
) -> RoIHeads:
    """The head, or all those of a cascade, with parts that `region` makes of copies of its own; `heads` stays as it is.

    The rest is what the parts are told. Raises TypeError if it makes something else.
    """
    new = subclassed(heads, type(heads))
    own = (deepcopy(part) for part in (heads.box_roi_pool, heads.box_head, heads.box_predictor))
    parts = RegionParts(*own, channels, neck, softmax)
    for make in region if isinstance(region, tuple) else (region,):
        parts = make(parts)
        if not isinstance(parts, RegionParts):
            raise TypeError(f"{make!r}: expected RegionParts but got {type(parts).__name__}")
    new.box_roi_pool, new.box_head, new.box_predictor = parts.pool, parts.head, parts.predictor
    if hasattr(heads, "later"):
        new.later = nn.ModuleList(with_region(head, region, channels, neck, softmax) for head in heads.later)
    return new


def show_model(model: nn.Module) -> None:
    """Let the parts that ask for it, with a method `watch(model)`, see the model that they have become part of."""
    for part in _with(model.roi_heads, "watch"):
        part.watch(model)


def supervisors_of(heads: RoIHeads) -> list[nn.Module]:
    """The parts of one region head that learn something of their own."""
    return _of_boxes(heads, "supervise")


def screens_of(heads: RoIHeads) -> list[nn.Module]:
    """The parts of one region head that say what the losses see of its predictions."""
    return _of_boxes(heads, "screen")


def classifiers_of(predictor: nn.Module) -> list[nn.Linear]:
    """The layers of a box predictor that tell classes apart."""
    return [layer for name, layer in predictor.named_modules() if name.rpartition(".")[2] == "cls_score"]


def _of_boxes(heads: RoIHeads, method: str) -> list[nn.Module]:
    return [p for part in (heads.box_roi_pool, heads.box_head, heads.box_predictor) for p in _with(part, method)]


def _with(module: nn.Module, method: str) -> list[nn.Module]:
    return [part for part in module.modules() if hasattr(part, method)]
