"""Anchor statistics against torchvision's own anchors, resize rule, IoU and matcher, count for count."""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, reject, settings
from hypothesis import strategies as st
from torchvision.models.detection._utils import Matcher, SSDMatcher
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import _default_anchorgen
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import box_iou
from torchvision.ops.poolers import LevelMapper

from detbalance.data.annotations import Annotations
from detbalance.diagnosis._labelling import same
from detbalance.diagnosis.anchors import (
    FASTER_RCNN,
    IOU_EDGES,
    RETINANET,
    SSD300,
    YOLOV2,
    YOLOV3,
    AnchorPreset,
    anchor_matches,
    anchor_statistics,
    covering_count,
    recall_by_shape,
)

DATA = Path(__file__).resolve().parents[2] / "../shared/data"
COCO = DATA / "coco_val2017_boxes/instances_val2017_boxes.json"

# Small enough that the dense way takes milliseconds; sizes that fall below, and beyond, the stride and the image
TINY = AnchorPreset(
    name="tiny", strides=(4, 8, 16), sizes=((8, 11), (16,), (47, 90)), min_size=70, max_size=110, size_divisible=8
)
SINGLE = AnchorPreset(
    name="single", strides=(16,), sizes=((16, 33, 80),), ratios=((0.3, 1.0, 3.0),), min_size=97, max_size=150
)
GAPS = AnchorPreset(
    name="gaps", strides=(16, 32), sizes=((5,), (9,)), ratios=(1.0,), min_size=60, max_size=200, size_divisible=1
)
SQUARE = replace(SINGLE, name="square", fixed_size=(75, 61), low_quality=True, positive=0.6, negative=0.3)
YOLO = AnchorPreset(
    name="yolo", strides=(8, 16), shapes=(((10, 13), (16.5, 7.25)), ((33, 23), (30, 61))), placing="cell",
    fixed_size=(96, 64), positive=math.inf, negative=0.5, low_quality="first",
)  # fmt: skip
SSD = replace(SSD300, name="ssd", strides=(12, 24, 50), shapes=SSD300.shapes[:3], fixed_size=(130, 110))
PRESETS = [TINY, replace(TINY, low_quality=True), SINGLE, replace(SINGLE, low_quality="first"), GAPS, SQUARE, YOLO, SSD]


def dense_anchors(preset, height, width):
    """All anchors of an image, and the level of each, by torchvision where it has such anchors."""
    grids = [(math.ceil(height / stride), math.ceil(width / stride)) for stride in preset.strides]
    maps = [torch.zeros(1, 1, *grid) for grid in grids]
    images = ImageList(torch.zeros(1, 1, height, width), [(height, width)])
    if preset.placing == "relative":
        generator = DefaultBoxGenerator([[]] * len(grids), scales=[0.1] * (len(grids) + 1), steps=list(preset.strides))
        generator._wh_pairs = [torch.tensor(shapes) for shapes in preset.shapes]
        anchors, per_cell = generator(images, maps)[0], [len(shapes) for shapes in preset.shapes]
    elif preset.placing == "corner":
        ratios = preset.ratios if isinstance(preset.ratios[0], tuple) else (preset.ratios,) * len(grids)
        generator = AnchorGenerator(preset.sizes, ratios)
        anchors, per_cell = generator(images, maps)[0], generator.num_anchors_per_location()
    else:
        per_cell = [len(shapes) for shapes in preset.shapes]
        anchors = torch.tensor([
            ((c + 0.5) * (width // columns) - w / 2, (r + 0.5) * (height // rows) - h / 2,
             (c + 0.5) * (width // columns) + w / 2, (r + 0.5) * (height // rows) + h / 2)
            for (rows, columns), shapes in zip(grids, [level.tolist() for level in preset.level_shapes])
            for r in range(rows) for c in range(columns) for w, h in shapes
        ])  # fmt: skip
    sizes = [rows * columns * count for (rows, columns), count in zip(grids, per_cell)]
    assert sum(sizes) == len(anchors)
    return anchors, np.repeat(np.arange(len(sizes)), sizes)


def dense_match(preset, quality):
    """torchvision's labels of all anchors: row of the object, -1 background, -2 ignored."""
    if not len(quality):
        return torch.full((quality.shape[1],), -1)
    if preset.low_quality and not (quality.amax(1) > 0).all():
        reject()  # an object that no anchor touches: see anchor_statistics
    if preset.low_quality == "first":
        if preset.positive == preset.negative:
            return SSDMatcher(preset.positive)(quality)
        matched = Matcher(preset.positive, preset.negative)(quality)
        for row, anchor in enumerate(quality.max(1).indices):
            matched[anchor] = row
        return matched
    return Matcher(preset.positive, preset.negative, allow_low_quality_matches=preset.low_quality)(quality)


@dataclass
class Dense:
    """What the dense way finds, counted anchor by anchor."""

    labels: np.ndarray
    per_class: np.ndarray
    per_level: np.ndarray
    objects_per_level: np.ndarray
    by_class_size: np.ndarray
    claimed: np.ndarray
    position: np.ndarray
    best: np.ndarray
    per_box: np.ndarray


def dense_statistics(data, preset):
    levels, classes = len(preset.strides), len(data.classes)
    out = Dense(
        labels=np.zeros((3, len(data)), int),
        per_class=np.zeros(classes, int),
        per_level=np.zeros((levels, 3), int),
        objects_per_level=np.zeros(levels, int),
        by_class_size=np.zeros((classes, 3, 100), int),
        claimed=np.zeros(100, int),
        position=np.zeros((40, 40), int),
        best=np.full(len(data.boxes), np.nan, np.float32),
        per_box=np.zeros(len(data.boxes), int),
    )
    transform = GeneralizedRCNNTransform(
        preset.min_size,
        preset.max_size,
        [0.0],
        [1.0],
        size_divisible=preset.size_divisible,
        fixed_size=preset.fixed_size,
    )
    for image, (width, height) in enumerate(data.sizes.tolist()):
        rows = np.arange(len(data.boxes))[data.rows(image)]
        rows = rows[~data.crowd[rows]]
        target = {"boxes": torch.tensor(data.boxes[rows], dtype=torch.float32).reshape(-1, 4)}
        batch, (target,) = transform([torch.empty(1, height, width, device="meta")], [target])
        anchors, level = dense_anchors(preset, *batch.tensors.shape[-2:])
        boxes = target["boxes"]
        quality = box_iou(boxes, anchors)
        matched = dense_match(preset, quality).numpy()
        for label, chosen in enumerate((matched >= 0, matched == -1, matched == -2)):
            out.labels[label, image] = chosen.sum()
            out.per_level[:, label] += np.bincount(level[chosen], minlength=levels)
        if not len(rows):
            continue
        out.best[rows] = quality.amax(1).numpy()
        overlap = quality.amax(0).numpy().astype(float)
        out.claimed += np.histogram(overlap[matched != -1], IOU_EDGES)[0]
        roi_level = LevelMapper(
            0, len(preset.strides[: preset.roi_levels]) - 1, 224, 4 - int(math.log2(preset.strides[0]))
        )
        if all(stride == preset.strides[0] * 2**k for k, stride in enumerate(preset.strides)):
            out.objects_per_level += np.bincount(roi_level([boxes]).numpy(), minlength=levels)
        for anchor in np.flatnonzero(matched >= 0):
            own, row = quality[matched[anchor], anchor].item(), rows[matched[anchor]]
            out.per_class[data.label[row] - 1] += 1
            out.per_box[row] += 1
            size = 0 if data.area[row] <= 32**2 else 1 if data.area[row] <= 96**2 else 2
            out.by_class_size[data.label[row] - 1, size] += np.histogram([own], IOU_EDGES)[0]
            box = boxes[matched[anchor]]
            shift = (anchors[anchor, :2] - box[:2]) / (box[2:] - box[:2])
            x, y = ((shift + 1) * 20).clamp(0, 39).int().tolist()
            out.position[y, x] += 1
    return out


def check(data, preset, **options):
    found, wanted = anchor_statistics(data, preset, **options), dense_statistics(data, preset)
    np.testing.assert_array_equal([found.positives, found.negatives, found.ignored], wanted.labels)
    np.testing.assert_array_equal(found.per_class, wanted.per_class)
    np.testing.assert_array_equal(found.per_level, wanted.per_level)
    np.testing.assert_array_equal(found.positives_per_box, wanted.per_box)
    np.testing.assert_array_equal(found.best_iou, wanted.best)
    np.testing.assert_array_equal(found.iou_by_class_size, wanted.by_class_size)
    np.testing.assert_array_equal(found.iou_histogram[1], wanted.by_class_size.sum((0, 1)))
    if preset.low_quality != "first":  # where an anchor may be forced to an object it overlaps less
        np.testing.assert_array_equal(found.claimed_iou, wanted.claimed)
    np.testing.assert_array_equal(found.position, wanted.position)
    if wanted.objects_per_level.any():
        np.testing.assert_array_equal(found.objects_per_level, wanted.objects_per_level)
    return found


def dataset(images, classes=3):
    """Annotations of [(width, height, [(x1, y1, x2, y2, label, crowd), ...]), ...]."""
    rows = [(i, *box) for i, (_, _, boxes) in enumerate(images) for box in boxes]
    columns = list(zip(*rows)) or [[]] * 7
    return Annotations.from_arrays(
        classes=[f"c{k}" for k in range(classes)],
        sizes=[image[:2] for image in images],
        image=columns[0],
        boxes=np.array(columns[1:5]).T,
        label=columns[5],
        crowd=columns[6],
    )


@st.composite
def some_boxes(draw, width, height):
    """Boxes that touch the image: on whole pixels or not, tiny, huge, at and over the border."""
    whole = st.integers
    sides = st.one_of(
        st.sampled_from([0.01, 0.5, 1.0, 8.0, 16.0, 23.0, 32.0, 64.0]), st.floats(0.1, 40), whole(1, 300), st.just(2000)
    )

    def along(length):
        extent = draw(sides)
        near = draw(
            st.one_of(
                whole(0, length - 1), st.floats(-extent * 0.9, length - 0.1), st.just(0), st.just(length - extent)
            )
        )
        near = min(max(near, -extent * 0.9), length - 0.1)
        return near, near + extent

    (x1, x2), (y1, y2) = along(width), along(height)
    return x1, y1, x2, y2, draw(whole(1, 3)), draw(st.sampled_from([False] * 9 + [True]))


@st.composite
def some_images(draw):
    images = []
    for _ in range(draw(st.integers(0, 4))):
        width, height = draw(st.one_of(st.tuples(*[st.integers(5, 260)] * 2), st.sampled_from([(64, 64), (4, 300)])))
        boxes = draw(st.lists(some_boxes(width, height), max_size=8))
        if boxes and draw(st.booleans()):  # duplicates, under another label
            boxes += [(*box[:4], 1 + box[4] % 3, False) for box in boxes[: draw(st.integers(1, 4))]]
        images.append((width, height, boxes))
    return dataset(images)


@pytest.mark.parametrize("preset", PRESETS, ids=lambda p: f"{p.name}-{p.low_quality}")
@settings(max_examples=25, deadline=None)
@given(data=some_images(), chunk=st.sampled_from([1, 3, 7, 2048]))
@example(data=dataset([]), chunk=1)
@example(data=dataset([(64, 48, []), (50, 50, []), (31, 47, [(0, 0, 31, 47, 2, False)])]), chunk=2)
@example(data=dataset([(side, side, [(8, 8, 24, 16, 1, False)]) for side in (70, 97)]), chunk=2048)  # IoU exactly 0.5
@example(data=dataset([(80, 80, [(8, 8, 24, 24, label, False) for label in (3, 1, 2, 1)])]), chunk=2048)
def test_equals_dense_torchvision(preset, data, chunk):
    check(data, preset, chunk=chunk)


@pytest.mark.parametrize("preset", [RETINANET, FASTER_RCNN, SSD300, YOLOV2, YOLOV3], ids=lambda p: p.name)
@settings(max_examples=4, deadline=None)
@given(data=some_images())
def test_presets_equal_dense_torchvision(preset, data):
    check(data, preset)


def coco(images):
    """The first images of COCO val2017."""
    if not COCO.exists():
        pytest.skip(f"needs {COCO.name} in the sibling folder shared/data")
    record = json.loads(COCO.read_text())
    chosen = record["images"][:images]
    row = {image["id"]: i for i, image in enumerate(chosen)}
    label = {category["id"]: k + 1 for k, category in enumerate(record["categories"])}
    kept = [a for a in record["annotations"] if a["image_id"] in row and min(a["bbox"][2:]) > 0]
    boxes = np.array([a["bbox"] for a in kept], float)
    boxes[:, 2:] += boxes[:, :2]
    return Annotations.from_arrays(
        classes=[category["name"] for category in record["categories"]],
        sizes=[(image["width"], image["height"]) for image in chosen],
        image=[row[a["image_id"]] for a in kept],
        label=[label[a["category_id"]] for a in kept],
        boxes=boxes,
    )


@pytest.mark.parametrize("preset", [RETINANET, FASTER_RCNN, SSD300, YOLOV3], ids=lambda p: p.name)
def test_coco_equals_dense_torchvision(preset):
    found = check(coco(12), preset)
    assert found.positives.sum() > 50


def test_retinanet_is_torchvisions():
    generator = _default_anchorgen()
    assert tuple(map(tuple, generator.sizes)) == RETINANET.sizes
    assert SSD300.level_shapes[0].shape == (4, 2)
    generator = DefaultBoxGenerator(
        [[2], [2, 3], [2, 3], [2, 3], [2], [2]],
        scales=[0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05],
        steps=[8, 16, 32, 64, 100, 300],
    )
    for own, theirs in zip(SSD300.level_shapes, generator._wh_pairs):
        np.testing.assert_array_equal(own, theirs.clamp(0, 1).numpy())


@settings(max_examples=200, deadline=None)
@given(sizes=st.tuples(*[st.integers(1, 5000)] * 2), rule=st.sampled_from([(800, 1333), (640, 640), (97, 1000)]))
def test_resize_rule(sizes, rule):
    width, height = sizes
    assume(min(math.floor(side * min(rule[0] / min(sizes), rule[1] / max(sizes))) for side in sizes) > 0)
    preset = replace(RETINANET, min_size=rule[0], max_size=rule[1])
    scale = min(rule[0] / min(sizes), rule[1] / max(sizes))
    resized = torch.nn.functional.interpolate(
        torch.zeros(1, 1, height, width), scale_factor=scale, mode="nearest", recompute_scale_factor=True
    )
    new, padded = preset.resized(np.array([sizes]))
    assert tuple(new[0]) == tuple(resized.shape[:1:-1])
    assert (padded % 32 == 0).all()
    assert ((padded - new) < 32).all()


def test_unknown_sizes_are_counted_and_left_out():
    data = dataset([(64, 64, [(4, 4, 40, 40, 1, False)]), (0, 0, [(4, 4, 40, 40, 1, False)])])
    found = anchor_statistics(data, TINY)
    alone = anchor_statistics(data.subset([0]), TINY)
    assert found.unknown_images == 1
    assert found.positives.tolist() == [alone.positives[0], 0]
    assert found.negatives.tolist() == [alone.negatives[0], 0]
    assert np.isnan(found.best_iou).tolist() == [False, True]
    assert found.objects_per_level.sum() == 1


def test_boxes_outside_of_everything():
    far = [(500, 500, 600, 600, 1, False), (-1e30, 0, 1e30, 10, 1, False), (1e150, 0, 2e150, 1e150, 2, False)]
    data = dataset([(64, 64, [*far, (10, 10, 30, 30, 3, False)])])
    for low_quality in (False, True, "first"):
        found = anchor_statistics(data, TINY, low_quality=low_quality)
        assert found.best_iou[[0, 2]].tolist() == [0, 0]
        assert found.per_class[:2].sum() <= found.positives_per_box[1]
        assert found.positives_per_box[3] > 0


def test_options_override_the_preset():
    data = dataset([(64, 64, [(4, 4, 40, 44, 1, False), (20, 8, 60, 50, 2, False)])])
    own = replace(TINY, positive=0.6, negative=0.3, low_quality=True, min_size=90, max_size=200)
    given_ = anchor_statistics(data, TINY, 0.6, 0.3, low_quality=True, min_size=90, max_size=200)
    assert given_.preset == own
    np.testing.assert_array_equal(given_.per_level, anchor_statistics(data, own).per_level)


def test_matches_list_what_is_counted():
    data = dataset(
        [(64, 64, [(4, 4, 40, 44, 1, False), (20, 8, 60, 50, 2, False)]), (40, 90, [(3, 3, 30, 80, 3, False)])]
    )
    listed, counted = anchor_matches(data, TINY), anchor_statistics(data, TINY)
    np.testing.assert_array_equal(np.bincount(listed.image[listed.positive], minlength=2), counted.positives)
    np.testing.assert_array_equal(np.bincount(listed.image[~listed.positive], minlength=2), counted.ignored)
    np.testing.assert_array_equal(np.bincount(listed.level[listed.positive], minlength=3), counted.per_level[:, 0])
    ratio = (TINY.resized(data.sizes)[0] / data.sizes)[data.image[listed.box]]
    boxes = torch.tensor((data.boxes[listed.box] * np.tile(ratio, 2)).astype(np.float32))
    iou = box_iou(boxes, torch.tensor(listed.anchors)).diagonal()
    np.testing.assert_allclose(listed.iou, iou, rtol=1e-5)


def test_matches_of_nothing():
    listed = anchor_matches(dataset([]))
    assert len(listed.box) == len(listed.anchors) == 0


def test_recall_by_shape():
    data = dataset([(640, 480, [(0, 0, 10, 10, 1, False), (0, 0, 300, 200, 1, False), (0, 0, 400, 110, 2, False)])])
    recall, objects = recall_by_shape(data, np.array([0.2, 0.5, np.nan], np.float32))
    assert objects.sum() == 2
    assert recall[0, 2] == 0
    assert recall[2, 2] == 1
    assert np.isnan(recall[1]).all()


@settings(max_examples=50, deadline=None)
@given(boxes=st.lists(st.tuples(*[st.floats(-3, 12)] * 4), max_size=6))
def test_covering_count(boxes):
    boxes = np.array([(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in boxes]).reshape(-1, 4)
    naive = np.zeros((7, 9), int)
    for x1, y1, x2, y2 in boxes:
        for y in range(7):
            for x in range(9):
                naive[y, x] += x1 <= x + 0.5 < x2 and y1 <= y + 0.5 < y2
    np.testing.assert_array_equal(covering_count(boxes, 9, 7), naive)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sizes": ((8,),)}, "for each of the 3 strides"),
        ({"strides": (8, 4, 16)}, "ascending strides"),
        ({"placing": "center"}, "placing"),
        ({"placing": "relative"}, "fixed_size"),
        ({"sizes": ((0.5,), (16,), (32,))}, "at least 1 pixel"),
        ({"positive": 0.3}, "negative <= positive"),
        ({"negative": 0.0}, "0 < negative"),
        ({"negative": 1.5, "positive": 2.0}, "negative <= 1"),
        ({"low_quality": "all"}, "low_quality"),
        ({"max_size": 0}, "at least 1 pixel"),
    ],
)
def test_mistakes_are_named(change, said):
    with pytest.raises(ValueError, match=said):
        replace(TINY, **change)


@settings(max_examples=100, deadline=None)
@given(keys=st.lists(st.one_of(st.integers(0, 5), st.integers(0, 2**40)), max_size=50))
def test_same_groups_equal_keys(keys):
    group = same(np.array(keys, np.int64))
    for i, key in enumerate(keys):
        assert keys[group[i]] == key
        assert [group[j] for j, other in enumerate(keys) if other == key] == [group[i]] * keys.count(key)


def test_same_of_many():
    keys = np.random.default_rng(0).integers(0, 40_000, 60_000)
    group = same(keys)
    assert (keys[group] == keys).all()
    assert len(np.unique(group)) == len(np.unique(keys))


def test_chunk_is_checked():
    with pytest.raises(ValueError, match="chunk"):
        anchor_statistics(dataset([]), chunk=0)
