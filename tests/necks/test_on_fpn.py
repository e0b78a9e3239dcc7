"""The necks that add to an FPN, AugFPN and the dynamic head, each written out by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import deform_conv2d
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from detbalance.necks import FPN, AugFPN, DynamicHead
from detbalance.necks.dynamic_head import _Deformed

CHANNELS, SIZES = (2, 3, 4), ((21, 24), (11, 12), (6, 6))


def plain_of(neck):
    plain = FPN(CHANNELS, 4).double()
    plain.load_state_dict({k: v for k, v in neck.state_dict().items() if k in plain.state_dict()})
    return plain


def test_augmented_written_out(naive):
    neck = naive.randomise(AugFPN(CHANNELS, 4, ratios=(0.1, 0.5)))
    inputs = naive.maps(CHANNELS, SIZES)
    deep = inputs["2"]
    small = neck.context[0](naive.mean(deep, (1, 1)))  # a tenth of 6 is less than 1
    large = neck.context[1](naive.mean(deep, (3, 3)))
    contexts = [naive.bilinear(small, SIZES[2]), naive.bilinear(large, SIZES[2])]
    first, _, second, _ = neck.fuse
    weights = 1 / (1 + torch.exp(-second(first(torch.cat(contexts, 1)).clamp(min=0))))
    m2 = neck.inner_blocks[2](deep) + weights[:, :1] * contexts[0] + weights[:, 1:] * contexts[1]
    m1 = neck.inner_blocks[1](inputs["1"]) + naive.nearest(m2, SIZES[1])
    m0 = neck.inner_blocks[0](inputs["0"]) + naive.nearest(m1, SIZES[0])
    expected = [block(m) for block, m in zip(neck.layer_blocks, (m0, m1, m2))]
    for mine, other in zip(neck(inputs).values(), expected, strict=True):
        torch.testing.assert_close(mine, other)


def test_augmented_without_context_is_the_plain_pyramid(naive):
    neck = naive.randomise(AugFPN(CHANNELS, 4))
    for p in neck.context.parameters():
        torch.nn.init.zeros_(p)
    inputs = naive.maps(CHANNELS, SIZES)
    for mine, other in zip(neck(inputs).values(), plain_of(neck)(inputs).values(), strict=True):
        torch.testing.assert_close(mine, other)


def deformed(naive, module, x, offset, mask, stride=1):
    """Each output place reads nine places, each moved by its own offset (row first) and weighed by its mask."""
    batch, _, height, width = offset.shape
    new = x.new_zeros(batch, x.shape[1], height, width)
    for n in range(batch):
        for i in range(height):
            for j in range(width):
                for k in range(9):
                    down, right = offset[n, 2 * k : 2 * k + 2, i, j].tolist()
                    place = i * stride + k // 3 - 1 + down, j * stride + k % 3 - 1 + right
                    seen = naive.at(x[n : n + 1], *place)[0]
                    new[n, :, i, j] += mask[n, k, i, j] * module.weight[:, :, k // 3, k % 3] @ seen
    return F.group_norm(new, math.gcd(16, x.shape[1]), module.norm.weight, module.norm.bias)


def test_dynamic_written_out(naive):
    neck = naive.randomise(DynamicHead(CHANNELS, 4, blocks=1))
    torch.nn.init.constant_(neck.blocks[0].scale[0].bias, 0.3)  # else ReLU may hide the scale attention
    sizes = ((7, 6), (4, 3), (2, 2))
    inputs = naive.maps(CHANNELS, sizes, batch=1)
    block = neck.blocks[0]
    pyramid = list(plain_of(neck)(inputs).values())
    outputs = list(neck(inputs).values())

    def hard(x):
        return (x / 6 + 0.5).clamp(0, 1)

    for i, x in enumerate(pyramid):
        moves = block.where(x)
        offset, mask = moves[:, :18], 1 / (1 + torch.exp(-moves[:, 18:]))
        seen = [deformed(naive, block.own, x, offset, mask)]
        if i < 2:
            seen.append(deformed(naive, block.coarser, naive.bilinear(pyramid[i + 1], sizes[i]), offset, mask))
        if i > 0:
            seen.append(deformed(naive, block.finer, pyramid[i - 1], offset, mask, stride=2))
        scale = block.scale[0]
        merged = sum(
            y * hard((y.mean((2, 3)) @ scale.weight[0, :, 0, 0] + scale.bias).clamp(min=0))[:, None, None, None]
            for y in seen
        ) / len(seen)
        first, _, second, _ = block.task.coefficients
        hidden = (merged.mean((2, 3)) @ first.weight[:, :, 0, 0].T + first.bias).clamp(min=0)
        theta = hard(hidden @ second.weight[:, :, 0, 0].T + second.bias)[:, :, None, None]
        a1, b1, a2, b2 = 2 * theta[:, :4], theta[:, 4:8] - 0.5, 2 * theta[:, 8:12] - 1, theta[:, 12:] - 0.5
        torch.testing.assert_close(outputs[i], torch.maximum(a1 * merged + b1, a2 * merged + b2))


@pytest.mark.parametrize("stride", [1, 2])
def test_dynamic_deforms_as_torchvision_does(stride):
    torch.manual_seed(0)
    module = _Deformed(8, stride).double()
    x, moves = torch.randn(2, 8, 9, 12, dtype=torch.float64), torch.randn(2, 18, 9, 12, dtype=torch.float64)
    offset, mask = 3 * moves[:, :, ::stride, ::stride], moves[:, 9:, ::stride, ::stride].sigmoid()
    leaves = [t.clone().requires_grad_() for t in (x, offset, mask)]
    mine = module(*leaves)
    theirs = module.norm(deform_conv2d(leaves[0], leaves[1], module.weight, None, stride, 1, mask=leaves[2]))
    torch.testing.assert_close(mine, theirs)
    for output in (mine, theirs):
        output.square().sum().backward()
    for leaf in leaves:  # both together are twice the one
        (once,) = torch.autograd.grad(module(*leaves).square().sum(), leaf)
        torch.testing.assert_close(leaf.grad, 2 * once)


def test_dynamic_gradient(naive):
    neck = naive.randomise(DynamicHead([2, 2], 2, blocks=1))
    inputs = [x.requires_grad_() for x in naive.maps([2, 2], ((4, 3), (2, 2)), batch=1).values()]
    assert torch.autograd.gradcheck(lambda *x: tuple(neck(dict(zip("ab", x))).values()), inputs)


def test_dynamic_takes_levels_that_the_backbone_rounded_down():
    neck = DynamicHead([4, 4], 4, blocks=1)
    out = neck({"a": torch.randn(1, 4, 7, 9), "b": torch.randn(1, 4, 3, 4)})
    assert [tuple(y.shape[-2:]) for y in out.values()] == [(7, 9), (3, 4)]


def test_dynamic_extra_levels_take_part():
    neck = DynamicHead([4], 4, blocks=1, extra_blocks=LastLevelMaxPool())
    assert list(neck({"a": torch.randn(1, 4, 7, 9)})) == ["a", "pool"]


@pytest.mark.parametrize("cls", [AugFPN, DynamicHead])
def test_pretrained_pyramid_loads(cls):
    neck, plain = (c([4, 4], 4) for c in (cls, FPN))
    assert not neck.load_state_dict(plain.state_dict(), strict=False).unexpected_keys


@pytest.mark.parametrize(
    ("cls", "setting"), [(AugFPN, {"ratios": ()}), (AugFPN, {"ratios": (0, 0.5)}), (DynamicHead, {"blocks": 0})]
)
def test_settings_out_of_range_are_refused(cls, setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        cls([4, 4], 4, **setting)
