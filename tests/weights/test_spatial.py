"""Weights that even out where positives lie about their objects, and how often the pixels are covered."""

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch

from detbalance import attach, recipes
from detbalance.detectors import build
from detbalance.weights import CoverageBalancedWeights, PositionBalancedWeights


def cell_of(box, truth, bins):
    places = []
    for axis in (0, 1):
        shift = (box[axis] - truth[axis]) / (truth[axis + 2] - truth[axis])
        places.append(min(int((min(max(shift, -1), 1) + 1) * bins / 2), bins - 1))
    return tuple(places)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("bins", "power"), [(16, 1.0), (3, 0.5), (8, 2.0), (1, 1.0)])
def test_position_row_by_row(samples, bins, power, ties):
    s = samples(seed=bins, positives=50, ties=ties)
    s.truth[3] += 500  # far beyond the cells
    rows = s.positive.nonzero().squeeze(1).tolist()
    cells = {row: cell_of(s.boxes[row].tolist(), s.truth[row].tolist(), bins) for row in rows}
    number = Counter(cells.values())
    raw = {row: (len(rows) / number[cells[row]]) ** power for row in rows}
    mean = sum(raw.values()) / len(rows)
    expected = [raw[row] / mean if row in raw else 1.0 for row in range(len(s.labels))]
    torch.testing.assert_close(PositionBalancedWeights(bins=bins, power=power)(s).tolist(), expected)


def test_each_position_has_the_same_total(samples):
    s = samples(positives=60)
    weight = PositionBalancedWeights(bins=6)(s)
    totals = Counter()
    for row in s.positive.nonzero().squeeze(1).tolist():
        totals[cell_of(s.boxes[row].tolist(), s.truth[row].tolist(), 6)] += weight[row].item()
    assert len(totals) > 3
    assert max(totals.values()) == pytest.approx(min(totals.values()))


def naive_coverage(s, rows, cells, power):
    """Cell by cell, box by box."""
    touched = {}
    for image in set(s.image[rows].tolist()):
        mine = [row for row in rows if s.image[row] == image]
        width, height = (max(max(s.boxes[row, axis].item() for row in mine), 1e-6) / cells for axis in (2, 3))
        for row in mine:
            x1, y1, x2, y2 = s.boxes[row].tolist()
            first = (min(max(math.floor(x1 / width), 0), cells - 1), min(max(math.floor(y1 / height), 0), cells - 1))
            last = (min(math.ceil(x2 / width - 1e-4), cells), min(math.ceil(y2 / height - 1e-4), cells))
            last = [max(b, a + 1) for a, b in zip(first, last)]
            touched[row] = {(image, x, y) for x in range(first[0], last[0]) for y in range(first[1], last[1])}
    number = Counter(cell for some in touched.values() for cell in some)
    raw = {row: sum(number[c] ** -power for c in some) / len(some) for row, some in touched.items()}
    mean = sum(raw.values()) / max(len(raw), 1)
    return [raw[row] / mean if row in raw else 1.0 for row in range(len(s.labels))]


@pytest.mark.parametrize("positives_alone", [False, True])
@pytest.mark.parametrize(("cells", "power"), [(16, 1.0), (7, 0.5), (1, 1.0), (40, 2.0)])
def test_coverage_cell_by_cell(samples, cells, power, positives_alone):
    s = samples(seed=cells)
    s.boxes[0] = torch.tensor([-50.0, -50, -20, -20])  # outside
    s.boxes[1, 2:] = s.boxes[1, :2]  # without area
    s.boxes[2] = torch.tensor([0.0, 0, 200, 300])
    rows = (s.positive if positives_alone else torch.ones_like(s.positive)).nonzero().squeeze(1).tolist()
    weight = CoverageBalancedWeights(cells=cells, power=power, positives_alone=positives_alone)(s)
    torch.testing.assert_close(weight.tolist(), naive_coverage(s, rows, cells, power), rtol=1e-9, atol=1e-9)


def test_coverage_gets_more_even(samples):
    """The crowd in the corner of figure 15: the spread of what lands on each covered cell shrinks."""
    s = samples(positives=30, negatives=0, images=1)
    corner = torch.rand(30, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 10
    corner[-6:] += torch.tensor([60.0, 60])
    s.boxes[:] = torch.cat((corner, corner + 30), 1)

    def spread(weight):
        landed = torch.zeros(100, 100, dtype=torch.float64)
        for (x1, y1, x2, y2), w in zip(s.boxes.round().int().tolist(), weight):
            landed[y1:y2, x1:x2] += w
        covered = landed[landed > 0]
        return covered.std() / covered.mean()

    even = CoverageBalancedWeights()(s)
    assert spread(even) < 0.7 * spread(torch.ones(30))
    assert (even[-6:].min() > even[:-6].max()).item()


@pytest.mark.parametrize("make", [PositionBalancedWeights, CoverageBalancedWeights])
def test_power_0_weighs_all_by_1_and_the_mean_is_1(samples, make):
    s = samples()
    torch.testing.assert_close(make(power=0.0)(s), torch.ones(90, dtype=torch.float64))
    counted = s.positive if make is PositionBalancedWeights else torch.ones_like(s.positive)
    assert make()(s)[counted].mean() == pytest.approx(1)
    assert make()(samples(positives=0, negatives=4))[0] > 0
    assert make()(samples(positives=0, negatives=0)).shape == (0,)


def test_coverage_does_not_mind_moving_the_scale(samples):
    s = samples()
    twice = replace(s, boxes=2 * s.boxes)
    torch.testing.assert_close(CoverageBalancedWeights()(twice), CoverageBalancedWeights()(s))


@pytest.mark.parametrize(
    ("make", "option"),
    [
        (PositionBalancedWeights, {"bins": 0}),
        (PositionBalancedWeights, {"power": -1}),
        (CoverageBalancedWeights, {"cells": 0}),
        (CoverageBalancedWeights, {"power": float("inf")}),
    ],
)
def test_refuses(make, option):
    with pytest.raises(ValueError, match=next(iter(option))):
        make(**option)


def work(rank):
    g = torch.Generator().manual_seed(rank)
    boxes = torch.rand(20, 4, generator=g) * 20
    boxes[:, 2:] += boxes[:, :2] + 10
    truth, zero = boxes + torch.randn(20, 4, generator=g), torch.zeros(20, dtype=torch.long)
    ones = torch.ones(20)
    from detbalance.types import Samples

    s = Samples(torch.zeros(20, 2), zero + 1, truth, truth, boxes, truth, ones, zero + rank, zero, ones)
    return {name: w(s) for name, w in (("p", PositionBalancedWeights(bins=4)), ("c", CoverageBalancedWeights()))}


def test_two_processes_equal_one(two_processes):
    from detbalance.types import Samples

    both = two_processes(work)
    parts = []
    for rank in (0, 1):
        g = torch.Generator().manual_seed(rank)
        boxes = torch.rand(20, 4, generator=g) * 20
        boxes[:, 2:] += boxes[:, :2] + 10
        parts.append((boxes, boxes + torch.randn(20, 4, generator=g)))
    boxes, truth = (torch.cat(x) for x in zip(*parts))
    image, one = torch.arange(40) // 20, torch.ones(40)
    s = Samples(torch.zeros(40, 2), torch.ones(40).long(), truth, truth, boxes, truth, one, image, image, one)
    torch.testing.assert_close(torch.cat([b["p"] for b in both]), PositionBalancedWeights(bins=4)(s))
    torch.testing.assert_close(torch.cat([b["c"] for b in both]), CoverageBalancedWeights()(s))


@pytest.mark.parametrize("name", ["position_balanced", "coverage_balanced"])
@pytest.mark.parametrize(("detector", "kind"), [("retinanet", "dense"), ("faster_rcnn", "rcnn"), ("yolov2", "yolo")])
def test_recipes_train(detector, kind, name):
    torch.manual_seed(0)
    model = attach(build(detector, classes=3, image_size=(64, 96)).train(), recipes.get(name, kind))
    boxes = torch.tensor([[10.0, 10, 34, 34], [40, 20, 72, 52]])
    none = {"boxes": boxes[:0], "labels": torch.zeros(0, dtype=torch.long)}
    losses = model(list(torch.rand(2, 3, 64, 96)), [{"boxes": boxes, "labels": torch.tensor([1, 2])}, none])
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
