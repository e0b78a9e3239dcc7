"""The necks that use the backbone's own maps (the review's figures 8b and 10c to g), each written out by hand."""

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from detbalance.necks import MLFPN, STDN, FeatureHierarchy, ParallelFPN, ReconfiguredFPN, ZoomOutIn

CHANNELS = (5, 6, 7)
SIZES = ((11, 8), (6, 4), (3, 2))


def sigmoid(x):
    return 1 / (1 + torch.exp(-x))


def attention(layers, means):
    """Squeeze and excitation by its two matrices: (B, C) -> (B, C, 1, 1)."""
    first, _, second, _ = layers
    hidden = (means @ first.weight[:, :, 0, 0].T + first.bias).clamp(min=0)
    return sigmoid(hidden @ second.weight[:, :, 0, 0].T + second.bias)[:, :, None, None]


def assert_close(outputs, expected):
    assert len(outputs) == len(expected)
    for mine, other in zip(outputs.values(), expected):
        torch.testing.assert_close(mine, other)


def test_feature_hierarchy_mixes_no_levels(naive):
    neck = naive.randomise(FeatureHierarchy(CHANNELS, 5))
    inputs = naive.maps(CHANNELS, SIZES)
    expected = [
        torch.einsum("oi,bihw->bohw", block[0].weight[:, :, 0, 0], x) + block[0].bias[:, None, None]
        for block, x in zip(neck.inner_blocks, inputs.values())
    ]
    assert_close(neck(inputs), expected)


@pytest.mark.parametrize("dense", [True, False])
def test_stdn_place_by_place(naive, dense):
    neck = naive.randomise(STDN(CHANNELS, 5, dense=dense, extra_blocks=LastLevelMaxPool()))
    inputs = naive.maps(CHANNELS, SIZES)
    deep = inputs["2"]
    if dense:
        deep = torch.cat([deep, naive.mean(inputs["1"], SIZES[2]), naive.mean(inputs["0"], SIZES[2])], 1)
    expected = []
    for level, (size, most) in enumerate(zip(SIZES, (4, 2, 1))):
        r = most if dense else min(most, 2)  # 7 channels make no 16
        channels = deep.shape[1] // r**2
        moved = deep.new_empty(2, channels, r * SIZES[2][0], r * SIZES[2][1])
        for c in range(channels):
            for i in range(moved.shape[2]):
                for j in range(moved.shape[3]):
                    moved[:, c, i, j] = deep[:, c * r**2 + i % r * r + j % r, i // r, j // r]
        expected.append(neck.project[level](naive.nearest(moved, size)))
    pooled = torch.cat([deep[:, :, :2].mean((2, 3), keepdim=True), deep[:, :, 2:].mean((2, 3), keepdim=True)], 2)
    outputs = neck(inputs)
    assert list(outputs) == ["0", "1", "2", "pool"]
    assert_close(outputs, [*expected, neck.project[3](pooled)])


def test_stdn_takes_names_of_extra_levels_alone():
    neck = STDN([4, 4], 4, extra_blocks=LastLevelP6P7(4, 4))
    assert not any("p6" in name for name in neck.state_dict())
    assert list(neck({"a": torch.zeros(1, 4, 9, 9), "b": torch.zeros(1, 4, 5, 5)})) == ["a", "b", "p6", "p7"]


@pytest.mark.parametrize("depth", [None, 2])
def test_parallel_written_out(naive, depth):
    neck = naive.randomise(ParallelFPN(CHANNELS, 4, depth=depth))
    inputs = naive.maps(CHANNELS, SIZES)

    def layer(step, x):
        norm, _, convolution = step
        x = (x - norm.running_mean[:, None, None]) / torch.sqrt(norm.running_var + norm.eps)[:, None, None]
        x = (x * norm.weight[:, None, None] + norm.bias[:, None, None]).clamp(min=0)
        return F.conv2d(x, convolution.weight, padding=convolution.weight.shape[-1] // 2)

    def layers(steps, x):
        for step in steps:
            x = layer(step, x)
        return x

    used = list(inputs.values())[-(depth or 3) :]
    joined = [naive.bilinear(layer(head, x), SIZES[0]) for head, x in zip(neck.heads, used)]
    wide = [naive.mean(layer(neck.join, torch.cat(joined, 1)), size) for size in SIZES]
    thin = [layers(steps, x) for steps, x in zip(neck.thin, wide)]
    assert thin[0].shape[1] == wide[0].shape[1] // 2  # three levels: two others
    (a, b, c), (fine, middle, coarse) = thin, SIZES
    expected = [
        layers(neck.gather[0], torch.cat([wide[0], naive.bilinear(b, fine), naive.bilinear(c, fine)], 1)),
        layers(neck.gather[1], torch.cat([wide[1], naive.mean(a, middle), naive.bilinear(c, middle)], 1)),
        layers(neck.gather[2], torch.cat([wide[2], naive.mean(a, coarse), naive.mean(b, coarse)], 1)),
    ]
    assert_close(neck(inputs), expected)


def test_reconfigured_holds_the_whole_tensor(naive):
    neck = naive.randomise(ReconfiguredFPN(CHANNELS, 8, ratio=4))
    inputs = naive.maps(CHANNELS, SIZES)
    means = torch.cat([x.mean((2, 3)) for x in inputs.values()], 1)
    expected = []
    for level, x, block in zip(neck.levels, inputs.values(), neck.inner_blocks):
        size = x.shape[-2:]
        everything = torch.cat([naive.blend(y, size) for y in inputs.values()], 1)
        weighed = everything * attention(level.attention, means)
        mixed = F.conv2d(weighed, torch.cat([f.weight for f in level.mix], 1))
        expected.append(block(x) + level.local(mixed))
    assert_close(neck(inputs), expected)


def test_reconfigured_without_residual_is_the_hierarchy(naive):
    neck = naive.randomise(ReconfiguredFPN(CHANNELS, 8))
    plain = FeatureHierarchy(CHANNELS, 8).double()
    plain.load_state_dict({k: v for k, v in neck.state_dict().items() if k.startswith("inner_blocks")})
    for level in neck.levels:
        torch.nn.init.zeros_(level.local[-1].weight)
        torch.nn.init.zeros_(level.local[-1].bias)
    inputs = naive.maps(CHANNELS, SIZES)
    assert_close(neck(inputs), list(plain(inputs).values()))


def test_zoom_out_and_in_written_out(naive):
    neck = naive.randomise(ZoomOutIn(CHANNELS, 5, ratio=4))
    inputs = naive.maps(CHANNELS, SIZES)

    def deconvolution(layer, x):
        """Each place of the input lays its 4x4 kernel down, two places from the next one's, one off the border."""
        batch, _, height, width = x.shape
        laid = x.new_zeros(batch, 5, 2 * height + 2, 2 * width + 2)
        for i in range(height):
            for j in range(width):
                kernel = torch.einsum("bi,iohw->bohw", x[:, :, i, j], layer.weight)
                laid[:, :, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += kernel
        return laid[:, :, 1:-1, 1:-1] + layer.bias[:, None, None]

    top = neck.turn(inputs["2"]).clamp(min=0)
    middle = naive.nearest(deconvolution(neck.zoom_in[1], top), SIZES[1]).clamp(min=0)
    fine = naive.nearest(deconvolution(neck.zoom_in[0], middle), SIZES[0]).clamp(min=0)
    expected = []
    for i, (b, c) in enumerate(zip((fine, middle, top), inputs.values())):
        stack = torch.cat([b, c], 1)
        expected.append(neck.layer_blocks[i](stack * attention(neck.decide[i], stack.mean((2, 3)))))
    assert_close(neck(inputs), expected)


def test_multi_level_written_out(naive):
    neck = naive.randomise(MLFPN(CHANNELS, 5, modules=2, planes=4))
    inputs = naive.maps(CHANNELS, SIZES)

    def up(x, size):
        return naive.nearest(x, size)

    def u_shape(module, x):
        half = up(module.down[0](x), SIZES[1])
        quarter = up(module.down[1](half), SIZES[2])
        coarse = module.turn(quarter)
        middle = module.across[1](half) + up(coarse, SIZES[1])
        fine = module.across[0](x) + up(middle, SIZES[0])
        return module.smooth[0](fine), module.smooth[1](middle), coarse

    x0, x1, x2 = inputs.values()
    base = torch.cat([neck.join[0](x0), up(neck.join[1](x1), SIZES[0]), up(neck.join[2](x2), SIZES[0])], 1)
    assert [neck.join[i][0].out_channels for i in range(3)] == [4, 8, 8]
    first = u_shape(neck.pyramids[0], neck.reduce[0](base))
    second = u_shape(neck.pyramids[1], torch.cat([neck.reduce[1](base), first[0]], 1))
    expected = []
    for i, pair in enumerate(zip(first, second)):
        stack = torch.cat(pair, 1)
        expected.append(neck.layer_blocks[i](stack * attention(neck.attend[i], stack.mean((2, 3)))))
    assert_close(neck(inputs), expected)


def test_multi_level_from_two_maps_as_in_the_paper():
    neck = MLFPN([8, 8, 8], 8, modules=1, sources=(2, 1))
    inputs = {str(i): torch.randn(2, 8, 16 >> i, 16 >> i, requires_grad=True) for i in range(3)}
    sum(y.square().sum() for y in neck(inputs).values()).backward()
    assert inputs["0"].grad is None
    assert all(inputs[i].grad.abs().sum() > 0 for i in "12")


@pytest.mark.parametrize(
    ("cls", "setting"),
    [
        (ParallelFPN, {"depth": 0}),
        (ParallelFPN, {"depth": 3}),
        (ReconfiguredFPN, {"ratio": 0}),
        (ZoomOutIn, {"ratio": 0}),
        (MLFPN, {"modules": 0}),
        (MLFPN, {"planes": 1}),
        (MLFPN, {"sources": ()}),
        (MLFPN, {"sources": (0, 2)}),
    ],
)
def test_settings_out_of_range_are_refused(cls, setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        cls([4, 4], 4, **setting)
