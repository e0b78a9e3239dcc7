"""The region head follows its class loss: one sigmoid a class where the loss says so, in training and in detection."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import batched_nms, clip_boxes_to_image

from detbalance import Recipe, Stage, attach, recipes
from detbalance.detectors import build
from detbalance.losses import CrossEntropyLoss, FocalLoss, RankSortLoss
from detbalance.samplers import AllSampler


def detector(name="faster_rcnn"):
    torch.manual_seed(0)
    return build(name, classes=3, image_size=(64, 96)).train()


def batch():
    """Two images, the second without objects."""
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(3, 64, 96, generator=generator) for _ in range(2)]
    boxes = torch.tensor([[10.0, 10, 34, 34], [40, 20, 72, 52]])
    some = {"boxes": boxes, "labels": torch.tensor([1, 3])}
    return images, [some, {"boxes": boxes[:0], "labels": torch.zeros(0, dtype=torch.long)}]


def test_loss_is_that_of_the_columns():
    """Binary cross-entropy of every column, none of them right in a background row, the first never."""
    model = attach(detector(), Recipe(name="x", stages=Stage(cls_loss=CrossEntropyLoss(), prior=0.01)))
    seen = []
    model.roi_heads.treatment.observers.append(lambda head, samples, losses, rows: seen.append(samples))
    torch.manual_seed(1)
    losses = model(*batch())
    (samples,) = seen
    assert not samples.softmax
    naive = 0.0
    for logits, label in zip(samples.logits, samples.labels):
        for column, logit in enumerate(logits):
            truth = torch.tensor(float(label > 0 and column == label))
            naive = naive + F.binary_cross_entropy_with_logits(logit, truth)
    torch.testing.assert_close(losses["loss_classifier"], naive / len(samples.labels))
    torch.testing.assert_close(samples.logits.sigmoid().mean(), torch.tensor(0.01), atol=5e-3, rtol=0)


def test_detections_are_those_of_the_sigmoids():
    model = attach(detector(), Recipe(name="x", stages=Stage(cls_loss=FocalLoss(), score_threshold=0.3))).eval()
    heads, found, given = model.roi_heads, [], []
    own = heads.postprocess_detections

    def watched(*inputs):
        given.append(inputs)
        found.append(own(*inputs))
        return found[-1]

    heads.postprocess_detections = watched
    with torch.no_grad():
        model(batch()[0])
    (logits, regression, proposals, shapes), (boxes, scores, labels) = given[0], found[0]
    decoded = heads.box_coder.decode(regression, proposals)
    first = len(proposals[0])
    rows = [
        (clip_boxes_to_image(decoded[i, k], shapes[0]), logits[i, k].sigmoid(), k)
        for i in range(first)
        for k in range(1, 4)
        if logits[i, k].sigmoid() > 0.3
    ]
    assert rows
    b, s, k = (torch.stack([torch.as_tensor(row[j]) for row in rows]) for j in range(3))
    kept = batched_nms(b, s, k, heads.nms_thresh)[: heads.detections_per_img]
    torch.testing.assert_close(scores[0], s[kept])
    torch.testing.assert_close(boxes[0], b[kept])
    assert labels[0].tolist() == k[kept].tolist()


def test_softmax_stays_where_the_loss_does_not_say():
    model = attach(detector(), recipes.get("pisa", "rcnn"))
    assert model.roi_heads.treatment.softmax
    assert not attach(detector(), recipes.get("rank_sort", "rcnn")).roi_heads.treatment.softmax


def test_a_cascade_detects_by_the_mean_of_its_sigmoids():
    stage = Stage(cls_loss=FocalLoss(), score_threshold=0.01)
    model = attach(detector("cascade_rcnn"), Recipe(name="x", stages=stage)).eval()
    heads, seen = model.roi_heads, []
    last = heads.later[-1]
    own = last.postprocess_detections

    def watched(logits, *rest):
        seen.append(logits)
        return own(logits, *rest)

    last.postprocess_detections = watched
    logits = [[], [], []]
    for head, column in zip((heads, *heads.later), logits):
        head.box_predictor.register_forward_hook(lambda m, x, output, column=column: column.append(output[0]))
    with torch.no_grad():
        model(batch()[0])
    mean = torch.stack([column[-1].sigmoid() for column in logits]).mean(0)
    torch.testing.assert_close(seen[0].sigmoid(), mean)


def test_a_cascade_of_both_kinds_is_refused():
    stages = (Stage(cls_loss=FocalLoss()), Stage())
    with pytest.raises(ValueError, match="one kind of scores"):
        attach(detector(), Recipe(name="x", stages=stages))


def test_scores_at_the_ends_stay_finite():
    heads = attach(detector(), Recipe(name="x", stages=Stage(cls_loss=FocalLoss()))).roi_heads
    logits = torch.tensor([[-1e4, -5.0, 0.0, 20.0]])
    again = heads.logits_of(heads.log_scores(logits)).sigmoid()
    torch.testing.assert_close(again, logits.sigmoid())


@pytest.mark.parametrize("sample", [None, AllSampler()])
def test_ranking_trains_the_region_head(sample):
    model = attach(detector(), Recipe(name="x", stages=Stage(cls_loss=RankSortLoss(), sample=sample, prior=0.01)))
    twin = copy.deepcopy(model)
    losses = []
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(12):
        found = model(*batch())
        total = sum(found.values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(float(found["loss_classifier"].detach()))
    assert losses[-1] < 0.7 * losses[0]
    none = [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}] * 2
    found = twin(batch()[0], none)
    sum(found.values()).backward()
    assert all(value.isfinite() for value in found.values())
