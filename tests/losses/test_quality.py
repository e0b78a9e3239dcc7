"""Quality focal and varifocal loss against their formulas, entry by entry."""

import math

import pytest
import torch

from detbalance.losses import FocalLoss, QualityFocalLoss, VarifocalLoss


def rows():
    torch.manual_seed(0)
    logits = (3 * torch.randn(12, 4, dtype=torch.float64)).requires_grad_()
    target = torch.rand(12, 4, dtype=torch.float64) * torch.eye(4, dtype=torch.float64)[torch.arange(12) % 4]
    target[8:] = 0
    return logits, target


def entropy(p, y):
    return -(y * math.log(p) + (1 - y) * math.log(1 - p))


def table(logits, target, formula):
    pairs = zip(logits.flatten().tolist(), target.flatten().tolist())
    values = [formula(1 / (1 + math.exp(-x)), y) for x, y in pairs]
    return torch.tensor(values, dtype=torch.float64).reshape(target.shape)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 2.0])
def test_quality_equals_the_paper(beta):
    logits, target = rows()
    loss = QualityFocalLoss(beta=beta)
    expected = table(logits, target, lambda p, y: abs(y - p) ** beta * entropy(p, y))
    torch.testing.assert_close(loss(logits, target).detach(), expected)
    assert torch.autograd.gradcheck(lambda x: loss(x, target), logits)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_varifocal_equals_the_paper(gamma):
    logits, target = rows()
    loss = VarifocalLoss(alpha=0.6, gamma=gamma)
    expected = table(logits, target, lambda p, y: y * entropy(p, y) if y > 0 else -0.6 * p**gamma * math.log(1 - p))
    torch.testing.assert_close(loss(logits, target).detach(), expected)
    assert torch.autograd.gradcheck(lambda x: loss(x, target), logits)


def test_on_hard_targets_they_are_focal():
    logits, target = rows()
    hard = (target > 0).double()
    torch.testing.assert_close(QualityFocalLoss()(logits, hard), FocalLoss(alpha=None)(logits, hard))
    none = torch.zeros_like(target)
    torch.testing.assert_close(VarifocalLoss()(logits, none), FocalLoss(alpha=0.25)(logits, none))


@pytest.mark.parametrize(
    ("cls", "setting"),
    [(QualityFocalLoss, {"beta": -1}), (VarifocalLoss, {"alpha": -1}), (VarifocalLoss, {"gamma": -1})],
)
def test_settings_out_of_range_are_refused(cls, setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        cls(**setting)
