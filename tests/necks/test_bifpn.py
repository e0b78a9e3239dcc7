"""BiFPN against one cell written out, node by node."""

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from detbalance.necks import FPN, BiFPN


def test_one_cell_written_out():
    torch.manual_seed(0)
    neck = BiFPN([2, 3, 4, 5], 6, repeats=1).double().eval()
    sizes = ((12, 16), (6, 8), (3, 4), (2, 2))
    inputs = {str(i): torch.randn(2, 2 + i, *size, dtype=torch.float64) for i, size in enumerate(sizes)}
    cell = neck.cells[0]
    for parameter in cell.parameters():
        torch.nn.init.normal_(parameter)
    for node in (*cell.descend, *cell.ascend):
        torch.nn.init.uniform_(node.weight, 0.2, 1)
    cell.ascend[2].weight.data[0] = -0.5  # counts as 0

    def merge(node, *maps):
        w = node.weight.clamp(min=0)
        mean = sum(a * m for a, m in zip(w, maps)) / (w.sum() + 1e-4)
        _, depthwise, pointwise, norm = node.convolution
        x = F.conv2d(mean * torch.sigmoid(mean), depthwise.weight, padding=1, groups=6)
        x = torch.einsum("oi,nihw->nohw", pointwise.weight[:, :, 0, 0], x)
        scale = norm.weight / torch.sqrt(norm.running_var + 1e-3)
        return (x - norm.running_mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]

    def up(x, like):
        rows, columns = (torch.arange(n) * m // n for n, m in zip(like.shape[2:], x.shape[2:]))
        return x[:, :, rows][:, :, :, columns]

    def down(x, like):
        return F.adaptive_max_pool2d(x, like.shape[2:])

    p = [block(x) for block, x in zip(neck.inner_blocks, inputs.values())]
    t2 = merge(cell.descend[1], p[2], up(p[3], p[2]))
    t1 = merge(cell.descend[0], p[1], up(t2, p[1]))
    o0 = merge(cell.ascend[0], p[0], up(t1, p[0]))
    o1 = merge(cell.ascend[1], p[1], t1, down(o0, p[1]))
    o2 = merge(cell.ascend[2], p[2], t2, down(o1, p[2]))
    o3 = merge(cell.ascend[3], p[3], down(o2, p[3]))
    for mine, expected in zip(neck(inputs).values(), (o0, o1, o2, o3)):
        torch.testing.assert_close(mine, expected)


def test_extra_levels_take_part_in_the_paths():
    neck = BiFPN([4, 4], 4, extra_blocks=LastLevelP6P7(4, 4)).eval()
    inputs = {"0": torch.randn(1, 4, 16, 16, requires_grad=True), "1": torch.randn(1, 4, 8, 8)}
    assert len(neck.cells[0].ascend) == 4
    assert neck(inputs)["p7"].sum().backward() is None
    assert inputs["0"].grad.abs().sum() > 0


def test_pretrained_laterals_load():
    neck, plain = (cls([4, 4], 4) for cls in (BiFPN, FPN))
    result = neck.load_state_dict(plain.state_dict(), strict=False)
    assert all(key.startswith("cells.") for key in result.missing_keys)


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="repeats"):
        BiFPN([4], 4, repeats=0)
