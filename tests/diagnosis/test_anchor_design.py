"""Anchors made for a dataset: what is measured, that the search finds planted shapes, and that it never does harm."""

import numpy as np
import pytest

from detbalance.anchor_settings import AnchorSettings, default_anchors
from detbalance.data.annotations import Annotations
from detbalance.diagnosis.anchor_design import GROUPS, design_anchors, measure_anchors
from detbalance.diagnosis.anchors import anchor_statistics
from detbalance.diagnosis.indices import gini_index

SIDES = (192, 256)


def planted(side=9.0, ratio=3.0, images=4, each=10, seed=0):
    """Objects of one shape (height / width) in two classes, anywhere."""
    rng = np.random.default_rng(seed)
    width, height = side / ratio**0.5, side * ratio**0.5
    corner = rng.uniform(0, 1, (images * each, 2)) * (256 - width, 192 - height)
    return Annotations.from_arrays(
        classes=["a", "b", "never"],
        sizes=[(256, 192)] * images,
        image=np.repeat(np.arange(images), each),
        label=rng.integers(1, 3, images * each),
        boxes=np.concatenate((corner, corner + np.array([width, height])), 1),
    )


def test_measures_what_the_anchors_give(make):
    data = make(3)
    fit = measure_anchors(data, default_anchors("retinanet"), SIDES)
    counted = anchor_statistics(data, default_anchors("retinanet").preset(SIDES))
    known = ~np.isnan(counted.best_iou)
    assert len(fit.best_iou) == known.sum() == (~data.crowd).sum()
    assert fit.missed == pytest.approx((counted.best_iou[known] < 0.5).mean())
    assert fit.without == (counted.positives_per_box[known] == 0).sum()
    for k in range(4):
        mine = known & (data.label == k + 1)
        assert fit.by_class[k] == pytest.approx(counted.positives_per_box[mine].mean())
    scale = np.minimum(192 / data.sizes.min(1), 256 / data.sizes.max(1))[data.image]
    size = ((data.boxes[:, 2:] - data.boxes[:, :2]).prod(1) * scale**2)[known]
    parts = np.array_split(np.argsort(size, kind="stable"), GROUPS)
    means = [counted.positives_per_box[known][part].mean() for part in parts]
    np.testing.assert_allclose(fit.by_size, means, atol=0.2)  # the fifths differ by an object at most
    over = float(gini_index(fit.by_class)), float(gini_index(fit.by_size))
    assert fit.unevenness == pytest.approx(over)
    assert fit.score(0.5) == pytest.approx(fit.missed + 0.25 * sum(over))


@pytest.mark.parametrize("detector", ["retinanet", "faster_rcnn", "ssd"])
def test_finds_planted_shapes(detector):
    data = planted()
    found = design_anchors(data, detector=detector, generations=5, seed=1)
    assert found.after.score(0.25) < found.before.score(0.25)
    assert found.after.missed < found.before.missed
    own, made = default_anchors(detector), found.after.settings
    assert [len(level) for level in made.sizes] == [len(level) for level in own.sizes]
    assert len(made.scales) == len(own.scales)
    assert np.shape(made.ratios[0]) == np.shape(own.ratios[0])
    assert max(np.ravel(sum(made.ratios, ()) if detector == "ssd" else made.ratios)) > 2


def test_is_decided_by_its_seed_and_never_worse():
    data = planted(side=40, ratio=1.0)
    done = []
    fits = [design_anchors(data, generations=2, images=3, seed=s, progress=lambda *p: done.append(p)) for s in (0, 0)]
    assert fits[0].after.settings == fits[1].after.settings
    assert done == [(1, 2), (2, 2)] * 2
    assert fits[0].after.score(0.25) <= min(fits[0].before.score(0.25), fits[0].clustered.score(0.25))


def test_clusters_start_at_the_planted_size():
    fit = design_anchors(planted(side=30, ratio=2.0), generations=1, images=2).clustered
    assert fit.settings == default_anchors("retinanet")  # one shape cannot be clustered: the detector's own
    rng = np.random.default_rng(0)
    side = rng.choice([10, 20, 40, 80, 100], 60) + rng.uniform(-1, 1, 60)
    boxes = np.stack((np.zeros(60), np.zeros(60), side, side * rng.choice([0.5, 1.0, 1.7], 60)), 1)
    data = Annotations.from_arrays(classes=["a"], sizes=[(256, 192)] * 60, image=range(60), label=[1] * 60, boxes=boxes)
    ratios = design_anchors(data, generations=1, images=2).clustered.settings.ratios
    np.testing.assert_allclose(ratios, (0.5, 1.0, 1.7), rtol=0.05)


def test_few_and_no_objects(make):
    one = planted(images=1, each=1)
    found = design_anchors(one, generations=1, images=1)
    assert found.after.score(0.25) <= found.before.score(0.25)
    assert len(found.tables()) == 3
    with pytest.raises(ValueError, match="no objects"):
        design_anchors(one.subset(np.zeros(1, bool)))
    with pytest.raises(ValueError, match="generations >= 1"):
        design_anchors(one, generations=0)
    for detector in ("fcos", "yolov2"):
        with pytest.raises(ValueError, match="expected a detector with anchors"):
            design_anchors(one, detector=detector)


@pytest.mark.parametrize("detector", ["retinanet", "ssd", "cascade_rcnn"])
def test_settings_are_kept_in_a_file(detector, tmp_path):
    settings = default_anchors(detector, "small")
    assert AnchorSettings.load(settings.save(tmp_path / "new" / "a.json")) == settings


@pytest.mark.parametrize(
    "text",
    [
        '{"anchors": {"detector": "retinanet", "sizes": [[-1]]}}',
        '{"anchors": {"detector": "retinanet", "sizes": [1, 2]}}',
        '{"anchors": {"detector": "ssd", "scales": [1]}}',
        '{"anchors": {"shape": 1}}',
        '{"anchors": 3}',
        "{}",
        "[",
    ],
)
def test_what_is_no_file_of_anchors_is_refused(text, tmp_path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=r"a\.json: expected anchors"):
        AnchorSettings.load(tmp_path / "a.json")
    with pytest.raises(ValueError, match=r"b\.json: cannot be read"):
        AnchorSettings.load(tmp_path / "b.json")
