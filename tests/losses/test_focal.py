"""FocalLoss against the formula of its paper, element by element, and against torchvision."""

import math

import pytest
import torch
from torchvision.ops import sigmoid_focal_loss

from detbalance.losses import CrossEntropyLoss, FocalLoss


def rows(count=7, classes=5, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    logits = (4 * torch.randn(count, classes, generator=generator, dtype=dtype)).requires_grad_()
    labels = torch.randint(0, classes, (count,), generator=generator)
    return logits, torch.nn.functional.one_hot(labels, classes).to(dtype)


def naive_sigmoid(logits, target, gamma, alpha):
    value = torch.empty_like(logits)
    for i, row in enumerate(logits):
        for j, x in enumerate(row):
            p = 1 / (1 + math.exp(-x))
            p_t, alpha_t = (p, alpha) if target[i, j] == 1 else (1 - p, 1 - alpha)
            value[i, j] = -alpha_t * (1 - p_t) ** gamma * math.log(p_t)
    return value


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("alpha", [0.25, 0.9])
def test_sigmoid_equals_the_paper(gamma, alpha):
    logits, target = rows()
    expected = naive_sigmoid(logits.detach(), target, gamma, alpha)
    loss = FocalLoss(gamma=gamma, alpha=alpha)
    torch.testing.assert_close(loss(logits, target), expected)
    assert torch.autograd.gradcheck(lambda x: loss(x, target), logits)


@pytest.mark.parametrize("alpha", [0.25, None])
def test_sigmoid_equals_torchvision_on_soft_targets_too(alpha):
    logits, target = rows(50)
    target = torch.cat((target, torch.rand(50, 5, dtype=torch.float64), torch.zeros(50, 5, dtype=torch.float64)))
    logits = logits.detach().repeat(3, 1).requires_grad_()
    ours = FocalLoss(gamma=1.5, alpha=alpha)(logits, target)
    theirs = sigmoid_focal_loss(logits, target, gamma=1.5, alpha=-1 if alpha is None else alpha)
    torch.testing.assert_close(ours, theirs)
    weights = torch.rand_like(target)
    for mine, other in zip(
        torch.autograd.grad((ours * weights).sum(), logits), torch.autograd.grad((theirs * weights).sum(), logits)
    ):
        torch.testing.assert_close(mine, other)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("alpha", [None, 0.25])
def test_softmax_equals_the_paper(gamma, alpha):
    logits, target = rows(20)
    expected = []
    for row, truth in zip(logits.tolist(), target.argmax(1).tolist()):
        p_t = math.exp(row[truth]) / sum(math.exp(x) for x in row)
        alpha_t = 1 if alpha is None else (1 - alpha if truth == 0 else alpha)
        expected.append(-alpha_t * (1 - p_t) ** gamma * math.log(p_t))
    loss = FocalLoss(gamma=gamma, alpha=alpha, softmax=True)
    torch.testing.assert_close(loss(logits, target).detach(), torch.tensor(expected, dtype=torch.float64))
    assert torch.autograd.gradcheck(lambda x: loss(x, target), logits)


@pytest.mark.parametrize("softmax", [False, True])
def test_gamma_zero_is_cross_entropy(softmax):
    logits, target = rows()
    plain = CrossEntropyLoss(softmax=softmax)(logits, target)
    torch.testing.assert_close(FocalLoss(gamma=0, alpha=None, softmax=softmax)(logits, target), plain)
    torch.testing.assert_close(FocalLoss(gamma=0, alpha=0.5, softmax=softmax)(logits, target), plain / 2)


@pytest.mark.parametrize("softmax", [False, True])
def test_small_gamma_has_a_gradient_where_the_classifier_is_sure(softmax):
    logits = torch.tensor([[100.0, -100.0], [-100.0, 100.0]], requires_grad=True)
    FocalLoss(gamma=0.5, softmax=softmax)(logits, torch.eye(2)).sum().backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("loss", [{"gamma": -1}, {"alpha": 1.5}, {"alpha": -1}])
def test_settings_out_of_range_are_refused(loss):
    with pytest.raises(ValueError, match=next(iter(loss))):
        FocalLoss(**loss)
