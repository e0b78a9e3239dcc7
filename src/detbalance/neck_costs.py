"""What a neck costs: parameters and floating-point operations at a stated size, from shapes alone."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["STATED", "NeckCost", "neck_cost"]

STATED = "512 x 512 pixels at strides 8, 16 and 32, from 512, 1024 and 2048 channels to 256"
"""the size that `neck_cost` takes unless told otherwise: ResNet-50's last three maps"""


@dataclass(frozen=True, kw_only=True)
class NeckCost:
    """Of one image through a neck, forward."""

    parameters: int
    flops: int
    """floating-point operations of convolutions and products of matrices; a multiplication and an addition are two"""

    def __str__(self) -> str:
        return f"{self.parameters / 1e6:.3g} M parameters, {self.flops / 1e9:.3g} GFLOPs"


def neck_cost(
    neck: Callable,
    *,
    in_channels: Sequence[int] = (512, 1024, 2048),
    out_channels: int = 256,
    image_size: tuple[int, int] = (512, 512),
    strides: Sequence[int] = (8, 16, 32),
) -> NeckCost:
    """The cost of a neck that is built as `neck(in_channels, out_channels)`; nothing is computed but shapes.

    Raises ValueError for not as many strides as channels.

    >>> from detbalance.necks import FeatureHierarchy
    >>> print(neck_cost(FeatureHierarchy))
    0.918 M parameters, 1.88 GFLOPs
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    if len(strides) != len(in_channels):
        raise ValueError(f"expected as many strides as channels, {len(in_channels)}, but got {len(strides)}")
    counter = FlopCounterMode(display=False)
    with torch.device("meta"), torch.no_grad():
        module = neck(list(in_channels), out_channels).eval()
        shapes = [(1, c, *(-(-side // stride) for side in image_size)) for c, stride in zip(in_channels, strides)]
        maps = OrderedDict((str(i), torch.empty(shape)) for i, shape in enumerate(shapes))
        with counter:
            module(maps)
    return NeckCost(parameters=sum(p.numel() for p in module.parameters()), flops=counter.get_total_flops())
