"""WIoULoss: its running mean over several steps, and where that goes."""

import pytest
import torch

from detbalance.losses import WIoULoss

TRUTH = torch.tensor([[0.0, 0, 4, 4]])


def shifted(x):
    return TRUTH + torch.tensor([x, 0, x, 0])


def test_the_mean_follows_the_losses_of_the_steps():
    loss, mean = WIoULoss(momentum=0.1), 1.0
    for x in (1.0, 2.0, 3.0):
        loss(shifted(x), TRUTH)
        mean += 0.1 * ((1 - (4 - x) / (4 + x)) - mean)
    assert loss.mean.item() == pytest.approx(mean)


def test_evaluation_and_empty_batches_leave_the_mean():
    loss = WIoULoss()
    loss(TRUTH[:0], TRUTH[:0])
    loss.eval()(shifted(1.0), TRUTH)
    assert loss.mean == 1


def test_the_mean_goes_with_the_checkpoint():
    loss, other = WIoULoss(), WIoULoss()
    loss(shifted(1.0), TRUTH)
    other.load_state_dict(loss.state_dict())
    assert other.mean == loss.mean != 1


def test_version_three_favours_the_middling_box():
    loss = WIoULoss(momentum=0.5).eval()
    loss.mean.fill_(0.2)
    plain = WIoULoss(version=1).eval()
    easy, middling, outlier = ((loss(shifted(x), TRUTH) / plain(shifted(x), TRUTH)).item() for x in (0.05, 0.5, 3.9))
    assert easy < middling
    assert outlier < middling


def test_a_perfect_batch_gives_no_nan():
    loss = WIoULoss(momentum=1)
    boxes = TRUTH.clone().requires_grad_()
    loss(boxes, TRUTH).sum().backward()
    assert loss.mean == 0
    assert torch.isfinite(loss(shifted(1.0), TRUTH)).all()
    assert torch.isfinite(boxes.grad).all()
