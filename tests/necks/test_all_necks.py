"""What every neck owes: shapes for odd sizes and any number of levels and channels, names, gradient to every input and
every parameter, determinism, export, any layout of memory."""

from collections import OrderedDict

import pytest
import torch
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from detbalance import necks

NECKS = [getattr(necks, name) for name in necks.__all__]
LIGHT = {"MLFPN": {"modules": 2}, "NASFPN": {"repeats": 1}, "DynamicHead": {"blocks": 1}, "BiFPN": {"repeats": 1}}
"""a short stack shows the same as a long one"""
ODD = (35, 23)

every = pytest.mark.parametrize("neck", NECKS, ids=lambda neck: neck.__name__)


def maps(levels, size=ODD, batch=2, channels=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    found = OrderedDict()
    for i in range(levels):
        found[f"c{i}"] = torch.randn(batch, channels + i, *size, generator=generator).requires_grad_()
        size = tuple((s + 1) // 2 for s in size)
    return found


def build(neck, levels, out=8, channels=8, **options):
    torch.manual_seed(0)
    return neck([channels + i for i in range(levels)], out, **LIGHT.get(neck.__name__, {}), **options)


@every
@pytest.mark.parametrize(
    ("levels", "size"),
    [(1, ODD), (3, ODD), (4, ODD), (5, ODD), (6, (67, 45)), (3, (32, 32)), (4, (17, 90)), (3, (3, 3))],
)
def test_shapes_and_gradient(neck, levels, size):
    inputs = maps(levels, size)
    outputs = build(neck, levels)(inputs)
    assert list(outputs) == list(inputs)
    for name, x in inputs.items():
        assert outputs[name].shape == (2, 8, *x.shape[-2:])
    sum(y.square().sum() for y in outputs.values()).backward()
    assert all(x.grad.abs().sum() > 0 for x in inputs.values())


@every
@pytest.mark.parametrize(("channels", "out"), [(3, 5), (7, 2), (20, 48)])
def test_any_number_of_channels(neck, channels, out):
    outputs = build(neck, 3, out, channels)(maps(3, (9, 6), channels=channels))
    assert {y.shape[1] for y in outputs.values()} == {out}


@every
def test_gradient_reaches_every_parameter(neck):
    """From one of some random points: ReLU may hide a parameter from the others."""
    module = build(neck, 3, extra_blocks=LastLevelP6P7(8, 8))
    start = [p.detach().clone() for p in module.parameters()]
    for seed in range(8):
        torch.manual_seed(seed)
        for p, at in zip(module.parameters(), start):
            p.data = at + 0.3 * torch.randn_like(at)
        sum(y.square().sum() for y in module(maps(3, (9, 6), seed=seed)).values()).backward()
    assert [name for name, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@every
def test_extra_blocks(neck):
    inputs = maps(3)
    pooled = build(neck, 3, extra_blocks=LastLevelMaxPool())(inputs)
    assert list(pooled) == ["c0", "c1", "c2", "pool"]
    strided = build(neck, 3, extra_blocks=LastLevelP6P7(8, 8))(inputs)
    assert [tuple(y.shape[-2:]) for y in strided.values()] == [ODD, (18, 12), (9, 6), (5, 3), (3, 2)]


@every
def test_same_seed_same_output_and_gradient(neck):
    def once():
        module, inputs = build(neck, 3), maps(3)
        outputs = module(inputs)
        sum(y.square().sum() for y in outputs.values()).backward()
        return [*outputs.values(), *(p.grad for p in module.parameters()), *(x.grad for x in inputs.values())]

    assert all(torch.equal(a, b) for a, b in zip(once(), once(), strict=True))


@every
def test_channels_last_gives_the_same(neck):
    inputs, module = maps(3), build(neck, 3).eval()
    last = {name: x.to(memory_format=torch.channels_last) for name, x in inputs.items()}
    expected = module(inputs)
    outputs = module.to(memory_format=torch.channels_last)(last)
    for name, y in expected.items():
        torch.testing.assert_close(outputs[name], y, rtol=1e-4, atol=1e-5)


@every
def test_half_precision_learns_the_same(neck):
    """The gradient under autocast points where that of float32 does, at sizes at which processors have kernels of their
    own for channels-last maps."""

    def gradients(enabled):
        module = build(neck, 3, 16, 16).to(memory_format=torch.channels_last)
        inputs = {
            name: x.detach().contiguous(memory_format=torch.channels_last)
            for name, x in maps(3, (48, 64), channels=16).items()
        }
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            outputs = module(OrderedDict(inputs))
        generator = torch.Generator().manual_seed(1)
        sum((y.float() * torch.randn(y.shape, generator=generator)).sum() for y in outputs.values()).backward()
        return {name: p.grad.flatten() for name, p in module.named_parameters()}

    wide, narrow = gradients(False), gradients(True)
    largest = max(g.norm() for g in wide.values())
    for name, g in wide.items():
        assert narrow[name].isfinite().all(), name
        if g.norm() > 0.01 * largest:  # a bias before a norm has no gradient but rounding
            assert torch.cosine_similarity(g, narrow[name], 0) > 0.9, name


@every
def test_exports(neck):
    inputs = OrderedDict((name, x.detach()) for name, x in maps(3).items())
    model = build(neck, 3).eval()
    exported = torch.export.export(model, (inputs,)).module()
    for name, y in model(inputs).items():
        torch.testing.assert_close(exported(inputs)[name], y)


@every
def test_is_one_graph_to_the_compiler(neck):
    inputs = OrderedDict((name, x.detach()) for name, x in maps(2, (9, 6)).items())
    model = build(neck, 2).eval()
    compiled = torch.compile(model, backend="eager", fullgraph=True)(inputs)
    for name, y in model(inputs).items():
        torch.testing.assert_close(compiled[name], y)
