"""The embedded-Gaussian non-local block: every place of a map looks at every other."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..common import widen

__all__: list[str] = []


class NonLocal(nn.Module):
    """x + out(softmax(query . key) value), over all places of a map (Wang et al. 2018, equations 3 to 6).

    As in Libra R-CNN: no reduction of the channels, no scaling of the product. `out` starts at zero, so the block
    starts as the identity. Memory stays linear in the number of places where torch has a fused attention kernel.

    The products grow to thousands within a hundred steps, where bfloat16 counts in steps of eight: the block computes
    in float32 whatever the rest does. (In bfloat16, a GPU's fused kernel gave gradients that were no numbers.)
    """

    def __init__(self, channels: int):
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Conv2d(channels, channels, 1) for _ in range(4))
        for layer in (self.query, self.key, self.value):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        with torch.autocast("cpu" if x.is_meta else x.device.type, enabled=False):
            inner = x.to(self.query.weight.dtype)
            query, key, value = (widen(f(inner)).flatten(2).transpose(1, 2) for f in (self.query, self.key, self.value))
            seen = F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None], scale=1.0)[:, 0]
            added = self.out(seen.transpose(1, 2).reshape(x.shape).to(inner.dtype))
        return x + added.to(x.dtype)
