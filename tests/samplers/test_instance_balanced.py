import pytest
import torch

from detbalance.samplers import InstanceBalancedSampler
from detbalance.types import Candidates


def of(sizes, negatives=5):
    """Candidates of which sizes[g] show object g."""
    matched = torch.cat([torch.full((n,), g) for g, n in enumerate(sizes)] + [torch.full((negatives,), -1)]).long()
    return Candidates(torch.zeros(len(matched), 4), matched, torch.zeros(len(matched)), (matched >= 0).long())


@pytest.mark.parametrize("sizes", [[5], [1, 30], [10, 10, 10], [2, 3, 4, 50], [1] * 40, [0, 7, 0, 9]])
@pytest.mark.parametrize("count", [1, 4, 12, 31, 100])
@pytest.mark.parametrize("reference", [False, True])
def test_quota(sizes, count, reference):
    c = of(sizes)
    objects = sum(n > 0 for n in sizes)
    quota = round(count / objects) + 1 if reference else max(1, count // objects)
    within = [min(quota, n) for n in sizes]
    for seed in range(5):
        rows = InstanceBalancedSampler(reference=reference).positives(c, count, torch.Generator().manual_seed(seed))
        assert len(rows) == len(rows.unique()) == min(count, sum(sizes))
        taken = torch.bincount(c.matched[rows], minlength=len(sizes)).tolist()
        if sum(within) >= count:  # cut to count: no object above its quota
            assert all(t <= q for t, q in zip(taken, within))
        else:  # topped up: no object below it
            assert all(t >= q for t, q in zip(taken, within))


def test_exactly_even():
    c = of([4, 6, 100, 7])
    for seed in range(10):
        rows = InstanceBalancedSampler().positives(c, 16, torch.Generator().manual_seed(seed))
        assert torch.bincount(c.matched[rows]).tolist() == [4, 4, 4, 4]


def test_one_object_is_random_sampling():
    c = of([10])
    for reference in (False, True):
        sampler, g, hits = (
            InstanceBalancedSampler(reference=reference),
            torch.Generator().manual_seed(1),
            torch.zeros(10),
        )
        for _ in range(400):
            hits[sampler.positives(c, 4, g)] += 1
        assert (hits / 400 - 0.4).abs().max() < 0.08


def test_reference_gives_one_more_than_the_share():
    """round(12 / 3) + 1 = 5 of each object, cut to 12 at random; without the one, every object would give 4."""
    c, sampler, g = of([10, 10, 10]), InstanceBalancedSampler(reference=True), torch.Generator().manual_seed(0)
    most = [torch.bincount(c.matched[sampler.positives(c, 12, g)]).max().item() for _ in range(30)]
    assert set(most) == {4, 5}


def test_the_cut_is_random():
    """Five objects, three places: each object is as likely, however many candidates it has."""
    c = of([2, 2, 2, 2, 50])
    g, hits = torch.Generator().manual_seed(0), torch.zeros(5)
    for _ in range(400):
        hits += torch.bincount(c.matched[InstanceBalancedSampler().positives(c, 3, g)], minlength=5)
    assert (hits / 400 - 0.6).abs().max() < 0.08


def test_top_up_is_random_among_the_rest():
    c = of([1, 21, 41])
    g, hits = torch.Generator().manual_seed(0), torch.zeros(3)
    for _ in range(400):
        hits += torch.bincount(c.matched[InstanceBalancedSampler().positives(c, 9, g)], minlength=3)
    # quota 3: 1 + 3 + 3, and two of the remaining 18 + 38
    assert (hits / 400 - torch.tensor([1.0, 3 + 2 * 18 / 56, 3 + 2 * 38 / 56])).abs().max() < 0.12


def test_sparse(sparse):
    rows = InstanceBalancedSampler(count=8, positive_fraction=0.5)(sparse)
    assert len(rows) == min(8, int(sparse.negative.sum()) + min(4, int(sparse.positive.sum())))
