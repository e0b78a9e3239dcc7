import pytest
import torch
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler

from detbalance.samplers import RandomSampler


@pytest.mark.parametrize(("count", "fraction"), [(512, 0.25), (64, 0.25), (16, 0.5), (7, 0.99), (1, 0.0), (10, 1.0)])
@pytest.mark.parametrize(("positives", "negatives"), [(20, 200), (0, 50), (50, 0), (3, 2), (0, 0)])
def test_draws_the_rows_that_torchvision_draws(candidates, count, fraction, positives, negatives):
    batch = [candidates(seed, positives=positives, negatives=negatives) for seed in range(3)]
    marks = [torch.where(c.matched == -2, -1, (c.matched >= 0).long()) for c in batch]
    torch.manual_seed(5)
    positive, negative = BalancedPositiveNegativeSampler(count, fraction)(marks)
    after = torch.rand(1)
    torch.manual_seed(5)
    sampler = RandomSampler(count=count, positive_fraction=fraction)
    rows = [sampler(c) for c in batch]
    for one, p, n in zip(rows, positive, negative):
        assert one.tolist() == (p | n).nonzero().squeeze(1).tolist()
    assert torch.rand(1) == after  # the random state moved on as far


def test_generator_alone_decides(candidates):
    c = candidates()
    sampler = RandomSampler(count=32)
    first = sampler(c, torch.Generator().manual_seed(3))
    torch.manual_seed(99)
    assert sampler(c, torch.Generator().manual_seed(3)).equal(first)
    assert not sampler(c, torch.Generator().manual_seed(4)).equal(first)


def test_every_row_is_as_likely(candidates):
    c = candidates(positives=8, negatives=40)
    g = torch.Generator().manual_seed(0)
    hits = torch.zeros(len(c.matched))
    for _ in range(400):
        hits[RandomSampler(count=16)(c, g)] += 1
    share = hits / 400
    assert (share[c.positive] - 0.5).abs().max() < 0.09
    assert (share[c.negative] - 0.3).abs().max() < 0.09
    assert share[c.matched == -2].sum() == 0


@pytest.mark.parametrize("options", [{"count": None}, {"positive_fraction": None}])
def test_numbers_that_wait_for_a_detector(candidates, options):
    with pytest.raises(ValueError, match="attach it, or give them"):
        RandomSampler(**options)(candidates())


@pytest.mark.parametrize("options", [{"count": 0}, {"count": 2.5}, {"positive_fraction": 1.1}])
def test_refuses(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        RandomSampler(**options)
