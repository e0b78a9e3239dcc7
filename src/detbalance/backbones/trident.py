"""Branches of different receptive fields that share their weights."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..common import require
from ..dilated import dilated_conv2d
from ..taxonomy import Imbalance
from ..valid_ranges import check_ranges

__all__ = ["Trident", "TridentConv"]


@dataclass(frozen=True, kw_only=True)
class Trident:
    """Runs the backbone's last stage in three branches that share all weights and differ in the dilation of their
    convolutions, each trained on objects of a size that suits its receptive field: small, middle and large objects are
    learnt by the same parameters and still seen through fields of their own.

    Li et al., section 3.2 (trident blocks: every 3 x 3 convolution of stride 1 of the stage, dilated) and equation 1
    (scale-aware training: a branch learns objects with l <= sqrt(wh) <= u, and regions alike). In detection the boxes
    within the range of each branch are merged by non-maximum suppression; with `branch` one of them detects alone, at
    the cost of the detector as it is, which the paper (section 3.4) trains with all ranges open, `ranges=None`.

    The branches are a batch three times as long, so anything with a backbone of stages under a pyramid can have them
    (RetinaNet, FCOS, Faster, Mask and Keypoint R-CNN). No parameter is added, and no name in the state_dict changes.
    The paper's detectors have no pyramid: here the dilated maps also go down it, into the finer levels. Its ranges, 0
    to 90, 30 to 160 and from 90 pixels of COCO's images, are shares of the image's side (see `valid_ranges`).

    Shapes: a BackboneWithFPN -> the same, whose maps have three times the batch (in detection with one `branch`, the
    batch), branch by branch.
    Identity: one branch of dilation 1 is the backbone as it is.
    Errors: ValueError for settings out of range, ranges that leave a size of objects to no branch, or a backbone
    without a stage to dilate.

    >>> from detbalance.detectors import build
    >>> backbone = Trident()(build("retinanet", classes=2).backbone)
    >>> [tuple(level.shape) for level in backbone.train()(torch.zeros(1, 3, 64, 64)).values()]
    [(3, 64, 8, 8), (3, 64, 4, 4), (3, 64, 2, 2)]
    """

    dilations: tuple[int, ...] = (1, 2, 3)
    ranges: tuple[tuple[float, float], ...] | None = ((0.0, 0.162), (0.054, 0.289), (0.162, 1.0))
    """of the side of objects that each branch learns, over the image's; None: every branch learns all"""
    branch: int | None = None
    """the one that detects; None: all"""
    iou: float = 0.5
    """above which two detections of a class, of different branches, are one"""

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.OBJECT_SCALE,)
    paper: ClassVar[str] = (
        "Li, Chen, Wang, Zhang, Scale-Aware Trident Networks for Object Detection, ICCV 2019, arXiv:1901.01892"
    )

    def __post_init__(self) -> None:
        count = len(self.dilations)
        require(count > 0 and min(self.dilations) >= 1, "dilations", "one or more, of 1 or more", self.dilations)
        require(self.branch is None or 0 <= self.branch < count, "branch", f"None or below {count}", self.branch)
        require(0 <= self.iou <= 1, "iou", "in [0, 1]", self.iou)
        if self.ranges is not None:
            check_ranges(self.ranges, count)

    def __call__(self, backbone: nn.Module) -> nn.Module:
        stages = list(backbone.body.children()) if hasattr(backbone, "body") and hasattr(backbone, "fpn") else []
        layers = [(m, n, c) for m in (stages[-1].modules() if stages else ()) for n, c in m.named_children()]
        layers = [(m, n, c) for m, n, c in layers if _dilates(c)]
        if not layers:
            raise ValueError(
                f"expected a backbone whose `body` ends in a stage with 3 x 3 convolutions of stride 1, as a ResNet "
                f"under an FPN, but got {type(backbone).__name__}"
            )
        for module, name, layer in layers:
            setattr(module, name, TridentConv.of(layer, self))
        stages[-1].register_forward_pre_hook(partial(_enter, self))
        backbone.body.register_forward_hook(partial(_leave, self))
        return backbone

    def active(self, training: bool) -> tuple[int, ...]:
        """Numbers of the branches that run.

        >>> Trident(branch=1).active(False)
        (1,)
        """
        return tuple(range(len(self.dilations))) if training or self.branch is None else (self.branch,)


class TridentConv(nn.Conv2d):
    """A convolution whose batch consists of the branches, each with its own dilation."""

    trident: Trident

    @classmethod
    def of(cls, old: nn.Conv2d, trident: Trident) -> TridentConv:
        """With the same parameters."""
        new = cls.__new__(cls)
        nn.Module.__init__(new)
        new.__dict__.update({name: copy(value) for name, value in old.__dict__.items()})
        new.trident = trident
        return new

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N D H W"]:
        """Each branch's part of the batch through the same weights."""
        dilations = [self.trident.dilations[i] for i in self.trident.active(self.training)]
        parts = x.chunk(len(dilations))
        found = [dilated_conv2d(p, self.weight, self.bias, d, self.groups) for p, d in zip(parts, dilations)]
        return torch.cat(found)


def _dilates(layer: nn.Module) -> bool:
    if not isinstance(layer, nn.Conv2d) or layer.padding_mode != "zeros":
        return False
    return (layer.kernel_size, layer.stride, layer.padding, layer.dilation) == ((3, 3), (1, 1), (1, 1), (1, 1))


def _enter(trident: Trident, stage: nn.Module, inputs: tuple) -> tuple:
    """A hook: the stage's input once for each branch."""
    return (inputs[0].repeat(len(trident.active(stage.training)), 1, 1, 1), *inputs[1:])


def _leave(trident: Trident, body: nn.Module, inputs: tuple, output: dict[str, Tensor]) -> dict[str, Tensor]:
    """A hook: the maps of the earlier stages as often as the last stage's."""
    rows = len(inputs[0]) * len(trident.active(body.training))
    return type(output)((name, x.repeat(rows // len(x), 1, 1, 1)) for name, x in output.items())
