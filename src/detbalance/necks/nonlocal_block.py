"""The embedded-Gaussian non-local block: every place of a map looks at every other."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

__all__: list[str] = []


class NonLocal(nn.Module):
    """x + out(softmax(query . key) value), over all places of a map (Wang et al. 2018, equations 3 to 6).

    As in Libra R-CNN: no reduction of the channels, no scaling of the product. `out` starts at zero, so the block
    starts as the identity. Memory stays linear in the number of places where torch has a fused attention kernel.
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
        query, key, value = (f(x).flatten(2).transpose(1, 2) for f in (self.query, self.key, self.value))
        seen = F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None], scale=1.0)[:, 0]
        return x + self.out(seen.transpose(1, 2).reshape(x.shape))
