"""The two small networks: one decides how an object is pasted, one tells composites from real images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["Discriminator", "Synthesiser"]

_CELLS = 4  # of the trunk's map, in each direction: where things are is kept


class Synthesiser(nn.Module):
    """Object and image -> mean and deviation of each of `outputs` decisions.

    One trunk, with the same weights, sees object and image. At first every mean is 0 and every deviation 1.
    """

    def __init__(self, outputs: int, width: int) -> None:
        super().__init__()
        self.outputs = outputs
        self.trunk = nn.Sequential(
            *_halving(4, width),
            *_halving(width, 2 * width),
            *_halving(2 * width, 2 * width),
            nn.AdaptiveAvgPool2d(_CELLS),
        )
        self.join = nn.Linear(4 * width * _CELLS**2, 4 * width)
        self.decide = nn.Linear(4 * width, 2 * outputs)
        nn.init.zeros_(self.decide.weight)
        nn.init.zeros_(self.decide.bias)

    def forward(
        self, front: Float[Tensor, "n 4 s s"], back: Float[Tensor, "n 4 s s"]
    ) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
        """The object's colours and alpha, the image's colours and where its boxes are."""
        seen = torch.cat((self.trunk(front).flatten(1), self.trunk(back).flatten(1)), 1)
        mean, spread = self.decide(F.leaky_relu(self.join(seen), 0.2)).split(self.outputs, 1)
        # Never at the end of what it may choose, never certain, never without bound.
        return 2 * torch.tanh(mean / 2), torch.exp(1.5 * torch.tanh(spread))


class Discriminator(nn.Module):
    """A window around an object -> the logit of its being real, and not pasted."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*_halving(3, width), *_halving(width, 2 * width), *_halving(2 * width, 4 * width))
        self.score = nn.Linear(4 * width, 1)

    def forward(self, windows: Float[Tensor, "n 3 s s"]) -> Float[Tensor, " n"]:
        """One logit each."""
        return self.score(self.layers(2 * windows - 1).mean((2, 3))).squeeze(1)


def _halving(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    """A convolution that keeps the size of what it sees: with torch's own start nothing is left of it after three."""
    convolution = nn.Conv2d(inputs, outputs, 3, 2, 1)
    nn.init.kaiming_normal_(convolution.weight, 0.2)
    nn.init.zeros_(convolution.bias)
    return convolution, nn.GroupNorm(1, outputs), nn.LeakyReLU(0.2)
