"""BalancedFPN against a reading of the paper pixel by pixel, in float64."""

import math

import pytest
import torch
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from detbalance.necks import FPN, BalancedFPN
from detbalance.necks.nonlocal_block import NonLocal


def naive_resize(x, size):
    """Adaptive max-pooling down, nearest neighbour up; one output pixel at a time."""
    batch, channels, height, width = x.shape
    new = x.new_empty(batch, channels, *size)
    for i in range(size[0]):
        for j in range(size[1]):
            if height >= size[0] and width >= size[1]:
                rows = slice(i * height // size[0], math.ceil((i + 1) * height / size[0]))
                columns = slice(j * width // size[1], math.ceil((j + 1) * width / size[1]))
                new[:, :, i, j] = x[:, :, rows, columns].amax((2, 3))
            else:
                new[:, :, i, j] = x[:, :, i * height // size[0], j * width // size[1]]
    return new


def naive_convolution(x, layer):
    height, width = x.shape[-2:]
    new = torch.zeros_like(x) + layer.bias[:, None, None]
    for i in range(height):
        for j in range(width):
            for di in (-1, 0, 1):
                for dj in (-1, 0, 1):
                    if 0 <= i + di < height and 0 <= j + dj < width:
                        new[:, :, i, j] += x[:, :, i + di, j + dj] @ layer.weight[:, :, di + 1, dj + 1].T
    return new


def naive_nonlocal(x, block):
    def point(layer, v):
        return layer.weight[:, :, 0, 0] @ v + layer.bias

    new = torch.empty_like(x)
    places = [(i, j) for i in range(x.shape[2]) for j in range(x.shape[3])]
    for b, image in enumerate(x):
        for i, j in places:
            here = point(block.query, image[:, i, j])
            weights = torch.stack([torch.exp(here @ point(block.key, image[:, k, l])) for k, l in places])
            seen = sum(w * point(block.value, image[:, k, l]) for w, (k, l) in zip(weights / weights.sum(), places))
            new[b, :, i, j] = image[:, i, j] + point(block.out, seen)
    return new


@pytest.mark.parametrize("refine", ["conv", "nonlocal"])
@pytest.mark.parametrize("levels", [3, 4, 6])
@pytest.mark.parametrize("refine_level", [None, 0, 2])
@pytest.mark.parametrize("extra", [None, "pool"])
def test_equals_the_naive_reading(refine, levels, refine_level, extra):
    torch.manual_seed(0)
    size, inputs = (7, 5), {}
    for i in range(levels):
        inputs[str(i)] = torch.randn(1, 2, *size, dtype=torch.float64)
        size = tuple((s + 1) // 2 for s in size)
    block = LastLevelMaxPool() if extra else None
    neck = BalancedFPN([2] * levels, 3, extra_blocks=block, refine_level=refine_level, refine=refine).double()
    if refine == "nonlocal":  # away from its identity start
        for p in neck.refine.parameters():
            torch.nn.init.normal_(p)
    plain = FPN([2] * levels, 3, extra_blocks=block).double()
    plain.load_state_dict(neck.state_dict(), strict=False)

    with torch.no_grad():
        pyramid = plain(inputs)
        maps = list(pyramid.values())
        at = maps[len(maps) // 2 if refine_level is None else refine_level]
        mean = sum(naive_resize(m, at.shape[-2:]) for m in maps) / len(maps)
        shared = naive_convolution(mean, neck.refine) if refine == "conv" else naive_nonlocal(mean, neck.refine)
        output = neck(inputs)
    assert list(output) == list(pyramid)
    for name, m in pyramid.items():
        torch.testing.assert_close(output[name], m + naive_resize(shared, m.shape[-2:]))


def test_gradient():
    neck = BalancedFPN([2, 2, 2], 2).double()
    for p in neck.parameters():
        torch.nn.init.normal_(p)
    sizes = ((5, 7), (3, 4), (2, 2))
    inputs = [torch.randn(1, 2, *s, dtype=torch.float64, requires_grad=True) for s in sizes]
    assert torch.autograd.gradcheck(lambda *x: tuple(neck(dict(zip("abc", x))).values()), inputs)


def test_pretrained_pyramid_loads():
    plain, neck = (cls([4, 8], 4, extra_blocks=LastLevelP6P7(4, 4)) for cls in (FPN, BalancedFPN))
    result = neck.load_state_dict(plain.state_dict(), strict=False)
    assert not result.unexpected_keys
    assert all(key.startswith("refine.") for key in result.missing_keys)


def test_without_refinement_it_is_the_plain_pyramid():
    neck = BalancedFPN([4, 4], 4, refine="conv")
    torch.nn.init.zeros_(neck.refine.weight)
    maps = {"0": torch.randn(1, 4, 8, 8), "1": torch.randn(1, 4, 4, 4)}
    plain = FPN([4, 4], 4)
    plain.load_state_dict(neck.state_dict(), strict=False)
    for name, m in plain(maps).items():
        torch.testing.assert_close(neck(maps)[name], m)


def test_the_nonlocal_block_computes_in_float32():
    """Products in the thousands, as in training: in bfloat16 they would be off by several."""
    torch.manual_seed(0)
    block, x = NonLocal(16), 20 * torch.randn(1, 16, 6, 7)
    for layer in (block.query, block.key, block.value, block.out):
        torch.nn.init.normal_(layer.weight, std=0.3)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = block(x)
    assert (block.query(x).flatten(2)[0].T @ block.key(x).flatten(2)[0]).abs().max() > 1000
    torch.testing.assert_close(mixed, block(x), rtol=0, atol=0)
    half = NonLocal(16).to(torch.bfloat16)
    assert half(x.to(torch.bfloat16)).dtype == torch.bfloat16


def test_the_nonlocal_block_starts_as_the_identity():
    x = torch.randn(2, 4, 5, 3)
    assert torch.equal(NonLocal(4)(x), x)


@pytest.mark.parametrize("setting", [{"refine": "attention"}, {"refine_level": -1}])
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        BalancedFPN([4, 4], 4, **setting)


def test_refine_level_beyond_the_levels_is_refused():
    with pytest.raises(ValueError, match="refine_level must be below the number of levels, 1"):
        BalancedFPN([4], 4, refine_level=3)({"0": torch.zeros(1, 4, 8, 8)})
