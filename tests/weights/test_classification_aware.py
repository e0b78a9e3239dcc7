from dataclasses import replace

import pytest
import torch

from detbalance.weights import ClassificationAwareWeights


def naive(s, power, bias, reference):
    """The paper, row by row, on tensors so that the gradient flows."""
    label = s.labels.tolist()
    positive = [i for i, k in enumerate(label) if k > 0]
    value = {}
    for i in positive:
        p = s.logits[i].exp() / s.logits[i].exp().sum() if s.softmax else 1 / (1 + (-s.logits[i]).exp())
        value[i] = (bias + (1 - bias) * p[min(label[i], len(p) - 1)]) ** power
    mean = sum(value.values()) / len(positive) if positive else 1
    one = torch.ones((), dtype=torch.float64)
    return torch.stack([(reference + value[i] / mean) if i in value else one for i in range(len(label))])


@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("reference", [True, False])
@pytest.mark.parametrize(("power", "bias"), [(1.0, 0.2), (2.0, 0.0), (0.5, 0.1)])
@pytest.mark.parametrize(("positives", "negatives"), [(30, 60), (1, 4), (0, 5), (7, 0)])
def test_value_and_gradient(samples, positives, negatives, power, bias, reference, softmax):
    s = samples(positives=positives, negatives=negatives, softmax=softmax)
    box_loss = torch.rand(len(s.labels), dtype=torch.float64)
    found = []
    for method in (ClassificationAwareWeights(power=power, bias=bias, reference=reference), None):
        logits = s.logits.clone().requires_grad_()
        table = replace(s, logits=logits)
        weights = method(table) if method else naive(table, power, bias, reference)
        (weights * box_loss)[s.positive].sum().backward() if weights.requires_grad else None
        found.append((weights.detach(), torch.zeros_like(logits) if logits.grad is None else logits.grad))
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-12)


def test_sum_is_the_number_of_positives(samples):
    s = samples()
    weights = ClassificationAwareWeights()(s)
    torch.testing.assert_close(weights[s.positive].sum(), torch.tensor(30.0, dtype=torch.float64))
    assert (weights[~s.positive] == 1).all()
    assert ClassificationAwareWeights(reference=True)(s)[s.positive].sum().item() == pytest.approx(60)


def test_descent_lowers_the_scores_of_badly_placed_boxes(samples):
    """dL/dv_i = (P L_i - sum(c L)) / sum(v): pushed down where the box loss is above the weighted mean."""
    s = samples(softmax=False)
    logits = s.logits.clone().requires_grad_()
    weights = ClassificationAwareWeights()(replace(s, logits=logits))
    box_loss = torch.rand(len(s.labels), dtype=torch.float64)
    total = (weights * box_loss)[s.positive].sum()
    total.backward()
    rows = s.positive.nonzero().squeeze(1)
    slope = logits.grad[rows, s.labels[rows]]
    assert (slope.sign() == (len(rows) * box_loss[rows] - total.detach()).sign()).all()
    others = torch.ones_like(logits, dtype=torch.bool).index_put((rows, s.labels[rows]), torch.tensor(False))
    assert (logits.grad[others] == 0).all()


def test_single_column_heads(samples):
    s = samples(softmax=False, classes=1)
    single = replace(s, logits=s.logits[:, 1:])
    torch.testing.assert_close(ClassificationAwareWeights()(single), ClassificationAwareWeights()(s))


@pytest.mark.parametrize("options", [{"power": 0}, {"bias": 1}])
def test_flat_weights_change_nothing(samples, options):
    weights = ClassificationAwareWeights(**options)(samples())
    torch.testing.assert_close(weights, torch.ones_like(weights))


@pytest.mark.parametrize("power", [0.5, 1, 2])
@pytest.mark.parametrize("scale", [1e4, -1e4])
@pytest.mark.parametrize("softmax", [True, False])
def test_vanishing_scores(samples, power, scale, softmax):
    s = samples(softmax=softmax, dtype=torch.float32)
    logits = torch.full_like(s.logits, -scale)
    logits[torch.arange(len(logits)), s.labels] = scale
    logits.requires_grad_()
    weights = ClassificationAwareWeights(power=power, bias=0)(replace(s, logits=logits))
    (weights * torch.arange(len(weights))).sum().backward()
    torch.testing.assert_close(weights, torch.ones_like(weights))
    assert logits.grad.isfinite().all()


def test_half_precision_is_computed_in_float32(samples):
    s = samples(dtype=torch.float32)
    half = replace(s, logits=s.logits.half())
    assert ClassificationAwareWeights()(half).equal(
        ClassificationAwareWeights()(replace(half, logits=half.logits.float()))
    )


@pytest.mark.parametrize("options", [{"power": -1}, {"bias": 1.2}, {"bias": float("nan")}])
def test_refuses(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        ClassificationAwareWeights(**options)
