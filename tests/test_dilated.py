"""Dilated convolutions of several groups: torch's values, and a gradient that is right in every type and layout."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from detbalance.dilated import DilatedConv2d, dilated_conv2d


def gradients(x, weight, bias, apply, seed=1):
    leaves = [t.detach().clone().requires_grad_() for t in (x, weight, bias)]
    out = apply(*leaves)
    generator = torch.Generator().manual_seed(seed)
    out.backward(torch.randn(out.shape, generator=generator, dtype=torch.float64).to(out.dtype))
    return [out.detach(), *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize(
    "form", [torch.contiguous_format, torch.channels_last], ids=["channels_first", "channels_last"]
)
@pytest.mark.parametrize("groups", [1, 4, 16])
@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_value_and_gradient(kind, groups, form):
    """At 24 x 32 places bfloat16's own gradient is of memory that was not written."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 16, 24, 32, generator=generator, dtype=torch.float64)
    weight = torch.randn(16, 16 // groups, 3, 3, generator=generator, dtype=torch.float64) / 3
    bias = torch.randn(16, generator=generator, dtype=torch.float64)
    expected = gradients(x, weight, bias, lambda x, w, b: F.conv2d(x, w, b, 1, 2, 2, groups))
    cast = [x.to(kind).contiguous(memory_format=form), weight.to(kind).contiguous(memory_format=form), bias.to(kind)]
    found = gradients(*cast, lambda x, w, b: dilated_conv2d(x, w, b, 2, groups))
    error = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.02}[kind]
    for a, b in zip(found, expected):
        assert a.dtype == kind
        assert (a.double() - b).abs().max() <= error * b.abs().max()


def test_the_layer_is_torchs_and_follows_autocast():
    torch.manual_seed(0)
    ours, theirs = DilatedConv2d(6, 6, 5, dilation=2, groups=3), nn.Conv2d(6, 6, 5, padding=4, dilation=2, groups=3)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 6, 9, 8)
    torch.testing.assert_close(ours(x), theirs(x))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(ours(x), theirs(x).float(), rtol=0.05, atol=0.05)
