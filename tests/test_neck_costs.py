"""Costs of necks: against products counted by hand, for every neck, and in the listing."""

from io import StringIO

import pytest
import torch
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode

from detbalance import listing, necks
from detbalance.neck_costs import neck_cost
from detbalance.necks import FPN, DynamicHead, PANet

SMALL = {"in_channels": (4, 8), "out_channels": 4, "image_size": (40, 24), "strides": (8, 16)}


def test_fpn_by_hand():
    cost = neck_cost(FPN, **SMALL)
    fine, coarse = 5 * 3, 3 * 2
    assert cost.parameters == (4 + 8) * 4 + 2 * 9 * 16 + 4 * 4
    assert cost.flops == 2 * (fine * 4 * 4 + coarse * 8 * 4 + (fine + coarse) * 9 * 16)


def test_as_counted_on_real_maps():
    with FlopCounterMode(display=False) as counter:
        PANet([4, 8], 4)({"0": torch.zeros(1, 4, 5, 3), "1": torch.zeros(1, 8, 3, 2)})
    assert neck_cost(PANet, **SMALL).flops == counter.get_total_flops()


def test_deformable_convolutions_count():
    two, one = (neck_cost(lambda c, o, n=n: DynamicHead(c, o, blocks=n), **SMALL) for n in (2, 1))
    fine, coarse = 5 * 3, 3 * 2
    deformable = 2 * 9 * 16 * 2 * (fine + coarse)  # each level itself and its one neighbour
    offsets = 2 * 9 * 4 * 27 * (fine + coarse)
    scale = 4 * 2 * 4
    task = 2 * 2 * (4 * 1 + 1 * 16)
    assert two.flops - one.flops == deformable + offsets + scale + task


@pytest.mark.parametrize("name", necks.__all__)
def test_every_neck(name):
    cost = neck_cost(getattr(necks, name), **SMALL)
    module = getattr(necks, name)([4, 8], 4)
    assert cost.parameters == sum(p.numel() for p in module.parameters())
    assert cost.flops > 0


def test_strides_and_channels_go_together():
    with pytest.raises(ValueError, match="as many strides as channels, 3"):
        neck_cost(FPN, strides=(8,))


def test_listed():
    console = Console(width=10_000, record=True, file=StringIO())
    console.print(listing.details("STDN"))
    console.print(listing.tree())
    shown = console.export_text()
    assert "cost: 1.2 M parameters, 1.41 GFLOPs, 0.45 and 0.17 times FPN's, on 512 x 512 pixels" in shown
    assert "STDN (1.2 M, 1.41 G)" in shown
