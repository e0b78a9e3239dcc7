import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detbalance.samplers._drawing import draw, shuffle_evenly


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), max_size=60), st.integers(0, 10), st.integers(0, 2**31))
def test_shuffle_is_a_permutation_with_the_quotas_first(groups, quota, seed):
    rows = torch.arange(len(groups)) * 3 + 1
    group = torch.tensor(groups, dtype=torch.long)
    order = shuffle_evenly(rows, group, quota, torch.Generator().manual_seed(seed))
    assert sorted(order.tolist()) == rows.tolist()
    within = sum(min(quota, groups.count(k)) for k in set(groups))
    first = group[(order[:within] - 1) // 3].tolist()
    assert all(first.count(k) == min(quota, groups.count(k)) for k in set(groups))


@settings(deadline=None)
@given(st.integers(0, 30), st.integers(0, 40), st.integers(0, 2**31))
def test_draw(size, count, seed):
    rows = torch.arange(size) + 7
    drawn = draw(rows, count, torch.Generator().manual_seed(seed)).tolist()
    assert len(drawn) == len(set(drawn)) == min(size, count)
    assert set(drawn) <= set(rows.tolist())


def test_a_quota_for_each_row():
    group = torch.tensor([0, 0, 0, 1, 1, 1])
    quota = torch.tensor([1, 1, 1, 0, 0, 0])
    for seed in range(20):
        order = shuffle_evenly(torch.arange(6), group, quota, torch.Generator().manual_seed(seed))
        assert group[order[0]] == 0


def test_which_of_a_group_is_random():
    group = torch.tensor([0, 0, 0, 0, 1])
    g = torch.Generator().manual_seed(0)
    hits = torch.zeros(5)
    for _ in range(1000):
        hits[shuffle_evenly(torch.arange(5), group, 1, g)[:2]] += 1
    assert (hits / 1000 - torch.tensor([0.25, 0.25, 0.25, 0.25, 1.0])).abs().max() < 0.05
