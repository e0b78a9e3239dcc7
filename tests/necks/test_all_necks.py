"""What every neck owes: shapes for odd sizes and any number of levels, names, gradient to every input, determinism."""

from collections import OrderedDict

import pytest
import torch
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from detbalance import necks

NECKS = [getattr(necks, name) for name in necks.__all__]


def maps(levels, size=(67, 45), batch=2, channels=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    found = OrderedDict()
    for i in range(levels):
        found[f"c{i}"] = torch.randn(batch, channels + i, *size, generator=generator).requires_grad_()
        size = tuple((s + 1) // 2 for s in size)
    return found


def build(neck, levels, out=8, **options):
    torch.manual_seed(0)
    return neck([8 + i for i in range(levels)], out, **options)


@pytest.mark.parametrize("neck", NECKS)
@pytest.mark.parametrize("levels", [1, 3, 4, 5, 6])
@pytest.mark.parametrize("size", [(67, 45), (64, 64), (33, 200), (3, 3)])
def test_shapes_and_gradient(neck, levels, size):
    inputs = maps(levels, size)
    outputs = build(neck, levels)(inputs)
    assert list(outputs) == list(inputs)
    for name, x in inputs.items():
        assert outputs[name].shape == (2, 8, *x.shape[-2:])
    sum(y.square().sum() for y in outputs.values()).backward()
    assert all(x.grad.abs().sum() > 0 for x in inputs.values())


@pytest.mark.parametrize("neck", NECKS)
def test_extra_blocks(neck):
    inputs = maps(3)
    pooled = build(neck, 3, extra_blocks=LastLevelMaxPool())(inputs)
    assert list(pooled) == ["c0", "c1", "c2", "pool"]
    strided = build(neck, 3, extra_blocks=LastLevelP6P7(8, 8))(inputs)
    assert [tuple(y.shape[-2:]) for y in strided.values()] == [(67, 45), (34, 23), (17, 12), (9, 6), (5, 3)]


@pytest.mark.parametrize("neck", NECKS)
def test_same_seed_same_output(neck):
    first, second = (build(neck, 3).eval()(maps(3)) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("neck", NECKS)
def test_exports(neck):
    inputs = OrderedDict((name, x.detach()) for name, x in maps(3).items())
    model = build(neck, 3).eval()
    exported = torch.export.export(model, (inputs,)).module()
    for name, y in model(inputs).items():
        torch.testing.assert_close(exported(inputs)[name], y)
