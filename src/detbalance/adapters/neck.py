"""Replacing the feature pyramid of a torchvision backbone."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from torch import nn
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops import FeaturePyramidNetwork

__all__ = ["build_neck", "takes"]


def build_neck(model: nn.Module, neck: Callable[..., nn.Module]) -> nn.Module:
    """`neck` built for the backbone's channels, to stand in place of its FPN.

    Weights that the new neck shares with the old one by name and shape (its FPN inside) are taken over, so that a
    pretrained pyramid is not lost.

    Raises ValueError for a backbone without an FPN.
    """
    backbone = model.backbone
    old = getattr(backbone, "fpn", None)
    if not isinstance(old, FeaturePyramidNetwork):
        raise ValueError(
            f"expected a backbone with an `fpn` to replace (such as {BackboneWithFPN.__name__}) but got "
            f"{type(backbone).__name__}"
        )
    channels = [block[0].in_channels for block in old.inner_blocks]
    options = {"extra_blocks": old.extra_blocks} if takes(neck, "extra_blocks") else {}
    if old.extra_blocks is not None and not options:
        raise ValueError(f"{neck!r} takes no `extra_blocks`, but this detector predicts on extra pyramid levels")
    new = neck(channels, backbone.out_channels, **options)
    shapes = {name: value.shape for name, value in new.state_dict().items()}
    kept = {name: value for name, value in old.state_dict().items() if shapes.get(name) == value.shape}
    new.load_state_dict(kept, strict=False)
    return new


def takes(function: Callable, name: str) -> bool:
    """Has a function an argument of that name?"""
    parameters = inspect.signature(function).parameters
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
