"""Where objects lie, how they lie, and what they cover."""

from dataclasses import replace

import numpy as np
import pytest

from detbalance.data.annotations import Annotations
from detbalance.diagnosis import indices
from detbalance.diagnosis.overlaps import coverage, overlaps
from detbalance.diagnosis.spatial import aspect, centres, chance_distance


def at(points, images=1, side=2.0, size=(1000, 1000)):
    points = np.asarray(points, float).reshape(-1, 2) * size
    half = np.array([side, side]) / 2
    return Annotations.from_arrays(
        classes=["a"],
        sizes=[size] * images,
        image=np.arange(len(points)) % images,
        label=np.ones(len(points), int),
        boxes=np.concatenate((points - half, points + half), 1),
    )


@pytest.mark.parametrize(("boxes", "cells"), [(1, 4), (7, 4), (100, 64), (1000, 64)])
def test_distance_by_chance_is_the_mean_over_throws(boxes, cells):
    rng = np.random.default_rng(0)
    thrown = rng.multinomial(boxes, np.full(cells, 1 / cells), 20_000) / boxes
    mean = indices.total_variation(thrown, np.full(cells, 1 / cells)).mean()
    assert chance_distance(boxes, cells) == pytest.approx(mean, abs=0.005)


def test_even_places_are_balanced_however_few(measured):
    rng = np.random.default_rng(0)
    for boxes in (30, 300, 3000):
        values = [centres(*measured(at(rng.random((boxes, 2)), 10))).value for _ in range(10)]
        assert np.mean(values) < 0.03
    line = (np.arange(64) + 0.5) / 64
    assert centres(*measured(at(np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)))).value == 0


def test_all_in_one_place_is_the_worst(measured):
    assert centres(*measured(at(np.full((5000, 2), 0.01), 50))).value == pytest.approx(1, abs=1e-9)
    assert centres(*measured(at([[0.5, 0.5]]))).value == 0  # one object tells nothing


def test_closer_to_the_middle_is_worse(measured):
    rng = np.random.default_rng(0)
    points = rng.random((4000, 2)) - 0.5
    values = [centres(*measured(at(0.5 + points * spread, 40))).value for spread in (1, 0.8, 0.5, 0.2)]
    assert values == sorted(values)


def test_a_mirrored_dataset_is_as_unbalanced(measured, make):
    data = make(boxes=400)
    width = data.sizes[data.image, 0]
    boxes = data.boxes.copy()
    boxes[:, 0], boxes[:, 2] = width - data.boxes[:, 2], width - data.boxes[:, 0]
    mirrored = replace(data, boxes=boxes)
    assert centres(*measured(mirrored)).value == pytest.approx(centres(*measured(data)).value, abs=1e-3)
    assert overlaps(*measured(mirrored)).value == pytest.approx(overlaps(*measured(data)).value, abs=1e-3)


def test_desired_places_are_balanced(measured, make):
    data = make(boxes=2000)
    columns, _ = measured(data)
    cell = (columns.centre * 8).astype(int)
    wanted = np.bincount(cell[:, 1] * 8 + cell[:, 0], minlength=64).reshape(8, 8) + 1e-9
    assert centres(*measured(data), target=wanted).value == 0
    assert centres(*measured(data), target=wanted[::-1] ** 3 + 1).value > 0.1


def test_the_map_is_a_density(measured, make):
    rows = centres(*measured(make())).tables[0].rows
    assert np.mean([value for _, _, value in rows]) == pytest.approx(1)


@pytest.mark.parametrize(("width", "height", "value"), [(100, 100, 0.5), (900, 1, 1), (1, 900, 1)])
def test_one_shape_alone(measured, width, height, value):
    data = Annotations.from_arrays(
        classes=["a"], sizes=[(1000, 1000)], image=[0], label=[1], boxes=[[0, 0, width, height]]
    )
    assert aspect(*measured(data)).value == pytest.approx(value, abs=0.002)


def test_angles_spread_evenly_are_balanced(measured):
    angle = (np.arange(300) + 0.5) / 300 * np.pi / 2
    far = 400 * np.stack((np.cos(angle), np.sin(angle)), 1)
    data = Annotations.from_arrays(
        classes=["a"],
        sizes=[(1000, 1000)],
        image=np.zeros(300),
        label=np.ones(300),
        boxes=np.concatenate((0 * far, far), 1),
    )
    finding = aspect(*measured(data))
    assert finding.value < 0.005
    assert sum(row[1] for row in finding.tables[0].rows) == 300


def naive_coverage(corners, image, images, side):
    table = np.zeros((images, side, side), int)
    for i, (x1, y1, x2, y2) in zip(image, corners):
        for row in range(side):
            for column in range(side):
                x, y = (column + 0.5) / side, (row + 0.5) / side
                table[i, row, column] += x1 <= x < x2 and y1 <= y < y2
    return table


@pytest.mark.parametrize("seed", range(4))
def test_coverage_is_a_loop_over_places(seed):
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.uniform(-0.2, 1.2, (2, 15, 2)), 0).transpose(1, 0, 2).reshape(15, 4)
    corners[0] = [0, 0, 1, 1]
    corners[1] = [0.25, 0.25, 0.75, 0.75]
    image = np.sort(rng.integers(0, 3, 15))
    assert np.array_equal(coverage(corners, image, 3, 10), naive_coverage(corners, image, 3, 10))


def test_overlaps_count_all_pixels(measured, make):
    data = make(boxes=60)
    columns, sampler = measured(data)
    corners = columns.boxes / np.tile(columns.image_size, 2)
    depth = naive_coverage(corners, columns.image, len(data), 32).ravel()
    finding = overlaps(columns, sampler)
    assert finding.value == pytest.approx(indices.gini_index(depth))
    assert dict(finding.tables[0].rows) == pytest.approx(
        {n: part / depth.size for n, part in enumerate(np.bincount(depth)) if part}
    )


def test_overlaps_at_their_ends(measured):
    whole = at([[0.5, 0.5]] * 3, images=3, side=1000)
    assert overlaps(*measured(whole)).value == 0
    tiny = at([[0.515625, 0.515625]], side=20)
    assert overlaps(*measured(tiny)).value == pytest.approx(1)
    assert overlaps(*measured(at([]))).value == 0
