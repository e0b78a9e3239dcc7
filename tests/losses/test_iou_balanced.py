"""IoUBalancedLoss: the IoU it takes from codes alone is that of the boxes decoded on their anchors."""

import pytest
import torch
from torchvision.models.detection._utils import BoxCoder

from detbalance.boxes import paired_iou
from detbalance.losses import IoUBalancedLoss, SmoothL1Loss


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)])
def test_equals_smooth_l1_by_the_iou_of_decoded_boxes(weights):
    torch.manual_seed(0)
    corner = 100 * torch.rand(50, 2, dtype=torch.float64)
    anchors = torch.cat((corner, corner + 5 + 40 * torch.rand(50, 2, dtype=torch.float64)), 1)
    scale = torch.tensor(weights, dtype=torch.float64)
    predicted = (0.3 * torch.randn(50, 4, dtype=torch.float64) * scale).requires_grad_()
    target = 0.3 * torch.randn(50, 4, dtype=torch.float64) * scale
    coder = BoxCoder(weights)
    iou = paired_iou(*(coder.decode_single(code.detach(), anchors) for code in (predicted, target)))
    plain = SmoothL1Loss(beta=0.5)(predicted, target)
    value = IoUBalancedLoss(beta=0.5, weights=weights)(predicted, target)
    torch.testing.assert_close(value, iou**1.5 * plain)
    gradients = (torch.autograd.grad(v.sum(), predicted)[0] for v in (value, iou**1.5 * plain))
    torch.testing.assert_close(*gradients)


def test_power_zero_is_smooth_l1():
    predicted, target = torch.randn(9, 4), torch.randn(9, 4)
    torch.testing.assert_close(IoUBalancedLoss(power=0)(predicted, target), SmoothL1Loss()(predicted, target))


@pytest.mark.parametrize("setting", [{"power": -1}, {"beta": -1}, {"weights": (1.0, 1.0)}, {"weights": (0.0,) * 4}])
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        IoUBalancedLoss(**setting)
