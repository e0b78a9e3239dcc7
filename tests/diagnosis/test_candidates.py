"""What is made of the anchors' labels: the labels themselves are tested in test_anchors.py."""

import numpy as np
import pytest
from torchvision.ops import box_iou

from detbalance.data.annotations import Annotations
from detbalance.diagnosis import anchor_fit, candidates, indices, ious
from detbalance.diagnosis.anchors import FASTER_RCNN, RETINANET, SSD300, YOLOV3, anchor_matches, anchor_statistics
from detbalance.diagnosis.labelled import label_anchors

MEASURES = [
    candidates.foreground,
    candidates.class_positives,
    candidates.level_positives,
    ious.positive_ious,
    ious.near_threshold,
    anchor_fit.missed_objects,
    anchor_fit.relative_position,
    anchor_fit.candidate_overlaps,
]


@pytest.fixture
def labelled(make, measured):
    columns, sampler = measured(make(boxes=80))
    return label_anchors(columns, RETINANET, sampler), sampler


@pytest.mark.parametrize("preset", [RETINANET, FASTER_RCNN, SSD300, YOLOV3])
def test_runs_of_images_add_up_to_the_whole(make, measured, preset):
    data = make(images=70, boxes=90)  # more images than runs
    columns, sampler = measured(data)
    found, whole = label_anchors(columns, preset, sampler), anchor_statistics(data, preset)
    for name in vars(whole):
        if name != "preset":
            assert np.array_equal(getattr(found.whole, name), getattr(whole, name), equal_nan=name == "best_iou"), name
    assert np.array_equal(found.levels.sum(0), whole.per_level[:, 0])
    assert np.array_equal(found.ious.sum(0), whole.iou_histogram[1])
    assert np.array_equal(found.positions.sum(0).reshape(40, 40), whole.position)
    assert found.per_object.sum() == whole.positives.sum()


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("preset", [RETINANET, FASTER_RCNN, SSD300, YOLOV3])
def test_every_measure_takes_every_preset(make, measured, measure, preset):
    columns, sampler = measured(make())
    finding = measure(label_anchors(columns, preset, sampler), sampler)
    low, high = finding.interval
    assert 0 <= low <= finding.value <= high <= 1


@pytest.mark.parametrize("measure", MEASURES)
def test_no_objects_no_images_no_sizes(make, measured, measure):
    empty = make(boxes=0)
    unknown = Annotations.from_arrays(
        classes=["a"], sizes=[(0, 0)] * 3, image=[0, 1], label=[1, 1], boxes=[[0, 0, 9, 9]] * 2
    )
    for data in (empty, empty.subset(np.zeros(0, int)), unknown):
        columns, sampler = measured(data)
        finding = measure(label_anchors(columns, RETINANET, sampler), sampler)
        assert 0 <= finding.value <= 1
        assert finding.summary


def test_foreground_is_the_ratio_in_decades(labelled):
    found, sampler = labelled
    ratio = found.whole.negatives.sum() / found.whole.positives.sum()
    decades = np.log10(ratio)
    assert candidates.foreground(found, sampler).value == pytest.approx(decades / (1 + decades))
    assert candidates.foreground(found, sampler, desired=ratio).value == pytest.approx(0, abs=1e-9)
    assert candidates.foreground(found, sampler, desired=3).value < candidates.foreground(found, sampler).value


def test_positives_per_class_and_level(labelled):
    found, sampler = labelled
    per_class = found.whole.per_class
    assert candidates.class_positives(found, sampler).value == pytest.approx(indices.gini_index(per_class))
    assert candidates.level_positives(found, sampler).value == pytest.approx(
        indices.entropy_index(found.whole.per_level[:, 0])
    )


def test_positive_ious_against_the_list_of_positives(labelled):
    found, sampler = labelled
    matches = anchor_matches(found.columns.data, RETINANET)
    iou = matches.iou[matches.positive].astype(float)
    finding = ious.positive_ious(found, sampler)
    assert finding.value == pytest.approx(indices.wasserstein_uniform((iou - 0.5) * 2), abs=0.02)
    assert ious.near_threshold(found, sampler).value == pytest.approx((iou < 0.55).mean(), abs=1e-3)
    assert ious.positive_ious(found, sampler, target=iou).value == pytest.approx(0, abs=1e-3)
    assert sum(row[1] for row in finding.tables[0].rows) == pytest.approx(1)


def test_positives_below_the_threshold_count_as_at_it(make, measured):
    columns, sampler = measured(make(boxes=80))
    matches = anchor_matches(columns.data, FASTER_RCNN)
    iou = matches.iou[matches.positive].astype(float)
    assert (iou < 0.7).any()  # the best anchors of objects that none fits
    value = ious.positive_ious(label_anchors(columns, FASTER_RCNN, sampler), sampler).value
    assert value == pytest.approx(indices.wasserstein_uniform((iou.clip(0.7) - 0.7) / 0.3), abs=0.02)


def test_missed_objects_are_those_below_the_threshold(labelled):
    found, sampler = labelled
    assert anchor_fit.missed_objects(found, sampler).value == pytest.approx((found.best < 0.5).mean())


@pytest.mark.parametrize("threshold", [0.4, 0.5, 0.7])
def test_reachable_corners_by_trying_boxes(threshold):
    share = anchor_fit.reachable(threshold, side=8, fine=3)
    line = -1 + 2 * (np.arange(24) + 0.5) / 24
    ends = np.linspace(0.05, 2, 40)
    import torch

    for i, j in [(r, c) for r in range(24) for c in range(24)][:: 5 if threshold != 0.5 else 2]:
        y, x = line[i], line[j]
        xx, yy = np.meshgrid(ends, ends)
        tried = np.stack((np.full(xx.size, x), np.full(xx.size, y), x + xx.ravel(), y + yy.ravel()), 1)
        tried = np.concatenate((tried, [[x, y, 1, 1]]))
        tried = tried[(tried[:, 2:] > tried[:, :2]).all(1)]
        best = box_iou(torch.tensor(tried), torch.tensor([[0.0, 0, 1, 1]], dtype=torch.float64)).max().item()
        if share[i // 3, j // 3] in (0.0, 1.0):
            assert (best >= threshold) == (share[i // 3, j // 3] == 1.0)


def test_overlaps_of_candidates_pixel_by_pixel(make, measured):
    data = make(images=3, boxes=4)
    columns, sampler = measured(data)
    found = label_anchors(columns, RETINANET, sampler)
    matches = anchor_matches(data, RETINANET)
    depth = []
    for row in range(3):
        width, height = RETINANET.resized(data.sizes[row : row + 1])[0][0]
        boxes = matches.anchors[matches.positive & (matches.image == row)].astype(float)
        for y in (np.arange(32) + 0.5) / 32 * height:
            for x in (np.arange(32) + 0.5) / 32 * width:
                inside = (boxes[:, 0] <= x) & (x < boxes[:, 2]) & (boxes[:, 1] <= y) & (y < boxes[:, 3])
                depth.append(inside.sum())
    assert anchor_fit.candidate_overlaps(found, sampler).value == pytest.approx(indices.gini_index(np.array(depth)))


def test_most_covered_tenth():
    share, held = np.array([0.8, 0.15, 0.05]), np.array([0.0, 0.15, 0.10])
    assert anchor_fit._top_tenth(share, held) == pytest.approx((0.10 + 0.05) / 0.25)
