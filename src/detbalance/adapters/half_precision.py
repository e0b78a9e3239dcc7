"""Under autocast, places stay in float32: torchvision would make anchors and decode boxes in half precision."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ["keep_places_exact"]

_HALF = (torch.float16, torch.bfloat16)


def keep_places_exact(model: nn.Module) -> None:
    """Let the detector make its anchors, and hand on its heads' predictions, in float32 whatever autocast says.

    bfloat16 has eight bits: beyond pixel 256 it knows every other pixel only, and all anchors, proposals and targets
    would be rounded to those. Without autocast nothing changes.
    """
    for name, module in model.named_modules():
        last = name.rpartition(".")[2]
        if last == "anchor_generator":
            module.register_forward_pre_hook(_shapes_in_float32)
        elif last == "box_predictor" or name in ("head", "rpn.head"):
            module.register_forward_hook(_output_in_float32)


def _shapes_in_float32(module: nn.Module, inputs: tuple) -> tuple:
    """Anchor generators take shape, device and type from the features: tensors without memory of their own do."""
    images, features = inputs
    return images, [torch.empty(1, device=f.device).expand(f.shape) if f.dtype in _HALF else f for f in features]


def _output_in_float32(module: nn.Module, inputs: tuple, output: object) -> object:
    return _raised(output)


def _raised(value):
    if isinstance(value, Tensor):
        return value.float() if value.dtype in _HALF else value
    if isinstance(value, Mapping):
        return {name: _raised(entry) for name, entry in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(_raised(entry) for entry in value)
    return value
