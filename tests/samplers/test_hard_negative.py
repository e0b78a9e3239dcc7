import math

import pytest
import torch

from detbalance.samplers import HardNegativeSampler


def torchvision_formula(c, ratio):
    """SSD.compute_loss: which rows of one image count in the classification loss."""
    loss, foreground = c.loss()[None], c.positive[None]
    number = ratio * foreground.sum(1, keepdim=True)
    negative_loss = loss.clone()
    negative_loss[foreground] = -float("inf")
    _, idx = negative_loss.sort(1, descending=True)
    return (foreground | (idx.sort(1)[1] < number))[0].nonzero().squeeze(1)


@pytest.mark.parametrize("ratio", [0, 1, 3.0, 2.5])
@pytest.mark.parametrize("positives", [0, 1, 7, 20])
def test_torchvision(candidates, ratio, positives):
    c = candidates(positives=positives, ignored=0)
    assert HardNegativeSampler(ratio=ratio)(c).equal(torchvision_formula(c, ratio))


@pytest.mark.parametrize("seed", range(5))
def test_loop_with_ties_and_ignored(candidates, seed):
    c = candidates(seed, positives=9, ties=True)
    loss, matched = c.loss().tolist(), c.matched.tolist()
    negatives = sorted((i for i, m in enumerate(matched) if m == -1), key=lambda i: -loss[i])  # stable
    expected = sorted([i for i, m in enumerate(matched) if m >= 0] + negatives[: math.ceil(1.7 * 9)])
    assert HardNegativeSampler(ratio=1.7)(c).tolist() == expected


def test_too_few_negatives_takes_them_all(candidates):
    c = candidates(positives=20, negatives=5)
    assert HardNegativeSampler()(c).equal((c.matched != -2).nonzero().squeeze(1))


def test_minimum(candidates):
    c = candidates(positives=0, negatives=50)
    assert len(HardNegativeSampler()(c)) == 0
    rows = HardNegativeSampler(minimum=8)(c)
    assert len(rows) == 8
    assert c.loss()[rows].min() >= c.loss()[c.negative].sort().values[-8]
    assert len(HardNegativeSampler(minimum=8)(candidates(positives=1))) == 9
    assert len(HardNegativeSampler(minimum=80)(c)) == 50


def test_sparse(sparse):
    assert len(HardNegativeSampler(minimum=1)(sparse)) <= len(sparse.matched)


def test_refuses(candidates):
    with pytest.raises(ValueError, match="ratio"):
        HardNegativeSampler(ratio=-1)
    with pytest.raises(ValueError, match="minimum"):
        HardNegativeSampler(minimum=-1)
    c = candidates()
    without = type(c)(c.boxes, c.matched, c.iou, c.labels)
    with pytest.raises(ValueError, match="HardNegativeSampler ranks by candidates"):
        HardNegativeSampler()(without)


def test_minus_infinity_never_takes_an_ignored_row(candidates):
    c = candidates(positives=3, negatives=2, ignored=9)
    chosen = HardNegativeSampler(ratio=100)(c)
    assert not (c.matched[chosen] == -2).any()
    assert torch.unique(chosen).numel() == 5
