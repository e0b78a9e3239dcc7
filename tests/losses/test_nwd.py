"""The Wasserstein distance of boxes against its formula, box by box; the loss and the assigner that stand on it."""

import math

import pytest
import torch

from detbalance.assigners import MaxIoUAssigner, NWDAssigner
from detbalance.boxes import wasserstein
from detbalance.losses import NWDLoss


def naive(a, b):
    """Two normal distributions: means (cx, cy), standard deviations (w / 2, h / 2)."""
    means = [(a[i] + a[i + 2]) / 2 - (b[i] + b[i + 2]) / 2 for i in (0, 1)]
    deviations = [(a[i + 2] - a[i]) / 2 - (b[i + 2] - b[i]) / 2 for i in (0, 1)]
    return math.sqrt(sum(d * d for d in means + deviations))


def pairs(count=64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(2, count, 2, generator=generator, dtype=torch.float64) * 60
    side = torch.rand(2, count, 2, generator=generator, dtype=torch.float64) * 30
    boxes = torch.cat((corner, corner + side), 2)
    boxes[1, 0] = boxes[0, 0]  # equal
    boxes[0, 1, 2:] = boxes[0, 1, :2]  # without area
    return boxes


@pytest.mark.parametrize("constant", [12.8, 50.0])
def test_equals_the_paper(constant):
    predicted, target = pairs()
    expected = [1 - math.exp(-naive(p, t) / constant) for p, t in zip(predicted.tolist(), target.tolist())]
    torch.testing.assert_close(NWDLoss(constant=constant)(predicted, target), torch.tensor(expected).double())
    table = wasserstein(target[:5, None], predicted)
    assert table.shape == (5, 64)
    assert table[3, 7].item() == pytest.approx(naive(target[3].tolist(), predicted[7].tolist()))


def test_gradient():
    predicted, target = pairs()
    predicted = predicted[1:].clone().requires_grad_()
    assert torch.autograd.gradcheck(NWDLoss(), (predicted, target[1:]))
    same = target.clone().requires_grad_()
    NWDLoss()(same, target).sum().backward()
    assert torch.equal(same.grad, torch.zeros_like(same))


def test_is_measured_in_pixels():
    """Unlike IoU: a shift costs the same at every size, and a scaled scene costs more."""
    predicted, target = pairs()
    grown = torch.tensor([-5.0, -5, 5, 5]).double()
    torch.testing.assert_close(NWDLoss()(predicted + grown, target + grown), NWDLoss()(predicted, target))
    assert (NWDLoss()(2 * predicted, 2 * target)[1:] > NWDLoss()(predicted, target)[1:]).all()


def test_far_from_the_origin():
    predicted, target = (box.float() for box in pairs())
    near = NWDLoss()(predicted, target)
    torch.testing.assert_close(NWDLoss()(predicted + 1e5, target + 1e5), near, atol=2e-2, rtol=0)


def test_assigner_is_thresholds_on_the_measure():
    boxes, truth = pairs()
    truth = truth[:9]
    assigner = NWDAssigner(positive=0.6, negative=0.2, low_quality=False, constant=20.0)
    matched = assigner(boxes, {"boxes": truth, "labels": torch.ones(9)})
    for n, box in enumerate(boxes.tolist()):
        measure = [math.exp(-naive(box, t) / 20) for t in truth.tolist()]
        best = max(range(9), key=lambda g: measure[g])
        expected = best if measure[best] >= 0.6 else -1 if measure[best] < 0.2 else -2
        assert int(matched[n]) == expected


def test_every_object_gets_its_nearest_candidate():
    """Even one that no candidate touches, which IoU leaves without."""
    boxes = torch.tensor([[0.0, 0, 8, 8], [20, 0, 28, 8]])
    tiny = {"boxes": torch.tensor([[31.0, 2, 33, 4]]), "labels": torch.tensor([1])}
    assert NWDAssigner()(boxes, tiny).tolist()[1] == 0
    assert 0 not in MaxIoUAssigner()(boxes, tiny).tolist()


@pytest.mark.parametrize("method", [NWDLoss, NWDAssigner])
def test_refuses(method):
    with pytest.raises(ValueError, match="constant must be greater than 0, or None, but is 0"):
        method(constant=0)


def test_constant_of_the_data_at_hand():
    """A scene twice as large is measured twice as coarsely."""
    boxes, truth = pairs()
    truth = truth[:9]
    mean = sum(math.sqrt((t[2] - t[0]) * (t[3] - t[1])) for t in truth.tolist()) / 9
    target = {"boxes": truth, "labels": torch.ones(9)}
    expected = NWDAssigner(constant=mean)(boxes, target)
    assert torch.equal(NWDAssigner(constant=None)(boxes, target), expected)
    assert torch.equal(NWDAssigner(constant=None)(2 * boxes, {**target, "boxes": 2 * truth}), expected)
    loss = NWDLoss(constant=None)
    torch.testing.assert_close(loss(boxes[:9], truth), NWDLoss(constant=mean)(boxes[:9], truth))
    assert loss(boxes[:0], truth[:0]).shape == (0,)
    none = {"boxes": truth[:0], "labels": torch.zeros(0)}
    assert (NWDAssigner(constant=None)(boxes, none) == -1).all()
