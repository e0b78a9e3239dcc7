"""Seesaw loss and equalization loss v2 against loops over rows and classes, over several steps; and their state."""

import math

import pytest
import torch

from detbalance.losses import CrossEntropyLoss, EQLv2Loss, SeesawLoss


def rows(step, softmax, columns=5):
    torch.manual_seed(step)
    logits = (3 * torch.randn(9, columns, dtype=torch.float64)).requires_grad_()
    labels = torch.tensor([0, 1, 1, 1, 2, 2, 3, 0, 1])
    target = torch.nn.functional.one_hot(labels, columns).double()
    if not softmax:
        target[:, 0] = 0
    return logits, target, labels.tolist()


@pytest.mark.parametrize("settings", [{}, {"p": 0}, {"q": 0}, {"p": 0.5, "q": 1.0, "eps": 0.2}])
def test_seesaw_equals_the_paper(settings):
    p, q, eps = ({"p": 0.8, "q": 2.0, "eps": 0.01} | settings).values()
    loss, seen = SeesawLoss(**settings), [0] * 5
    for step in range(3):
        logits, target, labels = rows(step, True)
        expected = []
        for label in labels:
            seen[label] += 1
        for x, i in zip(logits.tolist(), labels):
            score = [math.exp(v) / sum(map(math.exp, x)) for v in x]
            below = 0.0
            for j, v in enumerate(x):
                factor = 1.0
                if i and j and i != j:
                    factor *= min(1, max(seen[j], 1) / max(seen[i], 1)) ** p
                    factor *= max(1, score[j] / max(score[i], eps)) ** q
                below += factor * math.exp(v)
            expected.append(-math.log(math.exp(x[i]) / below))
        value = loss(logits, target)
        torch.testing.assert_close(value.detach(), torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(loss.counts, torch.tensor(seen, dtype=torch.float32))


def test_the_gradient_of_seesaw_holds_its_factors():
    """d loss / d x_j is the seesaw probability of column j, minus 1 in the true column."""
    loss = SeesawLoss().double()
    logits, target, _ = rows(0, True)
    (gradient,) = torch.autograd.grad(loss(logits, target).sum(), logits)
    factors = loss._seesaw(logits.detach(), target.argmax(1))
    torch.testing.assert_close(gradient, (logits + factors).softmax(1).detach() - target)


def test_seesaw_without_its_factors_is_cross_entropy():
    logits, target, _ = rows(0, True)
    torch.testing.assert_close(SeesawLoss(p=0, q=0)(logits, target), CrossEntropyLoss(softmax=True)(logits, target))


def test_seesaw_leaves_background_rows_alone():
    logits, target, labels = rows(0, True)
    background = [i for i, label in enumerate(labels) if label == 0]
    plain = CrossEntropyLoss(softmax=True)(logits, target)
    torch.testing.assert_close(SeesawLoss()(logits, target)[background], plain[background])


def test_equalization_equals_the_paper():
    loss, positive, negative = EQLv2Loss().double(), [0.0] * 5, [0.0] * 5
    for step in range(4):
        logits, target, _ = rows(step, False)
        weight = []
        for j in range(5):
            ratio = positive[j] / (negative[j] + 1e-10) if positive[j] + negative[j] else 100
            weight.append(1 / (1 + math.exp(-12 * (ratio - 0.8))) if j else 1)
        expected, slopes = torch.empty(9, 5, dtype=torch.float64), torch.empty(9, 5, dtype=torch.float64)
        for i, (x, t) in enumerate(zip(logits.tolist(), target.tolist())):
            for j in range(5):
                w = 1 + 4 * (1 - weight[j]) if t[j] else weight[j]
                probability = 1 / (1 + math.exp(-x[j]))
                expected[i, j] = -w * math.log(probability if t[j] else 1 - probability)
                slopes[i, j] = w * (probability - t[j])
                (positive if t[j] else negative)[j] += abs(slopes[i, j].item())
        value = loss(logits, target)
        torch.testing.assert_close(value.detach(), expected)
        torch.testing.assert_close(torch.autograd.grad(value.sum(), logits)[0], slopes)
    torch.testing.assert_close(loss.positive, torch.tensor(positive, dtype=torch.float64))
    torch.testing.assert_close(loss.negative, torch.tensor(negative, dtype=torch.float64))


@pytest.mark.parametrize(("cls", "softmax"), [(SeesawLoss, True), (EQLv2Loss, False)])
def test_state(cls, softmax):
    loss = cls()
    logits, target, _ = rows(0, softmax)
    with torch.no_grad():
        loss(logits, target)
    cls().eval()(logits, target)
    assert all((b == 0).all() for b in loss.buffers())  # looking is no training
    loss(logits, target)
    held = list(loss.buffers())
    assert all(b.sum() > 0 for b in held)
    other = cls()
    before = list(other.buffers())
    other.load_state_dict(loss.state_dict())
    assert all(a.equal(b) for a, b in zip(other.buffers(), held))
    assert all(a is b for a, b in zip(other.buffers(), before))  # in place
    with pytest.raises(ValueError, match="logits must have 5 columns"):
        loss(logits[:, :3], target[:, :3])


@pytest.mark.parametrize(
    ("cls", "setting"),
    [(SeesawLoss, {"p": -1}), (SeesawLoss, {"q": -1}), (SeesawLoss, {"eps": 0}), (EQLv2Loss, {"gamma": 0})],
)
def test_settings_out_of_range_are_refused(cls, setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        cls(**setting)
