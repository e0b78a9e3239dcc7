"""What a region head needs to learn the variance of its boxes: a code of corners, and a layer beside the regressor."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder

from ..common import widen

__all__ = ["CornerCoder", "VarianceLayer"]

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
        nn.init.normal_(self.weight, std=1e-4)
        nn.init.zeros_(self.bias)
        self.to(regressor.weight)

    def forward(self, x: Tensor) -> Tensor:
        return widen(super().forward(x.flatten(1)))

    def deviations(self, x: Tensor, proposals: Tensor, weights: tuple[float, ...]) -> Tensor:
        """(N, K, 4) in pixels."""
        log_variance = self(x).reshape(len(x), self.out_features // 4, 4).clamp(-_LIMIT, _LIMIT)
        return (log_variance / 2).exp() * (_sizes(proposals) / proposals.new_tensor(weights))[:, None]


def _sizes(boxes: Tensor) -> Tensor:
    """(N, 4) width, height, width, height."""
    return (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
