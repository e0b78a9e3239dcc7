"""AutoFPN edge by edge, and the search: it holds every cell, learns, and reads out what it prefers."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from detbalance.data.synthetic import make_dataset
from detbalance.necks import AutoFPN, FeatureHierarchy
from detbalance.necks._search import SearchFPN
from detbalance.necks.auto_fpn import OPERATIONS, default_cells

CHANNELS, SIZES = (2, 3, 4), ((9, 7), (5, 4), (3, 2))
BENCH = Path(__file__).parents[2] / "bench"


def test_edge_by_edge(naive):
    cells = [[(0, 0, "skip"), (0, 2, "dilated5"), (1, 0, "separable5"), (2, 1, "dilated3"), (2, 2, "separable3")]]
    neck = naive.randomise(AutoFPN(CHANNELS, 4, cells=cells))
    inputs = naive.maps(CHANNELS, SIZES)
    maps = [block(x) for block, x in zip(neck.inner_blocks, inputs.values())]
    expected = [torch.zeros_like(x) for x in maps]
    for (target, source, name), module in zip(sorted(cells[0]), neck.cells[0]):
        x = maps[source]
        if name != "skip":
            _, depthwise, pointwise, norm = module
            kernel, dilation = {"s3": (3, 1), "s5": (5, 1), "d3": (3, 2), "d5": (5, 2)}[name[0] + name[-1]]
            assert depthwise.weight.shape == (4, 1, kernel, kernel)
            x = F.conv2d(x.clamp(min=0), depthwise.weight, padding=kernel // 2 * dilation, dilation=dilation, groups=4)
            x = norm(torch.einsum("oi,bihw->bohw", pointwise.weight[:, :, 0, 0], x))
        expected[target] = expected[target] + naive.resize(x, SIZES[target])
    for mine, other in zip(neck(inputs).values(), expected, strict=True):
        torch.testing.assert_close(mine, other)


def test_skips_alone_are_the_hierarchy(naive):
    neck = naive.randomise(AutoFPN(CHANNELS, 4, cells=[[(i, i, "skip") for i in range(3)]]))
    plain = FeatureHierarchy(CHANNELS, 4).double()
    plain.load_state_dict(neck.state_dict())
    inputs = naive.maps(CHANNELS, SIZES)
    for mine, other in zip(neck(inputs).values(), plain(inputs).values(), strict=True):
        torch.testing.assert_close(mine, other)


def test_default_goes_down_and_up():
    first, second = default_cells(3)
    assert {(t, s) for t, s, _ in first} == {(0, 0), (1, 1), (2, 2), (0, 1), (1, 2)}
    assert {(t, s) for t, s, _ in second} == {(0, 0), (1, 1), (2, 2), (1, 0), (2, 1)}


@pytest.mark.parametrize(
    "cells", [[[(0, 0, "skip")]], [[(0, 0, "skip"), (1, 2, "skip")]], [[(0, 0, "skip"), (1, 1, "pool")]], [[]]]
)
def test_cells_out_of_range_are_refused(cells):
    with pytest.raises(ValueError, match="cells must be"):
        AutoFPN([4, 4], 4, cells=cells)


def test_search_is_the_weighted_sum_of_all(naive):
    neck = naive.randomise(SearchFPN(CHANNELS, 4, cells=1))
    inputs = naive.maps(CHANNELS, SIZES)
    maps = [block(x) for block, x in zip(neck.inner_blocks, inputs.values())]
    outputs = list(neck(inputs).values())
    for target in range(3):
        expected = 0
        for source in range(3):
            weights = torch.exp(neck.preferences[0, target, source])
            weights = weights / weights.sum()  # the last is "none"
            operations = neck.cells[0][3 * target + source]
            mixed = sum(weight * apply(maps[source]) for weight, apply in zip(weights, operations))
            expected = expected + naive.resize(mixed, SIZES[target])
        torch.testing.assert_close(outputs[target], expected)


def test_search_reads_out_what_it_prefers():
    neck = SearchFPN([4, 4], 4, cells=1)
    names = [*OPERATIONS, "none"]
    with torch.no_grad():
        neck.preferences[0, 0, 1, names.index("dilated3")] = 3
        neck.preferences[0, 0, 0, names.index("none")] = 9
        neck.preferences[0, 1, 0, names.index("skip")] = 2
        neck.preferences[0, 1, 1, names.index("separable5")] = 1
    assert neck.found(keep=1) == [[(0, 1, "dilated3"), (1, 0, "skip")]]
    assert neck.found() == [[(0, 0, "skip"), (0, 1, "dilated3"), (1, 0, "skip"), (1, 1, "separable5")]]
    assert AutoFPN([4, 4], 4, cells=neck.found()).edges[0][1] == (0, 1, "dilated3")


def test_search_pays_for_parameters():
    neck = SearchFPN([4, 4], 4)
    neck.price().backward()
    by_name = dict(zip([*OPERATIONS, "none"], neck.preferences.grad[0, 0, 0].tolist()))
    assert by_name["separable5"] > by_name["separable3"] > by_name["skip"]
    assert by_name["separable5"] > 0 > by_name["skip"]
    assert by_name["skip"] == pytest.approx(by_name["none"])


def test_interrupted_search_finds_the_same(tmp_path):
    make_dataset(tmp_path / "data", images=8)
    spec = importlib.util.spec_from_file_location("search_neck", BENCH / "search_neck.py")
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)

    def search(out, steps):
        options = {"steps": steps, "image-size": "48x64", "batch": 2, "cells": 1, "out": tmp_path / out}
        bench.main([str(tmp_path / "data"), *(f"--{name}={value}" for name, value in options.items())])
        state = torch.load((tmp_path / out).with_suffix(".search.pt"), weights_only=True)
        return json.loads((tmp_path / out).read_text())["cells"], state["model"]["backbone.fpn.preferences"]

    cells, whole = search("whole.json", 2)
    search("parts.json", 1)
    again, parts = search("parts.json", 2)
    assert cells == again
    assert whole.abs().sum() > 0
    assert whole.equal(parts)
    assert AutoFPN([4, 4, 4], 4, cells=cells)
