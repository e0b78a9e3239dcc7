"""Object sizes and pyramid levels, against loops and torchvision's own level rule."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.ops.poolers import LevelMapper

from detbalance.data.annotations import Annotations
from detbalance.diagnosis.anchors import FASTER_RCNN, RETINANET, SSD300
from detbalance.diagnosis.levels import roi_levels
from detbalance.diagnosis.resizing import resize_loss
from detbalance.diagnosis.scale import extents, relative_size, size_bins, size_of


def squares(sides, size=(1000, 1000), **rest):
    boxes = [[0, 0, side, side] for side in sides]
    return Annotations.from_arrays(
        classes=["a"], sizes=[size], image=[0] * len(boxes), label=[1] * len(boxes), boxes=boxes, **rest
    )


def scaled(data, factor):
    return replace(data, sizes=data.sizes * factor, boxes=data.boxes * factor, area=data.area * factor**2)


def test_sizes_spread_evenly_are_balanced(measured):
    data = squares(np.linspace(1, 1000, 400))
    assert relative_size(*measured(data)).value < 0.005
    assert extents(*measured(data)).value > 0.3  # the areas, squares of these, are not


@pytest.mark.parametrize(("side", "value"), [(1, 1), (500, 0.5), (1000, 1)])
def test_one_size_alone(measured, side, value):
    assert relative_size(*measured(squares([side] * 9))).value == pytest.approx(value, abs=0.002)


def test_smaller_objects_are_worse(measured):
    sides = np.linspace(1, 1000, 100)
    values = [relative_size(*measured(squares(np.maximum(sides * factor, 1)))).value for factor in (1, 0.5, 0.2, 0.05)]
    assert values == sorted(values)
    assert values[-1] > 0.9


@pytest.mark.parametrize("measure", [relative_size, extents])
def test_uniform_rescaling_changes_nothing(measured, make, measure):
    assert measure(*measured(scaled(make(), 3))).value == pytest.approx(measure(*measured(make())).value)


def test_a_desired_sample_is_balanced(measured, make):
    data = make()
    columns, _ = measured(data)
    size = np.sqrt(columns.relative.prod(1))
    assert relative_size(*measured(data), target=size).value == pytest.approx(0, abs=1e-9)
    assert relative_size(*measured(data), target=np.ones(3)).value > 0.3


def test_size_bins_are_cocos(measured):
    assert size_of(np.array([32**2, 32**2 + 1, 96**2, 96**2 + 1])).tolist() == [0, 1, 1, 2]
    data = squares([10, 20, 50, 200])
    finding = size_bins(*measured(data))
    assert finding.tables[0].rows == (("small", 2), ("medium", 1), ("large", 1))
    assert size_bins(*measured(squares([10, 50, 200]))).value == pytest.approx(0, abs=1e-12)
    assert size_bins(*measured(squares([10, 10]))).value == pytest.approx(1)
    assert size_bins(*measured(data), target=np.array([2.0, 1, 1])).value == pytest.approx(0, abs=1e-12)


def test_size_bins_use_the_area_of_the_object(measured):
    finding = size_bins(*measured(squares([100, 100], area=[10, 10_000])))
    assert finding.tables[0].rows == (("small", 1), ("medium", 0), ("large", 1))


@pytest.mark.parametrize("preset", [RETINANET, FASTER_RCNN, SSD300])
def test_resizing_by_the_detectors_own_rule(measured, make, preset):
    data = make(3)
    finding = resize_loss(*measured(data), preset)
    lost, kept = 0, 0
    for i, box, crowd in zip(data.image, data.boxes, data.crowd):
        width, height = data.sizes[i]
        if preset.fixed_size:
            new = preset.fixed_size
        else:
            scale = min(preset.min_size / min(width, height), preset.max_size / max(width, height))
            new = int(width * scale), int(height * scale)
        side = min((box[2] - box[0]) * new[0] / width, (box[3] - box[1]) * new[1] / height)
        lost, kept = lost + (not crowd and side < preset.strides[0]), kept + (not crowd)
    assert finding.value == pytest.approx(lost / kept)
    own = [row for row in finding.tables[0].rows if row[0] == (300 if preset is SSD300 else 800)]
    assert own[0][4] == finding.value
    assert sum(own[0][1:4]) == pytest.approx(1)


def test_levels_are_torchvisions(measured, make):
    data = make(1)
    finding = roi_levels(*measured(data), FASTER_RCNN)
    new = FASTER_RCNN.resized(data.sizes)[0] / data.sizes
    boxes = (data.boxes * np.tile(new[data.image], 2))[~data.crowd]
    level = LevelMapper(2, 5)([torch.tensor(boxes)]).numpy()
    assert [row[1] for row in finding.tables[0].rows] == np.bincount(level, minlength=4).tolist()


def test_levels_at_their_bounds_are_torchvisions(measured):
    sides = np.array([111.9999, 112, 112.0001, 224, 448, 55, 799])
    data = squares(sides, size=(800, 800))  # resized by one
    level = LevelMapper(2, 5)([torch.tensor(data.boxes)]).numpy()
    finding = roi_levels(*measured(data), FASTER_RCNN)
    assert [row[1] for row in finding.tables[0].rows] == np.bincount(level, minlength=4).tolist()


def test_images_of_unknown_size_are_left_out(measured, make):
    data = make()
    unknown = replace(data, sizes=np.where(np.arange(len(data))[:, None] == 3, 0, data.sizes))
    without = data.subset(np.arange(len(data)) != 3)
    for measure in (relative_size, extents):
        assert measure(*measured(unknown)).value == pytest.approx(measure(*measured(without)).value)
    for measure in (resize_loss, roi_levels):
        assert measure(*measured(unknown), RETINANET).value == measure(*measured(without), RETINANET).value


def test_no_boxes(measured):
    for data in (squares([]), squares([]).subset(np.zeros(0, int))):
        columns, sampler = measured(data)
        for finding in (
            relative_size(columns, sampler),
            extents(columns, sampler),
            size_bins(columns, sampler),
            resize_loss(columns, sampler, RETINANET),
            roi_levels(columns, sampler, RETINANET),
        ):
            assert finding.value == 0
