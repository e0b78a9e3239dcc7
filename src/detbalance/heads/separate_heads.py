"""A head of its own for each level: the proposal layers of MS-CNN."""

from __future__ import annotations

from copy import deepcopy
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..common import require
from ..taxonomy import Imbalance

__all__ = ["SeparateHeads"]


class SeparateHeads(nn.Module):
    """Predicts on every level with weights of its own, where detectors on a pyramid share one head: maps of a backbone
    without a pyramid mean different things, and what finds small objects need not find large ones.

    Cai et al., section 3.1: MS-CNN proposes at several layers of the backbone, each by a branch of its own. In a
    proposal network (slot `proposal_head`) upon `necks.FeatureHierarchy` these are its proposal layers, which the
    recipe `ms_cnn` puts together; anchors, sampling and losses are the detector's. MS-CNN's detection sub-network (a
    deconvolution before the pooling, context about each region) and its weights of the layers' losses are not here. In
    RetinaNet (slot `head`) it is SSD's way.

    The finest level keeps the parameters and their names; those of the others, `further`, start as copies.

    Args:
        head: of a proposal network or of RetinaNet.
        levels: how many; the detector tells.

    Shapes: as the head's own; as many maps as `levels`.
    Identity: before the first step it is the head as it was.
    Errors: ValueError for another number of maps.

    >>> from torchvision.models.detection.rpn import RPNHead
    >>> head = SeparateHeads(RPNHead(4, 3), levels=2)
    >>> [tuple(logits.shape) for logits in head([torch.zeros(1, 4, 8, 8), torch.zeros(1, 4, 4, 4)])[0]]
    [(1, 3, 8, 8), (1, 3, 4, 4)]
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.OBJECT_SCALE,)
    paper: ClassVar[str] = (
        "Cai, Fan, Feris, Vasconcelos, A Unified Multi-scale Deep Convolutional Neural Network for Fast Object "
        "Detection, ECCV 2016, arXiv:1607.07155"
    )

    def __init__(self, head: nn.Module, *, levels: int) -> None:
        super().__init__()
        require(levels >= 1, "levels", "1 or more", levels)
        further = [deepcopy(head) for _ in range(levels - 1)]
        self._own = (head,)  # in a tuple it is no part of this one; its own parts are, by their names
        for name, child in head.named_children():
            self.add_module(name, child)
        self.further = nn.ModuleList(further)

    def forward(
        self, features: list[Float[Tensor, "B C H W"]]
    ) -> dict[str, Float[Tensor, "B N K"]] | tuple[list[Tensor], list[Tensor]]:
        """The predictions of all levels."""
        heads = (*self._own, *self.further)
        if len(features) != len(heads):
            raise ValueError(f"expected {len(heads)} maps, one for each head, but got {len(features)}")
        found = [head([feature]) for head, feature in zip(heads, features)]
        if isinstance(found[0], dict):
            return {name: torch.cat([level[name] for level in found], 1) for name in found[0]}
        logits, boxes = zip(*found)
        return [x for level in logits for x in level], [x for level in boxes for x in level]

    def supervise(
        self,
        outputs: dict[str, Tensor],
        matched: Int[Tensor, "B N"],
        labels: Int[Tensor, "B N"],
        norm: Float[Tensor, " B"],
    ) -> tuple[Int[Tensor, "B N"], dict[str, Tensor]]:
        """Nothing of its own."""
        return matched, {}
