import pytest
import torch
from torchvision.ops import box_iou, nms

from detbalance.samplers import OHEMSampler


def naive(c, count, threshold):
    """The paper's loop: take the highest loss, drop its neighbours, until `count` are there."""
    loss, iou = c.loss().tolist(), box_iou(c.boxes.double(), c.boxes.double())
    left = sorted((i for i, m in enumerate(c.matched.tolist()) if m != -2), key=lambda i: -loss[i])
    kept = []
    while left and len(kept) < count:
        best, *left = left
        kept.append(best)
        left = [i for i in left if threshold is None or iou[best, i] <= threshold]
    return sorted(kept)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("threshold", [0.0, 0.7, 1.0, None])
@pytest.mark.parametrize("count", [1, 64, 1000])
def test_naive(candidates, count, threshold, ties):
    for seed in range(2):
        c = candidates(seed, ties=ties)
        assert OHEMSampler(count=count, nms_threshold=threshold)(c).tolist() == naive(c, count, threshold)


def test_torchvision_nms(candidates):
    c = candidates(ignored=0)
    expected = nms(c.boxes, c.loss(), 0.7)[:64].sort().values
    assert OHEMSampler()(c).equal(expected)


def test_suppression_of_a_part_is_that_of_the_whole(candidates):
    """Hundreds of boxes on one spot: the first rounds keep too few, the later ones must look further."""
    c = candidates(positives=5, negatives=800, ignored=10)
    boxes = c.boxes.clone()
    loss = c.loss().clone()
    boxes[:600] = torch.tensor([0.0, 0, 10, 10])
    loss[:600] += 100
    crowded = type(c)(boxes, c.matched, c.iou, c.labels, loss=lambda: loss)
    assert OHEMSampler(count=8)(crowded).tolist() == naive(crowded, 8, 0.7)


@pytest.mark.parametrize(("count", "fraction"), [(64, 0.25), (40, 0.5), (10, 0.0), (400, 0.25)])
def test_per_kind(candidates, count, fraction):
    c = candidates(ties=True)
    loss, matched = c.loss().tolist(), c.matched.tolist()
    hardest = sorted(range(len(loss)), key=lambda i: -loss[i])
    positive = [i for i in hardest if matched[i] >= 0][: int(count * fraction)]
    negative = [i for i in hardest if matched[i] == -1][: count - len(positive)]
    sampler = OHEMSampler(count=count, per_kind=True, positive_fraction=fraction)
    assert sampler(c).tolist() == sorted(positive + negative)
    assert sampler.positives(c, 3).tolist() == [i for i in hardest if matched[i] >= 0][:3]
    assert sampler.negatives(c, 3).tolist() == [i for i in hardest if matched[i] == -1][:3]


@pytest.mark.parametrize("options", [{}, {"per_kind": True}, {"nms_threshold": None}])
def test_sparse(sparse, options):
    rows = OHEMSampler(**options)(sparse)
    assert not (sparse.matched[rows] == -2).any()
    assert rows.dtype == torch.int64
    if options:
        assert len(rows) == min(64, int((sparse.matched != -2).sum())) or sparse.positive.sum() > 16


@pytest.mark.parametrize("options", [{"count": 0}, {"nms_threshold": 2}, {"positive_fraction": -0.1}])
def test_refuses(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        OHEMSampler(**options)
