import pytest
import torch
from torchvision.ops import box_iou

from detbalance.samplers import RandomSampler, ScoreHLRSampler


def naive(c, threshold, nms):
    """Valid negatives in the order of their Score-HLR, by the loops of the paper's figure 3."""
    score = c.scores[:, 1:].amax(1).tolist()
    iou = box_iou(c.predicted.double(), c.predicted.double())
    left = sorted((i for i in c.negative.nonzero().flatten().tolist() if score[i] > threshold), key=lambda i: -score[i])
    local = {}
    while left:  # greedy suppression: a kept box and those that it suppresses are a cluster, already sorted by score
        best = left[0]
        cluster = [best] + [i for i in left[1:] if iou[best, i] > nms]
        for rank, i in enumerate(cluster):
            local[i] = rank
        left = [i for i in left if i not in local]
    return sorted(sorted(local), key=lambda i: (local[i], -score[i]))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("count", [1, 10, 40, 512])
@pytest.mark.parametrize(("threshold", "nms"), [(0.05, 0.5), (0.5, 0.1), (-1, 0.3), (0.9, 0.9)])
def test_naive(candidates, count, threshold, nms, ties):
    for seed in range(3):
        c = candidates(seed, ties=ties)
        order = naive(c, threshold, nms)
        sampler = ScoreHLRSampler(score_threshold=threshold, iou_threshold=nms)
        rows = sampler.negatives(c, count, torch.Generator().manual_seed(0)).tolist()
        assert rows[: len(order)] == order[:count]
        assert len(rows) == len(set(rows)) == min(count, 200)
        assert set(rows) <= set(c.negative.nonzero().flatten().tolist())


def test_one_cluster_each_is_the_highest_scores(candidates):
    c = candidates()
    rows = ScoreHLRSampler(iou_threshold=1).negatives(c, 20)
    score = c.scores[:, 1:].amax(1).masked_fill(~c.negative, -1)
    assert rows.tolist() == score.argsort(descending=True)[:20].tolist()


def test_nobody_above_the_threshold_is_random_sampling(candidates):
    c = candidates()
    mine = ScoreHLRSampler(count=64, score_threshold=1)(c, torch.Generator().manual_seed(2))
    assert mine.equal(RandomSampler(count=64)(c, torch.Generator().manual_seed(2)))


def test_objectness_has_one_column(candidates):
    c = candidates()
    single = type(c)(c.boxes, c.matched, c.iou, c.labels, c.scores[:, 1:2], None, c.predicted)
    pair = type(c)(c.boxes, c.matched, c.iou, c.labels, c.scores[:, :2], None, c.predicted)
    assert ScoreHLRSampler().negatives(single, 9).equal(ScoreHLRSampler().negatives(pair, 9))


def test_sparse(sparse):
    rows = ScoreHLRSampler(count=8)(sparse)
    assert len(rows) == min(8, int(sparse.negative.sum()) + min(2, int(sparse.positive.sum())))


def test_refuses(candidates):
    c = candidates()
    with pytest.raises(ValueError, match="ScoreHLRSampler ranks by"):
        ScoreHLRSampler()(type(c)(c.boxes, c.matched, c.iou, c.labels))
    with pytest.raises(ValueError, match="score_threshold"):
        ScoreHLRSampler(score_threshold=1.5)
    with pytest.raises(ValueError, match="iou_threshold"):
        ScoreHLRSampler(iou_threshold=-1)
