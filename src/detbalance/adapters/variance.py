"""What a head needs to learn the variance of its boxes: a code of corners, and a layer beside the regressor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder

from ..common import widen
from ..heads._wrapped import flatten

__all__ = ["CornerCoder", "VarianceLayer", "VarianceMaps", "deviations", "regressors"]

_LIMIT = 20.0  # of log sigma^2, as in the loss


class CornerCoder(BoxCoder):
    """He et al. 2019, equation 1: the shifts of the four sides, by the proposal's width and height.

    >>> import torch
    >>> coder = CornerCoder((10.0, 10.0, 10.0, 10.0))
    >>> coder.encode_single(torch.tensor([[1.0, 0, 10, 22]]), torch.tensor([[0.0, 0, 10, 20]]))
    tensor([[1., 0., 0., 1.]])
    """

    def encode_single(self, reference_boxes: Tensor, proposals: Tensor) -> Tensor:
        """The code that turns proposals into boxes."""
        weights = proposals.new_tensor(self.weights)
        return (reference_boxes - proposals) / _sizes(proposals).clamp(min=1e-6) * weights

    def decode_single(self, rel_codes: Tensor, boxes: Tensor) -> Tensor:
        """(N, 4 K) the boxes that codes make of proposals."""
        boxes = boxes.to(rel_codes.dtype)
        codes = rel_codes.reshape(len(boxes), rel_codes.shape[1] // 4, 4) / rel_codes.new_tensor(self.weights)
        return (boxes[:, None] + codes * _sizes(boxes)[:, None]).flatten(1)


class VarianceLayer(nn.Linear):
    """log sigma^2 of each predicted coordinate, from what the regressor sees."""

    def __init__(self, regressor: nn.Linear) -> None:
        super().__init__(regressor.in_features, regressor.out_features)
        _start(self, regressor)

    def forward(self, x: Tensor) -> Tensor:
        return widen(super().forward(x.flatten(1)[:, : self.in_features]))  # behind them a head may have more

    def deviations(self, x: Tensor, proposals: Tensor, weights: tuple[float, ...]) -> Tensor:
        """(N, K, 4) in pixels."""
        return deviations(self(x).reshape(len(x), self.out_features // 4, 4), proposals[:, None], weights)


class VarianceMaps(nn.Module):
    """log sigma^2 of each coordinate of each anchor of a dense head, from what its regressors see.

    Each regressor has a convolution of its own shape beside it. The head's predictions gain `log_variance` (B, N, 4).
    """

    def __init__(self, regressors: Sequence[nn.Conv2d]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Beside(regressor) for regressor in regressors)

    def install(self, head: nn.Module, regressors: Sequence[nn.Conv2d]) -> None:
        """See what the regressors see, and add to what the head predicts."""
        head.register_forward_pre_hook(self._forget)
        for layer, regressor in zip(self.layers, regressors):
            regressor.register_forward_hook(layer.see)
        head.register_forward_hook(self._add)

    def _forget(self, head: nn.Module, inputs: tuple) -> None:
        for layer in self.layers:
            layer.maps.clear()

    def _add(self, head: nn.Module, inputs: tuple, output: dict[str, Tensor]) -> dict[str, Tensor]:
        maps = [seen for layer in self.layers for seen in layer.maps]
        self._forget(head, inputs)
        return {**output, "log_variance": torch.cat([flatten(seen, 4) for seen in maps], 1)}


class _Beside(nn.Conv2d):
    """A convolution over what a regressor sees."""

    def __init__(self, regressor: nn.Conv2d) -> None:
        shape = {name: getattr(regressor, name) for name in ("kernel_size", "stride", "padding")}
        super().__init__(regressor.in_channels, regressor.out_channels, **shape)
        _start(self, regressor)
        self.maps: list[Tensor] = []

    def see(self, regressor: nn.Conv2d, inputs: tuple, output: Tensor) -> None:
        """A hook: once for each map that the regressor is applied to."""
        self.maps.append(widen(self(inputs[0])))


def regressors(head: nn.Module) -> list[nn.Conv2d]:
    """The last layers of a dense head's boxes: one for all levels, or one for each.

    Raises ValueError for a head in which they are not found.
    """
    branch = head.regression_head
    blocks = getattr(branch, "module_list", None) or [getattr(branch, "bbox_reg", None)]
    found = [[m for m in block.modules() if isinstance(m, nn.Conv2d)] if block else [] for block in blocks]
    if not all(found):
        raise ValueError(
            f"expected a regression_head with a convolution bbox_reg or a module_list, to learn deviations, but got "
            f"{branch!r}"
        )
    return [layers[-1] for layers in found]  # SSDlite's blocks have two


def deviations(log_variance: Tensor, boxes: Tensor, weights: tuple[float, ...]) -> Tensor:
    """(..., 4) in pixels, of log sigma^2 of a code of sides by the sizes of (..., 4) boxes."""
    return (log_variance.clamp(-_LIMIT, _LIMIT) / 2).exp() * _sizes(boxes) / boxes.new_tensor(weights)


def _start(layer: nn.Module, regressor: nn.Module) -> None:
    nn.init.normal_(layer.weight, std=1e-4)
    nn.init.zeros_(layer.bias)
    layer.to(regressor.weight)


def _sizes(boxes: Tensor) -> Tensor:
    """(..., 4) width, height, width, height."""
    size = boxes[..., 2:] - boxes[..., :2]
    return torch.cat((size, size), -1)
