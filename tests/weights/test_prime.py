from dataclasses import replace

import pytest
import torch
from torchvision.ops import box_iou

from detbalance.types import BACKGROUND, Samples
from detbalance.weights import PrimeSampleWeights


def naive(s, *, power=(2.0, 0.5), bias=(0.0, 0.0), threshold=0.05, nms=0.5):
    """The paper, row by row: ranks by counting who comes before, equations 5 and 6, then the two scales."""
    n = len(s.labels)
    label, image, gt = s.labels.tolist(), s.image.tolist(), s.matched.tolist()
    predicted = s.predicted().detach()
    quality = box_iou(predicted, s.truth).diagonal().tolist()
    score = s.scores().detach()[:, 1:].amax(1).tolist()
    positive = [i for i in range(n) if label[i] > 0]
    negative = [i for i in range(n) if label[i] == 0]
    loss = (s.norm * s.loss()).tolist() if s.loss else s.norm.tolist()

    def ranks(rows, value, group, kind):
        local = {i: sum((-value[j], j) < (-value[i], i) for j in rows if group[j] == group[i]) for i in rows}
        key = {i: (local[i], -value[i], i) for i in rows}
        return {i: sum(key[j] < key[i] for j in rows if kind[j] == kind[i]) for i in rows}

    def weigh(rank, count, power, bias):
        w = {i: ((1 - bias) * (count - r) / count + bias) ** power for i, r in rank.items()}
        total, new = sum(loss[i] for i in rank), sum(w[i] * loss[i] for i in rank)
        return {i: w[i] * total / new for i in rank}

    out = [1.0] * n
    largest = max((label.count(k) for k in set(label) - {0}), default=1)
    for i, w in weigh(ranks(positive, quality, list(zip(image, gt)), label), largest, power[0], bias[0]).items():
        out[i] = w
    cluster = clusters([i for i in negative if score[i] > threshold], score, image, predicted, nms)
    high = ranks(list(cluster), score, cluster, [0] * n)
    rank = {i: high.get(i, max(0, len(high) - 1)) for i in negative}
    for i, w in weigh(rank, len(negative), power[1], bias[1]).items():
        out[i] = w
    return torch.tensor(out, dtype=torch.float64)


def clusters(rows, score, image, boxes, nms):
    """{row: (image, keeper)} by greedy suppression within each image."""
    iou, result = box_iou(boxes, boxes), {}
    for best in sorted(rows, key=lambda i: -score[i]):
        if best not in result:
            for i in rows:
                if i not in result and image[i] == image[best] and (i == best or iou[best, i] > nms):
                    result[i] = (image[best], best)
    return result


@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("positives", "negatives"), [(30, 60), (1, 1), (0, 20), (20, 0), (0, 0), (60, 3)])
def test_naive(samples, positives, negatives, ties, softmax):
    for seed in range(3):
        s = samples(seed, positives=positives, negatives=negatives, ties=ties, softmax=softmax)
        torch.testing.assert_close(PrimeSampleWeights()(s), naive(s), rtol=1e-10, atol=1e-12)


def test_options(samples):
    s = samples()
    mine = PrimeSampleWeights(
        positive_power=1.5,
        positive_bias=0.2,
        negative_power=1,
        negative_bias=0.1,
        score_threshold=0.6,
        iou_threshold=0.2,
    )
    expected = naive(s, power=(1.5, 1.0), bias=(0.2, 0.1), threshold=0.6, nms=0.2)
    torch.testing.assert_close(mine(s), expected)
    only = PrimeSampleWeights(negative=False)(s)
    assert only[s.positive].equal(PrimeSampleWeights()(s)[s.positive])
    assert (only[~s.positive] == 1).all()
    only = PrimeSampleWeights(positive=False)(s)
    assert only[~s.positive].equal(PrimeSampleWeights()(s)[~s.positive])
    assert (only[s.positive] == 1).all()


@pytest.mark.parametrize("known", [True, False])
def test_the_total_loss_stays(samples, known):
    s = samples() if known else replace(samples(), loss=None)
    loss = s.norm * s.loss() if known else s.norm
    weights = PrimeSampleWeights()(s)
    for rows in (s.positive, ~s.positive):
        torch.testing.assert_close((weights * loss)[rows].sum(), loss[rows].sum())
        assert weights[rows].std() > 0.1
    torch.testing.assert_close(weights, naive(s))


@pytest.mark.parametrize(
    "options", [{"positive_power": 0, "negative_power": 0}, {"positive_bias": 1, "negative_bias": 1}]
)
def test_flat_weights_change_nothing(samples, options):
    weights = PrimeSampleWeights(**options)(samples())
    torch.testing.assert_close(weights, torch.ones_like(weights))


def toy(labels, ious=None, scores=None, image=None, matched=None):
    """Boxes 20 wide whose prediction has the given IoU with the truth, or lies where nobody else does."""
    s = len(labels)
    labels, image = torch.tensor(labels), torch.tensor(image or [0] * s)
    matched = torch.where(labels > 0, torch.tensor(matched or [0] * s), BACKGROUND)
    corner = torch.zeros(s, 4, dtype=torch.float64) + 100.0 * (labels == 0)[:, None] * torch.arange(s)[:, None]
    boxes = corner + torch.tensor([0.0, 0, 20, 20])
    shift = torch.zeros(s, 4, dtype=torch.float64)
    if ious:
        iou = torch.tensor(ious, dtype=torch.float64)
        shift[:, 0] = (1 - iou) / (1 + iou)  # moved by d widths, the IoU is (1 - d) / (1 + d)
    logits = torch.zeros(s, 2, dtype=torch.float64)
    if scores:
        logits[:, 1] = torch.tensor(scores, dtype=torch.float64).logit()
    number, norm = torch.zeros_like(labels), torch.ones(s, dtype=torch.float64)
    return Samples(logits, labels, shift, shift, boxes, boxes, norm, image, number, norm, True, matched)


def test_table_3_of_the_review():
    """gamma = 1, beta = 0; one class. The negatives are as printed. Of the positives (1 and 0.75 in the table) the
    second is 0.5 here: the table counts the four negatives as a class and has N = 4 for the positives too."""
    s = toy([1, 1, 0, 0, 0, 0], [0.95, 0.55, 1, 1, 1, 1], [0.8, 0.2, 0.9, 0.7, 0.4, 1e-6])
    weights = PrimeSampleWeights(positive_power=1, negative_power=1, score_threshold=-1)(s)
    negative = torch.tensor([1, 0.75, 0.5, 0.25], dtype=torch.float64)
    torch.testing.assert_close(weights[2:], negative * 4 / negative.sum())
    positive = torch.tensor([1, 0.5], dtype=torch.float64)
    torch.testing.assert_close(weights[:2], positive * 2 / positive.sum())


def test_the_predicted_box_is_ranked_not_the_candidate():
    s = toy([1, 1, 1], [0.6, 0.9, 0.7])
    assert PrimeSampleWeights()(replace(s, iou=torch.tensor([0.9, 0.6, 0.7]))).argsort(descending=True).tolist() == [
        1,
        2,
        0,
    ]


def test_objects_of_different_images_never_merge():
    """The best box of each image's object comes before any second best, with three images too (row numbers repeat)."""
    s = toy([1] * 6, [0.9, 0.8, 0.7, 0.6, 0.95, 0.5], image=[0, 0, 1, 1, 2, 2], matched=[0, 0, 0, 0, 0, 0])
    order = PrimeSampleWeights()(s).argsort(descending=True).tolist()
    assert order == [4, 0, 2, 1, 3, 5]
    torch.testing.assert_close(PrimeSampleWeights()(s), naive(s))


def test_weights_are_detached_and_computed_in_float32(samples):
    """Boxes of 300 pixels: their areas are beyond float16."""
    s = samples(dtype=torch.float32)
    s = replace(s, boxes=10 * s.boxes, truth=10 * s.truth, logits=s.logits.half(), deltas=s.deltas.half())
    weights = PrimeSampleWeights()(replace(s, logits=s.logits.requires_grad_(), deltas=s.deltas.requires_grad_()))
    assert weights.dtype == torch.float32
    assert not weights.requires_grad
    torch.testing.assert_close(
        weights, PrimeSampleWeights()(replace(s, logits=s.logits.float(), deltas=s.deltas.float()))
    )


@pytest.mark.parametrize("loss", [0.0, float("inf")])
def test_a_loss_that_gives_no_scale(samples, loss):
    s = samples()
    weights = PrimeSampleWeights()(replace(s, loss=lambda: torch.full_like(s.norm, loss)))
    assert weights.isfinite().all()
    assert weights.max() == 1


@pytest.mark.parametrize(
    "options",
    [
        {"positive_power": -1},
        {"negative_power": float("inf")},
        {"negative_bias": 2},
        {"iou_threshold": -1},
        {"score_threshold": 2},
    ],
)
def test_refuses(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        PrimeSampleWeights(**options)
