"""What every box loss of the package promises, whatever its formula: found by walking, so that none is forgotten."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detbalance import losses
from detbalance.losses import GHMRLoss, WIoULoss

BOX_LOSSES = [getattr(losses, name) for name in losses.__all__ if hasattr(getattr(losses, name), "space")]
CODES = [cls for cls in BOX_LOSSES if cls.space == "code"]
XYXY = [cls for cls in BOX_LOSSES if cls.space == "xyxy"]
PIXELS = {"NWDLoss"}
"""measured in pixels, so not the same for boxes twice as large"""
HELD = {"CIoULoss", "AlphaIoULoss", "FocalEIoULoss", "WIoULoss", "IoUBalancedLoss", "GHMRLoss"}
"""a factor is held constant in the gradient: finite differences of those are in their own tests"""


def fresh(cls):
    """With its defaults; a mean or a density that follows the losses stands still."""
    loss = cls()
    return loss.eval() if isinstance(loss, torch.nn.Module) else loss


def pairs(space, count=25):
    g = torch.Generator().manual_seed(0)
    if space == "code":
        return torch.randn(2, count, 4, generator=g, dtype=torch.float64)
    corner, size, shift, growth = torch.rand(4, count, 2, generator=g, dtype=torch.float64)
    boxes = torch.cat((10 * corner, 10 * corner + 2 + 8 * size), 1)
    truth = torch.cat((10 * corner + shift, 10 * corner + shift + (2 + 8 * size) * (0.6 + growth)), 1)
    return torch.stack((boxes, truth))


@pytest.mark.parametrize("cls", [cls for cls in BOX_LOSSES if cls.__name__ not in HELD])
def test_gradient_by_finite_differences(cls):
    predicted, target = pairs(cls.space)
    assert torch.autograd.gradcheck(lambda p: fresh(cls)(p, target), predicted.requires_grad_())


@pytest.mark.parametrize("cls", BOX_LOSSES)
def test_a_larger_shift_costs_more_and_is_drawn_back(cls):
    """One coordinate of a code, or a whole box, moves away from the truth: the loss rises, its gradient points back."""
    steps = torch.linspace(0.02, 0.45, 24, dtype=torch.float64)
    if cls.space == "code":
        truth, way = torch.zeros(24, 4, dtype=torch.float64), torch.tensor([0.0, 1, 0, 0])
    else:
        truth = torch.tensor([[0.0, 0, 10, 8]], dtype=torch.float64).expand(24, 4)
        way = torch.tensor([10.0, 0, 10, 0])
    moved = (truth + steps[:, None] * way).requires_grad_()
    value = fresh(cls)(moved, truth)
    (gradient,) = torch.autograd.grad(value.sum(), moved)
    assert ((gradient * way).sum(1) > 0).all()
    if cls is WIoULoss:  # its third version favours the middling boxes
        value = WIoULoss(version=1).eval()(moved, truth)
    if cls is not GHMRLoss and cls.__name__ != "FocalEIoULoss" and cls.__name__ != "IoUBalancedLoss":
        assert (value.detach().diff() > 0).all()


@pytest.mark.parametrize("cls", BOX_LOSSES)
def test_where_the_boxes_stand_does_not_matter(cls):
    """Nor how large they are, to the losses of the overlap."""
    predicted, target = pairs(cls.space)
    value = fresh(cls)(predicted, target)
    if cls.space == "code" and cls.__name__ not in ("CombinedBoxLoss", "IoUBalancedLoss"):
        torch.testing.assert_close(fresh(cls)(predicted + 3, target + 3), value)
    elif cls.space == "xyxy":
        away = torch.tensor([40.0, -25, 40, -25], dtype=torch.float64)
        torch.testing.assert_close(fresh(cls)(predicted + away, target + away), value)
        if cls.__name__ not in PIXELS:
            torch.testing.assert_close(fresh(cls)(predicted * 7, target * 7), value)


number = st.one_of(
    st.sampled_from([0.0, 1e-7, 0.1, 1.0, -1.0, 50.0, -50.0, 1e4, -1e4]),
    st.floats(-1e4, 1e4, width=16, allow_subnormal=False),
)
code = st.tuples(number, number, number, number)


@settings(max_examples=25, deadline=None)
@given(predicted=code, target=code, dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32]))
def test_losses_of_the_code_are_finite_everywhere(predicted, target, dtype):
    for cls in CODES:
        moved = torch.tensor([predicted, target], dtype=dtype).requires_grad_()
        value = fresh(cls)(moved, torch.tensor([target, target], dtype=dtype))
        value.sum().backward()
        assert value.dtype == torch.float32
        assert value.isfinite().all(), cls
        assert moved.grad.isfinite().all(), cls
