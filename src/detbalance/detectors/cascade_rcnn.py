"""Cascade R-CNN (Cai and Vasconcelos 2018, arXiv 1712.00726): Faster R-CNN with three region heads in a row."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN

# The module and not the package: the package imports detectors itself.
from ..adapters.cascade import CascadeRoIHeads
from ..assigners import MaxIoUAssigner
from ..recipe import Stage
from .faster_rcnn import build_faster_rcnn

__all__ = ["STAGES", "ClassAgnosticPredictor", "build_cascade_rcnn"]


def _stage(iou: float, weight: float, codes: float) -> Stage:
    assign = MaxIoUAssigner(positive=iou, negative=iou, low_quality=False)
    code_weights = (2 * codes, 2 * codes, codes, codes)
    return Stage(assign=assign, code_weights=code_weights, cls_weight=weight, box_weight=weight)


STAGES = (_stage(0.5, 1.0, 5.0), _stage(0.6, 0.5, 10.0), _stage(0.7, 0.25, 15.0))
"""the paper's: what counts as an object, the weight of the losses, the factors of the box code"""


class ClassAgnosticPredictor(nn.Module):
    """Scores of all classes, and one box for all of them; it is repeated, since torchvision expects one each.

    >>> import torch
    >>> scores, boxes = ClassAgnosticPredictor(8, 4)(torch.zeros(2, 8))
    >>> scores.shape, boxes.shape
    (torch.Size([2, 4]), torch.Size([2, 16]))
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(in_channels, num_classes)
        self.bbox_pred = nn.Linear(in_channels, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.flatten(1)
        scores = self.cls_score(x)
        return scores, self.bbox_pred(x).repeat(1, scores.shape[1])


def build_cascade_rcnn(
    *, classes: int, size: str = "nano", image_size: tuple[int, int] = (192, 256), weights: str | None = None
) -> FasterRCNN:
    """Cascade R-CNN for `classes` object classes (the background not counted): `build_faster_rcnn` with three heads of
    the same size, each with one box for all classes, as in the paper.

    A recipe of one stage goes into all three, one of three stages replaces theirs.

    >>> model = build_cascade_rcnn(classes=3)
    >>> len(model.roi_heads.later)
    2
    """
    model = build_faster_rcnn(classes=classes, size=size, image_size=image_size, weights=weights)
    channels = model.roi_heads.box_predictor.cls_score.in_features
    model.roi_heads.box_predictor = ClassAgnosticPredictor(channels, classes + 1)
    heads = CascadeRoIHeads.of_stages(model.roi_heads, STAGES, None)
    for layer in heads.later.modules():
        if isinstance(layer, nn.Linear):  # copies of the first head so far
            layer.reset_parameters()
    heads.own = STAGES
    model.roi_heads = heads
    return model
