import pytest
import torch

from detbalance.samplers import (
    CombinedSampler,
    InstanceBalancedSampler,
    IoUBalancedSampler,
    OHEMSampler,
    RandomSampler,
    ScoreHLRSampler,
)


def test_two_random_parts_are_random_sampling(candidates):
    c = candidates()
    both = CombinedSampler(positive=RandomSampler(count=1), negative=RandomSampler(), count=40, positive_fraction=0.3)
    mine = both(c, torch.Generator().manual_seed(2))
    assert mine.equal(RandomSampler(count=40, positive_fraction=0.3)(c, torch.Generator().manual_seed(2)))


def test_each_part_gives_its_kind(candidates):
    c = candidates()
    combined = CombinedSampler(positive=OHEMSampler(), negative=OHEMSampler(), count=64)
    assert combined(c).equal(OHEMSampler(count=64, per_kind=True)(c))
    default = CombinedSampler(count=64)
    assert (default.positive, default.negative) == (InstanceBalancedSampler(), IoUBalancedSampler())
    g = torch.Generator().manual_seed(0)
    expected = torch.cat((default.positive.positives(c, 16, g), default.negative.negatives(c, 48, g))).sort().values
    assert default(c, torch.Generator().manual_seed(0)).equal(expected)


@pytest.mark.parametrize(
    ("positives", "bound", "negatives"), [(4, 5, 20), (4, 2.5, 10), (0, 5, 5), (0, 0, 0), (4, None, 60)]
)
def test_upper_bound(candidates, positives, bound, negatives):
    c = candidates(positives=positives)
    rows = CombinedSampler(count=64, negative_positive_ub=bound)(c)
    expected = 64 if bound is None else negatives + positives
    assert len(rows) == expected
    assert int(c.positive[rows].sum()) == positives


def test_needs_predictions_if_a_part_does():
    assert not CombinedSampler().needs_predictions
    assert CombinedSampler(negative=ScoreHLRSampler()).needs_predictions
    assert CombinedSampler(positive=ScoreHLRSampler(), negative=RandomSampler()).needs_predictions


def test_numbers_that_wait_for_a_detector(candidates):
    """The parts' own numbers play no part, so theirs may be open; the whole's may not."""
    waiting = RandomSampler(count=None, positive_fraction=None)
    assert len(CombinedSampler(positive=waiting, negative=waiting, count=40)(candidates())) == 40
    with pytest.raises(ValueError, match="attach it, or give them"):
        CombinedSampler(count=None)(candidates())


def test_sparse(sparse):
    rows = CombinedSampler(count=8)(sparse)
    assert len(rows) == min(8, int(sparse.negative.sum()) + min(2, int(sparse.positive.sum())))


@pytest.mark.parametrize(
    "options",
    [{"positive": 3}, {"negative": len}, {"count": 0}, {"positive_fraction": 2}, {"negative_positive_ub": -1}],
)
def test_refuses(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        CombinedSampler(**options)
