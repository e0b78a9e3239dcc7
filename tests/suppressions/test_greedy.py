"""Suppression by DIoU and by the Wasserstein distance against the loop, and in the detector."""

import math

import pytest
import torch
from torchvision.ops import batched_nms, box_iou

from detbalance import Recipe, Stage, attach
from detbalance.detectors import build
from detbalance.suppressions import DIoUSuppression, NWDSuppression
from detbalance.suppressions._greedy import greedy


def scene(count=120, seed=0, classes=3):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.randint(0, 40, (count, 2), generator=generator).float()
    side = torch.randint(4, 20, (count, 2), generator=generator).float()
    scores = torch.randint(1, 60, (count,), generator=generator) / 60  # with ties
    return torch.cat((corner, corner + side), 1), scores, torch.randint(1, classes + 1, (count,), generator=generator)


def diou(a, b):
    inner = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inner
    across = (max(a[2], b[2]) - min(a[0], b[0])) ** 2 + (max(a[3], b[3]) - min(a[1], b[1])) ** 2
    apart = ((a[0] + a[2] - b[0] - b[2]) ** 2 + (a[1] + a[3] - b[1] - b[3]) ** 2) / 4
    return inner / union - apart / across


def nwd(a, b):
    means = [(a[i] + a[i + 2] - b[i] - b[i + 2]) / 2 for i in (0, 1)]
    deviations = [((a[i + 2] - a[i]) - (b[i + 2] - b[i])) / 2 for i in (0, 1)]
    return math.exp(-math.sqrt(sum(d * d for d in means + deviations)) / 12.8)


def loop(boxes, scores, labels, measure, threshold):
    """The textbook: best first, each takes its like with it."""
    boxes, left, kept = boxes.tolist(), sorted(range(len(boxes)), key=lambda i: -scores[i]), []
    while left:
        best, *left = left
        kept.append(best)
        left = [i for i in left if labels[i] != labels[best] or measure(boxes[best], boxes[i]) <= threshold]
    return kept


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("method", "measure"), [(DIoUSuppression(), diou), (NWDSuppression(), nwd)])
def test_equals_the_loop(method, measure, seed):
    boxes, scores, labels = scene(seed=seed)
    for threshold in (0.2, 0.45, 0.7):
        found, rows = method(boxes, scores, labels, None, iou=threshold, limit=1000)
        assert rows.tolist() == loop(boxes, scores.tolist(), labels.tolist(), measure, threshold)
        assert torch.equal(found, boxes[rows])
    assert len(method(boxes, scores, labels, None, iou=0.45, limit=5)[1]) == 5


def test_by_iou_it_is_torchvisions():
    boxes, scores, labels = scene(400)
    scores = scores + torch.arange(400) * 1e-6  # without ties, whose order is nobody's
    assert torch.equal(greedy(boxes, scores, labels, box_iou, 0.5), batched_nms(boxes, scores, labels, 0.5))


@pytest.mark.parametrize("method", [DIoUSuppression(), NWDSuppression(constant=None)])
def test_nothing_leaves_nothing(method):
    boxes, rows = method(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long(), None, iou=0.5, limit=5)
    assert (boxes.shape, rows.shape) == ((0, 4), (0,))


def test_constant_and_threshold_of_its_own():
    boxes, scores, labels = scene(classes=1)
    mean = float(((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt().mean())
    one = NWDSuppression(constant=None, threshold=0.4)(boxes, scores, labels, None, iou=0.9, limit=1000)[1]
    other = NWDSuppression(constant=mean)(boxes, scores, labels, None, iou=0.4, limit=1000)[1]
    assert torch.equal(one, other)
    with pytest.raises(ValueError, match="threshold must be in"):
        NWDSuppression(threshold=2)
    with pytest.raises(ValueError, match="constant must be greater"):
        NWDSuppression(constant=-1)


@pytest.mark.parametrize("method", [DIoUSuppression(), NWDSuppression()])
def test_in_the_detector(method):
    """What is left has no pair of a class that the measure calls one."""
    torch.manual_seed(0)
    model = build("faster_rcnn", classes=3, image_size=(64, 96)).eval()
    model = attach(model, Recipe(name="a", stages=Stage(suppress=method, score_threshold=0.01)))
    image = torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        (found,) = model([image])
    rows = method(found["boxes"], found["scores"], found["labels"], None, iou=model.roi_heads.nms_thresh, limit=1000)[1]
    assert len(found["boxes"])
    assert len(rows) == len(found["boxes"])
