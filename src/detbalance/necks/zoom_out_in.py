"""Zoom out-and-in network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from ..common import require
from ..taxonomy import Imbalance
from ._neck import Neck, convolution, excitation
from ._resize import fit


class ZoomOutIn(Neck):
    """The backbone zooms out, a chain of deconvolutions zooms in again, and at each size both streams are stacked; for
    they are far apart in the hierarchy, a map attention decision says of every image which channels count.

    Li et al., section 3 (the review's figure 10f): B_top = conv(C_top), B_i = deconv(B_i+1), without a lateral link to
    the backbone, and P_i = conv3x3(s * [B_i, C_i]), where s are the weights of the channels, found from their means by
    two layers. The paper's inception modules belong to its backbone and are left out; how it norms the weights is not
    known here, they lie between 0 and 1 by a sigmoid. Deconvolutions are 4x4 with stride two.

    Shapes: as `FPN`.

    >>> maps = {"0": torch.zeros(1, 8, 13, 9), "1": torch.zeros(1, 16, 7, 5)}
    >>> {name: tuple(x.shape) for name, x in ZoomOutIn([8, 16], 4)(maps).items()}
    {'0': (1, 4, 13, 9), '1': (1, 4, 7, 5)}
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FEATURE_LEVEL,)
    paper: ClassVar[str] = (
        "Li et al., Zoom Out-and-In Network with Map Attention Decision, IJCV 2019, arXiv:1709.04347, sec. 3"
    )

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        *,
        extra_blocks: ExtraFPNBlock | None = None,
        ratio: int = 16,
    ):
        """`ratio`: by how much the attention squeezes the channels."""
        super().__init__(extra_blocks)
        require(ratio >= 1, "ratio", "1 or greater", ratio)
        stacked = [out_channels + c for c in in_channels]
        self.turn = convolution(in_channels[-1], out_channels)
        self.zoom_in = nn.ModuleList(nn.ConvTranspose2d(out_channels, out_channels, 4, 2, 1) for _ in in_channels[1:])
        self.decide = nn.ModuleList(excitation(c, ratio=ratio) for c in stacked)
        self.layer_blocks = nn.ModuleList(nn.Sequential(convolution(c, out_channels, 3)) for c in stacked)

    def merge(self, inputs: list[Tensor]) -> list[Tensor]:
        """Both streams, weighed and convolved."""
        stream = [F.relu(self.turn(inputs[-1]))]
        for layer, like in zip(reversed(self.zoom_in), reversed(inputs[:-1])):
            stream.insert(0, F.relu(fit(layer(stream[0]), like.shape[-2:])))
        stacks = [torch.cat(pair, 1) for pair in zip(stream, inputs)]
        weights = [decide(x.mean((2, 3), keepdim=True)) for decide, x in zip(self.decide, stacks)]
        return [block(w * x) for block, w, x in zip(self.layer_blocks, weights, stacks)]
