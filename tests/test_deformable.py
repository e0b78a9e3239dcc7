"""What deformable convolution reads, against torchvision's."""

import pytest
import torch
from torchvision.ops import deform_conv2d

from detbalance.deformable import read_moved


@pytest.mark.parametrize(("groups", "stride"), [(1, 1), (2, 1), (4, 1), (2, 2)])
def test_it_is_torchvisions(groups, stride):
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()

    x, weight = random(2, 8, 7, 10), random(5, 8, 3, 3)
    size = [(n - 1) // stride + 1 for n in x.shape[-2:]]
    offset = random(2, 18 * groups, *size)
    moved = (3 * offset).detach().requires_grad_()  # far beyond the borders, too
    mine = torch.einsum("bckhw,ock->bohw", read_moved(x, moved, stride=stride), weight.flatten(2))
    theirs = deform_conv2d(x, moved, weight, stride=stride, padding=1)
    torch.testing.assert_close(mine, theirs)
    share = torch.randn(mine.shape, generator=generator, dtype=torch.float64)
    mine, theirs = (torch.autograd.grad((y * share).sum(), (x, moved, weight)) for y in (mine, theirs))
    for one, other in zip(mine, theirs):
        torch.testing.assert_close(one, other)
