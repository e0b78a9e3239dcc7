"""NAS-FPN against the published merges, one by one."""

import pytest
import torch
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from detbalance.necks import NASFPN

SIZES = ((20, 17), (10, 9), (5, 5), (3, 3), (2, 1), (1, 1))


def cell(naive, layers, p3, p4, p5, p6, p7):
    """GP(6,4), SUM(4,4), SUM(4,3), SUM(3,4), P5 + GP(4,3), P7 + GP(5,4), GP(7,5)."""

    def merge(name, total):
        _, convolution, norm = layers[name]
        return norm(convolution(total.clamp(min=0)))

    def gp(level, coarse, fine):
        coarse, fine = naive.resize(coarse, SIZES[level]), naive.resize(fine, SIZES[level])
        weight = 1 / (1 + torch.exp(-coarse.flatten(2).max(2).values))
        return coarse + weight[:, :, None, None] * fine

    a = merge("a", gp(1, p6, p4))
    b = merge("b", a + p4)
    n3 = merge("out0", naive.resize(b, SIZES[0]) + p3)
    n4 = merge("out1", naive.resize(n3, SIZES[1]) + b)
    n5 = merge("out2", gp(2, n4, n3) + p5)
    n7 = merge("out4", gp(4, n5, b) + p7)
    return n3, n4, n5, merge("out3", gp(3, n7, n5)), n7


def laterals(neck, inputs):
    return [block(x) for block, x in zip(neck.inner_blocks, inputs.values())]


def test_two_cells_written_out(naive):
    neck = naive.randomise(NASFPN([2, 3, 4, 5, 6], 4, repeats=2))
    inputs = naive.maps([2, 3, 4, 5, 6], SIZES)
    expected = laterals(neck, inputs)
    for c in neck.cells:
        expected = cell(naive, c.layers, *expected)
    for mine, other in zip(neck(inputs).values(), expected, strict=True):
        torch.testing.assert_close(mine, other)


def test_fewer_levels_are_filled_up_and_dropped(naive):
    neck = naive.randomise(NASFPN([2, 3, 4], 4, repeats=2))
    assert set(neck.cells[0].layers) == {"a", "b", "out0", "out1", "out2", "out3"} | {"out4"}
    assert set(neck.cells[1].layers) == {"a", "b", "out0", "out1", "out2"}  # P6 and P7 are nobody's at the end
    inputs = naive.maps([2, 3, 4], SIZES)
    five = laterals(neck, inputs)
    for height, width in ((3, 3), (2, 2)):
        x, halved = five[-1], five[-1].new_empty(2, 4, height, width)
        for i in range(height):
            for j in range(width):
                halved[:, :, i, j] = x[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].amax((2, 3))
        five.append(halved)
    values = {f"in{i}": m for i, m in enumerate(five)}
    for c in neck.cells:
        values = c(values, [m.shape[-2:] for m in five])
    for i, mine in enumerate(neck(inputs).values()):
        torch.testing.assert_close(mine, values[f"in{i}"])


def test_a_sixth_level_is_merged_with_the_fifth(naive):
    neck = naive.randomise(NASFPN([2] * 6, 4, repeats=1))
    inputs = naive.maps([2] * 6, SIZES)
    *five, last = laterals(neck, inputs)
    layers = neck.cells[0].layers
    expected = cell(naive, layers, *five)
    _, convolution, norm = layers["out5"]
    sixth = norm(convolution((naive.resize(expected[4], SIZES[5]) + last).clamp(min=0)))
    for mine, other in zip(neck(inputs).values(), (*expected, sixth), strict=True):
        torch.testing.assert_close(mine, other)


def test_extra_levels_take_part():
    neck = NASFPN([4, 4, 4], 4, extra_blocks=LastLevelP6P7(4, 4), repeats=1)
    inputs = {str(i): torch.randn(2, 4, 16 >> i, 16 >> i, requires_grad=True) for i in range(3)}
    out = neck(inputs)
    assert list(out) == ["0", "1", "2", "p6", "p7"]
    out["0"].sum().backward()
    assert neck.extra_blocks.p6.weight.grad.abs().sum() > 0


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="repeats"):
        NASFPN([4], 4, repeats=0)
