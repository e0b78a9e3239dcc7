"""YOLOv2 (Redmon and Farhadi 2017, arXiv 1612.08242): one final map, anchors from the data, objectness learns IoU."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import batched_nms, clip_boxes_to_image

from ..common import widen, world_size
from ..data.annotations import Annotations
from .anchor_shapes import COCO_SHAPES, yolo_anchors
from .darknet import YOLOv2Head, yolo_backbone
from .multi_scale import MultiScale
from .region import RegionLoss, decode, priors, responsible

__all__ = ["YOLOv2", "build_yolov2"]


def build_yolov2(
    *, classes: int, size: str = "nano", image_size: tuple[int, int] = (192, 256), weights: str | None = None
) -> YOLOv2:
    """YOLOv2 for `classes` object classes.

    `nano` (about 1 million parameters) predicts at stride 16, so that an image of 192 x 256 has as many places as the
    paper's; `small` stands on ResNet-18, `base` on Darknet-19 as in the paper. There is no `large`. The anchors are
    those of COCO until `fit_anchors` gives them the data's.

    >>> model = build_yolov2(classes=3)
    >>> 0.8e6 < sum(p.numel() for p in model.parameters()) < 1.3e6
    True
    """
    backbone, channels, stride = yolo_backbone(size, weights)
    width, passed = {"nano": (128, 16), "small": (512, 64), "base": (1024, 64)}[size]
    head = YOLOv2Head(channels, width=width, passed=passed, anchors=len(COCO_SHAPES), classes=classes)
    return YOLOv2(
        backbone, head, stride=stride, image_size=image_size, detections_per_img=100 if size == "nano" else 300
    )


class YOLOv2(nn.Module):
    """The detector, called as torchvision's are: images and targets in training give a dict of losses, images alone the
    detections in their own pixels.

    The losses, summed over the elements of an image and averaged over the images, are those of `RegionLoss`.

    Args:
        backbone: images -> {"fine", "coarse"}, the fine map of twice the size.
        head: maps -> (B, N, 5 + K).
        stride: of the coarse map.
        image_size: height and width that images are scaled into, keeping their shape.
        loss: the loss of each element.
        scales: multi-scale training: each batch is scaled by one of these factors besides, drawn from torch's global
            generator (the paper draws one of 320/416 to 608/416 every ten batches); () for none.
        score_thresh, nms_thresh, topk_candidates, detections_per_img: as in torchvision's detectors.
    """

    anchors: Tensor
    """(A, 2) widths and heights in pixels of the input, at whatever scale it comes"""
    seen: Tensor
    """images trained on"""

    def __init__(
        self,
        backbone: nn.Module,
        head: YOLOv2Head,
        *,
        stride: int = 32,
        image_size: tuple[int, int] = (416, 416),
        loss: RegionLoss | None = None,
        scales: tuple[float, ...] = (),
        score_thresh: float = 0.005,
        nms_thresh: float = 0.45,
        topk_candidates: int = 1000,
        detections_per_img: int = 300,
    ) -> None:
        super().__init__()
        self.backbone, self.head, self.stride, self.image_size = backbone, head, stride, tuple(image_size)
        self.loss = loss or RegionLoss()
        self.transform = MultiScale(image_size, scales)
        self.score_thresh, self.nms_thresh = score_thresh, nms_thresh
        self.topk_candidates, self.detections_per_img = topk_candidates, detections_per_img
        shapes = COCO_SHAPES * (image_size[0] * image_size[1]) ** 0.5 / 13
        self.register_buffer("anchors", torch.tensor(shapes, dtype=torch.float32))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def fit_anchors(self, annotations: Annotations) -> None:
        """Take the anchors from the boxes of a dataset; to be done before training."""
        shapes = yolo_anchors(annotations, len(self.anchors), image_size=self.image_size)
        self.anchors.copy_(torch.from_numpy(np.ascontiguousarray(shapes)))

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None):
        """Losses in training, else detections."""
        if self.training and targets is None:
            raise ValueError("expected targets in training mode but got None")
        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        batch, targets = self.transform(images, targets)
        _check_boxes(targets)
        outputs, boxes, grid = self.predict(batch.tensors)
        if not self.training:
            found = self.postprocess_detections(outputs, boxes, batch.image_sizes)
            return self.transform.postprocess(found, batch.image_sizes, sizes)
        losses = self.compute_loss(targets, outputs, boxes, batch.image_sizes, grid)
        self.seen += len(images) * world_size()
        return losses

    def predict(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor, tuple[int, int]]:
        """The head's outputs for each of N elements, the (N, 4) anchors in their places, height and width of the map.

        "bbox_regression" (B, N, 4) is the code of `region.encode`, "objectness" (B, N), "cls_logits" (B, N, K).
        """
        rows = widen(self.head(self.backbone(images)))
        height, width = (side // self.stride for side in images.shape[-2:])
        outputs = {
            "bbox_regression": torch.cat((rows[..., :2].sigmoid(), rows[..., 2:4]), -1),
            "objectness": rows[..., 4],
            "cls_logits": rows[..., 5:],
        }
        return outputs, priors(height, width, self.anchors.to(rows.dtype), self.stride), (height, width)

    def match(self, target: dict[str, Tensor], predicted: Tensor, grid: tuple[int, int]) -> Tensor:
        """YOLOv2's own assignment: (N,) row of the ground truth, BACKGROUND or IGNORED."""
        truth = target["boxes"].to(predicted.dtype)
        element = responsible(truth, self.anchors.to(truth.dtype), grid, self.stride)
        return self.loss.match(truth, element, predicted)

    def element_losses(
        self, targets: list[dict[str, Tensor]], outputs: dict[str, Tensor], boxes: Tensor, sizes: list, matched: Tensor
    ) -> dict[str, Tensor]:
        """The three losses of each element, (B, N), given what it is matched with."""
        columns = [_of_matched(m, t, boxes.dtype) for m, t in zip(matched, targets)]
        truth, labels = (torch.stack(column) for column in zip(*columns))
        area = boxes.new_tensor([height * width for height, width in sizes])
        warming = bool(self.seen < self.loss.prior_images)
        everywhere = boxes.expand(len(targets), -1, -1)
        return self.loss.elements(outputs, everywhere, matched, truth, labels, area, self.stride, warming=warming)

    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        outputs: dict[str, Tensor],
        boxes: Tensor,
        sizes: list[tuple[int, int]],
        grid: tuple[int, int],
    ) -> dict[str, Tensor]:
        """The losses of a batch: summed over the elements, averaged over the images."""
        predicted = decode(outputs["bbox_regression"].detach(), boxes, self.stride)
        matched = torch.stack([self.match(target, mine, grid) for target, mine in zip(targets, predicted)])
        elements = self.element_losses(targets, outputs, boxes, sizes, matched)
        return {name: loss.sum() / len(targets) for name, loss in elements.items()}

    def postprocess_detections(
        self, outputs: dict[str, Tensor], boxes: Tensor, sizes: list[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        """Class probability times objectness, the best of them, suppressed class by class."""
        scores = outputs["objectness"].sigmoid()[..., None] * outputs["cls_logits"].softmax(-1)
        predicted = decode(outputs["bbox_regression"], boxes, self.stride)
        found = []
        for score, box, size in zip(scores, predicted, sizes):
            element, label = (score > self.score_thresh).nonzero(as_tuple=True)
            score = score[element, label]
            best = score.topk(min(self.topk_candidates, len(score))).indices
            box, score, label = clip_boxes_to_image(box[element[best]], size), score[best], label[best] + 1
            box, keep = self.suppress(box, score, label)
            found.append({"boxes": clip_boxes_to_image(box, size), "scores": score[keep], "labels": label[keep]})
        return found

    def suppress(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The detections of an image that stay, best first, and their rows."""
        rows = batched_nms(boxes, scores, labels, self.nms_thresh)[: self.detections_per_img]
        return boxes[rows], rows


def _of_matched(matched: Tensor, target: dict[str, Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Box and label of the object that each element is matched with, zeros for none."""
    boxes = F.pad(target["boxes"].to(dtype), (0, 0, 0, 1))
    labels = F.pad(target["labels"], (0, 1))
    rows = torch.where(matched >= 0, matched, len(boxes) - 1)
    return boxes[rows], labels[rows]


def _check_boxes(targets: list[dict[str, Tensor]] | None) -> None:
    for image, target in enumerate(targets or ()):
        bad = (target["boxes"][:, 2:] <= target["boxes"][:, :2]).any(1).nonzero()
        if len(bad):
            raise ValueError(
                f"expected boxes with positive width and height but got {target['boxes'][bad[0, 0]].tolist()} in "
                f"target {image}"
            )
