"""PANet against its two paths written out, and against the plain pyramid that it holds."""

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from detbalance.necks import FPN, PANet


def maps(sizes=((11, 9), (6, 5), (3, 2))):
    torch.manual_seed(0)
    return {str(i): torch.randn(2, 2 + i, *size, dtype=torch.float64) for i, size in enumerate(sizes)}


def pair(extra=None):
    torch.manual_seed(1)
    neck = PANet([2, 3, 4], 5, extra_blocks=extra).double()
    plain = FPN([2, 3, 4], 5).double()
    plain.load_state_dict(neck.state_dict(), strict=False)
    return neck, plain


def test_equals_the_two_paths_written_out():
    neck, plain = pair()
    inputs = maps()
    p0, p1, p2 = plain(inputs).values()
    n1 = F.relu(neck.merge[0](p1 + F.relu(neck.down[0](p0))))
    step = F.relu(neck.down[1](n1))
    rows, columns = torch.tensor([0, 1, 2]), torch.tensor([0, 1])  # (3, 3) to (3, 2): the backbone rounded down
    n2 = F.relu(neck.merge[1](p2 + step[:, :, rows][:, :, :, columns]))
    for mine, expected in zip(neck(inputs).values(), (p0, n1, n2)):
        torch.testing.assert_close(mine, expected)


def test_fine_maps_reach_coarse_levels():
    neck, plain = pair()
    inputs = {name: x.requires_grad_() for name, x in maps().items()}
    (through,) = torch.autograd.grad(neck(inputs)["2"].sum(), inputs["0"])
    assert through.abs().sum() > 0
    (none,) = torch.autograd.grad(plain(inputs)["2"].sum(), inputs["0"], allow_unused=True)
    assert none is None


@pytest.mark.parametrize("extra", [LastLevelMaxPool(), LastLevelP6P7(5, 5)], ids=["pool", "p6p7"])
def test_extra_levels_are_made_from_the_result(extra):
    neck, _ = pair(extra.double())
    inputs = maps()
    out = neck(inputs)
    results, names = extra([out[name] for name in inputs], list(inputs.values()), list(inputs))
    assert list(out) == names
    for mine, expected in zip(out.values(), results):
        torch.testing.assert_close(mine, expected)


def test_pretrained_pyramid_loads():
    neck, plain = (cls([2, 3], 5, extra_blocks=LastLevelP6P7(5, 5)) for cls in (PANet, FPN))
    result = neck.load_state_dict(plain.state_dict(), strict=False)
    assert not result.unexpected_keys
    assert all(key.startswith(("down.", "merge.")) for key in result.missing_keys)
