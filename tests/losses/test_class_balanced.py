"""ClassBalancedLoss against the effective numbers written out."""

import pytest
import torch

from detbalance.losses import ClassBalancedLoss, CrossEntropyLoss, FocalLoss

COUNTS = (0, 500, 20, 3)


def rows(softmax, dtype=torch.float64):
    torch.manual_seed(0)
    labels = torch.tensor([0, 1, 2, 3, 1, 0])
    target = torch.nn.functional.one_hot(labels, 4).to(dtype)
    if not softmax:
        target[:, 0] = 0
    return torch.randn(6, 4, dtype=dtype, requires_grad=True), target, labels


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("beta", [0.9, 0.9999])
def test_equals_the_paper(softmax, beta):
    logits, target, labels = rows(softmax)
    raw = [(1 - beta) / (1 - beta**n) for n in COUNTS[1:]]
    weights = torch.tensor([1, *(3 * w / sum(raw) for w in raw)], dtype=torch.float64)[labels]
    plain = CrossEntropyLoss(softmax=softmax)
    value = ClassBalancedLoss(counts=COUNTS, beta=beta, base=plain)(logits, target)
    expected = plain(logits, target) * (weights if softmax else weights[:, None])
    torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("settings", [{"counts": (9, 40, 40, 40)}, {"counts": COUNTS, "beta": 0}])
def test_equal_classes_change_nothing(settings):
    logits, target, _ = rows(False)
    base = FocalLoss()
    torch.testing.assert_close(ClassBalancedLoss(**settings, base=base)(logits, target), base(logits, target))


def test_it_is_for_the_head_of_its_base():
    assert not ClassBalancedLoss(counts=COUNTS).softmax
    assert ClassBalancedLoss(counts=COUNTS, base=CrossEntropyLoss(softmax=True)).softmax


def test_huge_counts_do_not_underflow():
    weights = ClassBalancedLoss(counts=(0, 10**9, 10**9, 0), beta=1 - 1e-12).weights()
    assert weights[1] == weights[2]
    assert sum(weights[1:]) == pytest.approx(3)


def test_a_wrong_number_of_counts_is_refused():
    with pytest.raises(ValueError, match="counts must have one entry a column, 4, but has 3"):
        ClassBalancedLoss(counts=(0, 1, 2))(*rows(False)[:2])


@pytest.mark.parametrize("settings", [{"counts": (1,)}, {"counts": (1, -1)}, {"counts": COUNTS, "beta": 1}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match=list(settings)[-1]):
        ClassBalancedLoss(**settings)
