"""What every class loss must survive: no rows, no positives, all positives, huge logits, half precision."""

import inspect

import pytest
import torch

from detbalance import losses

CLASSES = [getattr(losses, n) for n in losses.__all__ if hasattr(getattr(losses, n), "target_kind")]
KNOWN = {"APLoss", "ALRPLoss", "RankSortLoss", "DRLoss"}  # ranking losses have tests of their own
CASES = [
    (cls, softmax)
    for cls in CLASSES
    if cls.__name__ not in KNOWN
    for softmax in ([False, True] if "softmax" in inspect.signature(cls).parameters else [cls.softmax])
]


def build(cls, softmax):
    parameters = inspect.signature(cls).parameters
    settings = {"softmax": softmax} if "softmax" in parameters else {}
    if "counts" in parameters:
        settings["counts"] = (0, 5, 1, 100)
    if "num_classes" in parameters:
        settings["num_classes"] = 4
    return cls(**settings)


def target_rows(kind, softmax):
    labels = {"mixed": [0, 1, 2, 3, 0, 1], "none": [0] * 6, "all": [1, 2, 3, 1, 2, 3]}[kind]
    target = torch.nn.functional.one_hot(torch.tensor(labels), 4).float()
    if not softmax:
        target[:, 0] = 0
    return target


@pytest.mark.parametrize(("cls", "softmax"), CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["mixed", "none", "all"])
@pytest.mark.parametrize("size", [0.0, 1.0, 30.0, 1e4])
def test_finite_value_and_gradient(cls, softmax, dtype, kind, size):
    torch.manual_seed(0)
    logits = (size * (torch.randint(0, 2, (6, 4)) * 2 - 1)).to(dtype).requires_grad_()
    target = target_rows(kind, softmax).to(dtype)
    value = build(cls, softmax)(logits, target, torch.zeros(6, dtype=torch.long))
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(("cls", "softmax"), CASES)
def test_no_rows(cls, softmax):
    logits = torch.zeros(0, 4, requires_grad=True)
    value = build(cls, softmax)(logits, torch.zeros(0, 4))
    assert value.shape in {(), (0,), (0, 4)}
    value.sum().backward()
    assert logits.grad.shape == (0, 4)
    assert torch.isfinite(value).all()


@pytest.mark.parametrize(("cls", "softmax"), CASES)
def test_the_right_answer_costs_less(cls, softmax):
    target = target_rows("mixed", softmax)
    right, wrong = (sign * 4 * (2 * target - 1) for sign in (1, -1))
    assert build(cls, softmax)(right, target).sum() < build(cls, softmax)(wrong, target).sum()
