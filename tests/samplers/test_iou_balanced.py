import pytest
import torch

from detbalance.samplers import IoUBalancedSampler, RandomSampler
from detbalance.types import Candidates


def of(iou, matched=None):
    iou = torch.tensor(iou)
    matched = torch.full((len(iou),), -1) if matched is None else torch.tensor(matched)
    return Candidates(torch.zeros(len(iou), 4), matched, iou, (matched >= 0).long())


def expected_counts(c, count, bins, low, high, closed):
    """How many of each bin a loop over the bins takes first, and the members of the bins."""
    members = [[] for _ in range(bins)]
    for row in c.negative.nonzero().flatten().tolist():
        value = c.iou[row].item()
        for k in range(bins):
            start, stop = low + (high - low) * k / bins, low + (high - low) * (k + 1) / bins
            if start <= value < stop or (closed and k == bins - 1 and value == stop):
                members[k].append(row)
                break
    return [min(count // bins, len(m)) for m in members], members


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize(("bins", "count"), [(1, 20), (2, 30), (3, 60), (3, 100), (5, 64), (4, 3)])
def test_each_bin_gives_its_share(candidates, bins, count, reference):
    for seed in range(4):
        c = candidates(seed, negatives=300)
        sampler = IoUBalancedSampler(bins=bins, reference=reference)
        rows = sampler.negatives(c, count, torch.Generator().manual_seed(seed)).tolist()
        low, high = (
            (0.0, c.iou.max().item()) if reference else (lambda v: (v.min().item(), v.max().item()))(c.iou[c.negative])
        )
        least, members = expected_counts(c, count, bins, low, high, closed=not reference)
        assert len(rows) == len(set(rows)) == count
        assert set(rows) <= set(c.negative.nonzero().flatten().tolist())
        for minimum, inside in zip(least, members):
            taken = len(set(rows) & set(inside))
            assert taken >= minimum
        if all(len(m) >= count // bins for m in members) and count % bins == 0:
            assert [len(set(rows) & set(m)) for m in members] == [count // bins] * bins


def test_probability_of_the_paper():
    """Equation 2: each of the M_k negatives of bin k is drawn with probability N / (K M_k)."""
    c = of([0.0] * 60 + [0.15] * 20 + [0.3] * 10)
    sampler, g, hits = IoUBalancedSampler(), torch.Generator().manual_seed(0), torch.zeros(90)
    for _ in range(1500):
        hits[sampler.negatives(c, 24, g)] += 1
    share = hits / 1500
    for part, size in ((slice(0, 60), 60), (slice(60, 80), 20), (slice(80, 90), 10)):
        assert share[part].mean() == pytest.approx(24 / (3 * size), abs=1e-6)
        assert (share[part] - 24 / (3 * size)).abs().max() < 0.07


def test_short_bins_are_topped_up_at_random():
    c = of([0.0] * 50 + [0.2] * 50 + [0.4] * 2)
    sampler, g = IoUBalancedSampler(), torch.Generator().manual_seed(0)
    taken = torch.stack(
        [torch.bincount((5 * c.iou[sampler.negatives(c, 30, g)]).round().long(), minlength=3) for _ in range(400)]
    )
    assert (taken.sum(1) == 30).all()
    assert (taken[:, 2] == 2).all()
    assert (taken[:, :2] >= 10).all()
    assert (taken[:, :2].double().mean(0) - 14).abs().max() < 0.3


def test_reference_leaves_the_top_bins_empty():
    """With a ground truth among the candidates (IoU 1) the reference's bins reach to 1, the paper's to 0.49."""
    iou = [0.0] * 90 + [0.45, 0.46, 0.47, 0.48, 0.49] + [1.0]
    c = of(iou, [-1] * 95 + [0])
    g = torch.Generator().manual_seed(0)
    paper = sum(int((c.iou[IoUBalancedSampler().negatives(c, 12, g)] > 0.4).sum()) for _ in range(50)) / 50
    reference = (
        sum(int((c.iou[IoUBalancedSampler(reference=True).negatives(c, 12, g)] > 0.4).sum()) for _ in range(50)) / 50
    )
    assert paper == pytest.approx(4, abs=0.4)  # the last bin's four; the empty middle is filled at random
    assert 4 <= reference < 4.5
    near = of([0.0] * 90 + [0.3, 0.31, 0.32, 0.1, 0.1] + [1.0], [-1] * 95 + [0])
    rows = IoUBalancedSampler(reference=True).negatives(near, 12, g)
    assert (near.iou[rows] < 1 / 3).all()
    least = min(int((near.iou[IoUBalancedSampler().negatives(near, 12, g)] > 0.25).sum()) for _ in range(50))
    assert least == 3
    assert (
        min(int((near.iou[IoUBalancedSampler(reference=True).negatives(near, 12, g)] > 0.25).sum()) for _ in range(50))
        < 3
    )


@pytest.mark.parametrize(("threshold", "below"), [(0.0, lambda v: v == 0), (0.1, lambda v: v < 0.1)])
@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_floor(threshold, below, fraction):
    iou = [0.0] * 40 + [0.05] * 40 + [0.2] * 40 + [0.4] * 40
    c = of(iou)
    sampler = IoUBalancedSampler(floor_threshold=threshold, floor_fraction=fraction, bins=2)
    for seed in range(5):
        rows = sampler.negatives(c, 20, torch.Generator().manual_seed(seed))
        assert len(rows.unique()) == 20
        assert int(below(c.iou[rows]).sum()) == 20 - int(20 * (1 - fraction))


def test_floor_set_or_rest_too_small():
    c = of([0.0] * 3 + [0.2] * 5 + [0.4] * 50)
    rows = IoUBalancedSampler(floor_threshold=0.1, floor_fraction=0.5).negatives(c, 40)
    assert int((c.iou[rows] == 0).sum()) == 3  # twenty were wanted; the rest comes from above the floor
    assert len(rows.unique()) == 40
    c = of([0.0] * 50 + [0.2] * 3)
    rows = IoUBalancedSampler(floor_threshold=0.1, floor_fraction=0.5).negatives(c, 40)
    assert int((c.iou[rows] > 0).sum()) == 3
    assert len(rows.unique()) == 40


def test_alone_the_positives_are_random(candidates):
    c = candidates()
    mine = IoUBalancedSampler(count=64)(c, torch.Generator().manual_seed(1))
    theirs = RandomSampler(count=64)(c, torch.Generator().manual_seed(1))
    assert mine[c.positive[mine]].equal(theirs[c.positive[theirs]])


def test_all_of_one_iou():
    assert len(IoUBalancedSampler().negatives(of([0.25] * 9), 4).unique()) == 4


@pytest.mark.parametrize("reference", [False, True])
def test_sparse(sparse, reference):
    rows = IoUBalancedSampler(count=8, reference=reference)(sparse)
    assert len(rows) == min(8, int(sparse.negative.sum()) + min(2, int(sparse.positive.sum())))


@pytest.mark.parametrize("options", [{"bins": 0}, {"floor_threshold": -0.5}, {"floor_fraction": 2}, {"count": -1}])
def test_refuses(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        IoUBalancedSampler(**options)
