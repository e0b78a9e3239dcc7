import pytest
import torch

from detbalance.samplers import IoUBalancedSampler, RandomSampler
from detbalance.types import Candidates


def of(iou, matched=None):
    iou = torch.tensor(iou)
    matched = torch.full((len(iou),), -1) if matched is None else torch.tensor(matched)
    return Candidates(torch.zeros(len(iou), 4), matched, iou, (matched >= 0).long())


def members_of_bins(c, bins, low, high, closed):
    """The negatives in each bin, by a loop; the last bin has its upper edge or not."""
    members = [set() for _ in range(bins)]
    for row in c.negative.nonzero().flatten().tolist():
        value = c.iou[row].item()
        for k, inside in enumerate(members):
            start, stop = low + (high - low) * k / bins, low + (high - low) * (k + 1) / bins
            if start <= value < stop or (closed and k == bins - 1 and value == stop):
                inside.add(row)
                break
    return members


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize(("bins", "count"), [(1, 20), (2, 30), (3, 60), (3, 100), (5, 64), (4, 3)])
def test_each_bin_gives_its_share(candidates, bins, count, reference):
    for seed in range(2):
        c = candidates(seed, negatives=300)
        sampler = IoUBalancedSampler(bins=bins, reference=reference)
        rows = set(sampler.negatives(c, count, torch.Generator().manual_seed(seed)).tolist())
        own = c.iou[c.negative]
        low, high = (0.0, c.iou.max().item()) if reference else (own.min().item(), own.max().item())
        members = members_of_bins(c, bins, low, high, closed=not reference)
        assert len(rows) == count
        assert rows <= set(c.negative.nonzero().flatten().tolist())
        share = count // bins
        assert all(len(rows & inside) >= min(share, len(inside)) for inside in members)
        if all(len(inside) >= share for inside in members) and count % bins == 0:
            assert all(len(rows & inside) == share for inside in members)


def test_probability_of_the_paper():
    """Equation 2: each of the M_k negatives of bin k is drawn with probability N / (K M_k)."""
    c = of([0.0] * 60 + [0.15] * 20 + [0.3] * 10)
    sampler, g, hits = IoUBalancedSampler(), torch.Generator().manual_seed(0), torch.zeros(90)
    for _ in range(400):
        hits[sampler.negatives(c, 24, g)] += 1
    share = hits / 400
    for part, size in ((slice(0, 60), 60), (slice(60, 80), 20), (slice(80, 90), 10)):
        assert share[part].mean() == pytest.approx(24 / (3 * size), abs=1e-6)
        assert (share[part] - 24 / (3 * size)).abs().max() < 0.1


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


def hits(c, sampler, above, count, draws=50):
    """How many negatives above an IoU each of many draws takes."""
    g = torch.Generator().manual_seed(0)
    return [int((c.iou[sampler.negatives(c, count, g)] > above).sum()) for _ in range(draws)]


def test_reference_leaves_the_top_bins_empty():
    """With a ground truth among the candidates (IoU 1) the reference's bins reach to 1, and all negatives lie in the
    first; the paper's reach to 0.32, and its last bin always gives its three."""
    c = of([0.0] * 90 + [0.1, 0.1, 0.3, 0.31, 0.32] + [1.0], [-1] * 95 + [0])
    assert min(hits(c, IoUBalancedSampler(), 0.25, 12)) == 3
    assert sum(hits(c, IoUBalancedSampler(reference=True), 0.25, 12)) < 50


def test_range_is_that_of_the_negatives():
    """All negatives in [0.4, 0.5]: the bins cut that range, not [0, 0.5], of which two thirds would be empty."""
    c = of([0.4] * 60 + [0.45] * 6 + [0.5] * 6)
    for seed in range(20):
        rows = IoUBalancedSampler().negatives(c, 18, torch.Generator().manual_seed(seed))
        assert [int((c.iou[rows] == value).sum()) for value in (torch.tensor([0.4, 0.45, 0.5]))] == [6, 6, 6]


def test_reference_gives_the_upper_edge_no_place():
    """Its bins are half-open: the negative with the highest IoU of all is drawn in the top-up alone."""
    c = of([0.0] * 90 + [0.5])
    assert min(hits(c, IoUBalancedSampler(), 0.4, 9)) == 1
    assert sum(hits(c, IoUBalancedSampler(reference=True), 0.4, 9)) < 20


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
