"""L1, L2, smooth and balanced L1 against their formulas, coordinate by coordinate."""

import math

import pytest
import torch

from detbalance.losses import BalancedL1Loss, L1Loss, L2Loss, SmoothL1Loss


def smooth(d, beta):
    return 0.5 * d * d / beta if d < beta else d - 0.5 * beta


def balanced(d, alpha, gamma, beta):
    b = math.exp(gamma / alpha) - 1
    if d < beta:
        return alpha / b * (b * d + 1) * math.log(b * d / beta + 1) - alpha * d
    return gamma * d + gamma / b - alpha * beta


CASES = [
    (L1Loss(), lambda d: d),
    (L2Loss(), lambda d: d * d),
    (SmoothL1Loss(), lambda d: smooth(d, 1.0)),
    (SmoothL1Loss(beta=1 / 9), lambda d: smooth(d, 1 / 9)),
    (SmoothL1Loss(beta=0), lambda d: d),
    (BalancedL1Loss(), lambda d: balanced(d, 0.5, 1.5, 1.0)),
    (BalancedL1Loss(alpha=0.3, gamma=1.2, beta=0.11), lambda d: balanced(d, 0.3, 1.2, 0.11)),
]


@pytest.mark.parametrize(("loss", "formula"), CASES, ids=[repr(loss) for loss, _ in CASES])
def test_equals_the_formula(loss, formula):
    torch.manual_seed(0)
    predicted = (3 * torch.randn(40, 4, dtype=torch.float64)).requires_grad_()
    target = torch.randn(40, 4, dtype=torch.float64)
    error = (predicted - target).abs().tolist()
    expected = torch.tensor([sum(map(formula, row)) for row in error], dtype=torch.float64)
    torch.testing.assert_close(loss(predicted, target).detach(), expected)
    assert torch.autograd.gradcheck(lambda p: loss(p, target), predicted)


def test_balanced_gradient_is_the_one_the_paper_starts_from():
    error = torch.linspace(0.01, 3, 100, dtype=torch.float64).requires_grad_()
    zeros = torch.zeros(100, 3, dtype=torch.float64)
    value = BalancedL1Loss()(torch.cat((error[:, None], zeros), 1), torch.zeros(100, 4, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(value.sum(), error)
    b = math.exp(3) - 1
    torch.testing.assert_close(gradient, torch.where(error < 1, 0.5 * torch.log(b * error + 1), 1.5).detach())


@pytest.mark.parametrize("beta", [0.11, 1.0, 2.0])
def test_balanced_value_is_continuous(beta):
    at = torch.tensor([[beta - 1e-9, 0, 0, 0], [beta + 1e-9, 0, 0, 0]], dtype=torch.float64)
    below, above = BalancedL1Loss(beta=beta)(at, torch.zeros_like(at))
    assert abs(below - above) < 1e-7


@pytest.mark.parametrize("cls", [L1Loss, L2Loss, SmoothL1Loss, BalancedL1Loss])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("error", [0.0, 1e-7, 1.0, 1e4])
def test_finite(cls, dtype, error):
    predicted = torch.full((3, 4), error, dtype=dtype, requires_grad=True)
    value = cls()(predicted, torch.zeros(3, 4, dtype=dtype))
    value.sum().backward()
    assert value.dtype == torch.float32
    assert torch.isfinite(value).all()
    assert torch.isfinite(predicted.grad).all()
    assert cls()(predicted[:0], torch.zeros(0, 4, dtype=dtype)).shape == (0,)


@pytest.mark.parametrize(
    ("cls", "setting"),
    [(SmoothL1Loss, {"beta": -1}), (BalancedL1Loss, {"alpha": 0}), (BalancedL1Loss, {"alpha": 0.01})],
)
def test_settings_out_of_range_are_refused(cls, setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        cls(**setting)
