"""GHM-C and GHM-R against the histogram written as loops, over several steps."""

import math

import pytest
import torch

from detbalance.losses import GHMCLoss, GHMRLoss


def naive_weights(norms, sizes, momentum):
    """Weights of a flat list of gradient norms; `sizes` is the running histogram and is changed."""
    bins = len(sizes)
    place = [min(int(g * bins), bins - 1) for g in norms]
    filled = sorted(set(place))
    for b in filled:
        sizes[b] = momentum * sizes[b] + (1 - momentum) * place.count(b)
    return [len(norms) / (sizes[b] * len(filled)) for b in place]


@pytest.mark.parametrize("momentum", [0.0, 0.75])
@pytest.mark.parametrize("bins", [1, 10, 30])
def test_class_loss_equals_the_loops_step_by_step(momentum, bins):
    loss, sizes = GHMCLoss(bins=bins, momentum=momentum).double(), [0.0] * bins
    for step in range(4):
        torch.manual_seed(step)
        logits = (3 * torch.randn(6, 3, dtype=torch.float64)).requires_grad_()
        target = torch.eye(3, dtype=torch.float64)[torch.arange(6) % 3]
        target[step:] = 0
        pairs = [(x, y) for row in zip(logits.tolist(), target.tolist()) for x, y in zip(*row)]
        p = [1 / (1 + math.exp(-x)) for x, _ in pairs]
        weights = naive_weights([abs(a - y) for a, (_, y) in zip(p, pairs)], sizes, momentum)
        expected = sum(-w * math.log(a if y else 1 - a) for w, a, (_, y) in zip(weights, p, pairs)) / len(pairs)
        value = loss(logits, target)
        assert value.item() == pytest.approx(expected)
        (gradient,) = torch.autograd.grad(value, logits)
        slopes = [w * (a - y) / len(pairs) for w, a, (_, y) in zip(weights, p, pairs)]
        torch.testing.assert_close(gradient.flatten(), torch.tensor(slopes, dtype=torch.float64))
    torch.testing.assert_close(loss.density.counts, torch.tensor(sizes, dtype=torch.float64))


@pytest.mark.parametrize("momentum", [0.0, 0.7])
def test_box_loss_equals_the_loops_step_by_step(momentum):
    loss, sizes, mu = GHMRLoss(momentum=momentum).double(), [0.0] * 10, 0.02
    for step in range(4):
        torch.manual_seed(step)
        predicted = (0.05 * torch.randn(5, 4, dtype=torch.float64)).requires_grad_()
        target = torch.zeros(5, 4, dtype=torch.float64)
        errors = predicted.flatten().tolist()
        length = [math.hypot(d, mu) for d in errors]
        weights = naive_weights([abs(d) / r for d, r in zip(errors, length)], sizes, momentum)
        expected = torch.tensor([w * (r - mu) for w, r in zip(weights, length)], dtype=torch.float64).reshape(5, 4)
        value = loss(predicted, target)
        torch.testing.assert_close(value.detach(), expected.sum(1))
        (gradient,) = torch.autograd.grad(value.sum(), predicted)
        slopes = [w * d / r for w, d, r in zip(weights, errors, length)]
        torch.testing.assert_close(gradient.flatten(), torch.tensor(slopes, dtype=torch.float64))


def test_one_bin_without_momentum_is_the_mean_cross_entropy():
    logits, target = torch.randn(20, 3), torch.eye(3)[torch.arange(20) % 3]
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, target)
    torch.testing.assert_close(GHMCLoss(bins=1, momentum=0)(logits, target), expected)


def test_a_crowd_counts_as_much_as_a_single_example():
    logits = torch.cat((torch.full((1000, 1), -3.0), torch.full((1, 1), 1.5))).requires_grad_()
    GHMCLoss(bins=10, momentum=0)(logits, torch.zeros(1001, 1)).backward()
    crowd, single = logits.grad[:1000].sum(), logits.grad[1000].sum()
    torch.testing.assert_close(crowd / single, torch.tensor(3.0).neg().sigmoid() / torch.tensor(1.5).sigmoid())


@pytest.mark.parametrize("cls", [GHMCLoss, GHMRLoss])
def test_looking_and_evaluating_leave_the_state(cls):
    loss, rows = cls(), torch.zeros(3, 4)
    with torch.no_grad():
        looked = loss(rows, rows)
    assert loss.density.counts.sum() == 0
    evaluated = cls().eval()(rows, rows)
    trained = loss(rows, rows)
    torch.testing.assert_close(looked, trained)
    torch.testing.assert_close(evaluated, trained)
    assert loss.density.counts.sum() > 0
    loss(rows[:0], rows[:0])
    other = cls()
    other.load_state_dict(loss.state_dict())
    assert other.density.counts.equal(loss.density.counts)


@pytest.mark.parametrize(
    ("cls", "setting"), [(GHMCLoss, {"bins": 0}), (GHMCLoss, {"momentum": 1}), (GHMRLoss, {"mu": 0})]
)
def test_settings_out_of_range_are_refused(cls, setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        cls(**setting)
