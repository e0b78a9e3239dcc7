"""Weighted metrics against hotcoco on test sets that really hold their images several times."""

import numpy as np
import pytest

from detbalance.data.annotations import Annotations
from detbalance.evaluation import METRICS, evaluate, frequency_groups
from detbalance.scoring.resampling import resampled_ap
from detbalance.scoring.table import MatchTable
from detbalance.statistics import resample

EDGES = (6, 9)  # of the scene's twelve images: puts its classes into different groups
SUMMARY = [name for name in METRICS if not name.startswith(("AR", "oLRP_"))]


def names(classes) -> list[str]:
    return [*SUMMARY, *(f"{kind}/{name}" for name in classes for kind in ("AP", "AP50", "oLRP")), "TIDE/Cls", "TIDE/FN"]


def figures(evaluation, classes) -> dict[str, float | None]:
    """The same names out of an `Evaluation`."""
    values = {name: getattr(evaluation, METRICS[name]) for name in SUMMARY}
    for name in classes:
        values |= {f"{kind}/{name}": evaluation.by_class[name][kind] for kind in ("AP", "AP50", "oLRP")}
    return values | {f"TIDE/{error}": evaluation.tide[error] for error in ("Cls", "FN")}


def several(annotations, detections, times):
    """The test set with image i `times[i]` times, copies side by side."""
    source = np.repeat(np.arange(len(times)), times)
    rows = [np.flatnonzero(annotations.image == image) for image in source]
    take = np.concatenate(rows)
    copy = Annotations.from_arrays(
        classes=annotations.classes,
        sizes=annotations.sizes[source],
        image=np.repeat(np.arange(len(source)), [len(r) for r in rows]),
        label=annotations.label[take],
        boxes=annotations.boxes[take],
        crowd=annotations.crowd[take],
    )
    found = [{**d, "image_id": i + 1} for i, im in enumerate(source) for d in detections if d["image_id"] == im + 1]
    return copy, found


@pytest.mark.parametrize("seed", range(3))
def test_the_test_set_as_it_is(scene, seed):
    annotations, detections = scene(seed, tied=seed == 2)
    groups = frequency_groups(annotations, edges=EDGES)
    assert len(set(groups)) > 1
    wanted = figures(evaluate(annotations, detections, edges=EDGES), annotations.classes)
    table = MatchTable.build(annotations, detections)
    values = resample([table], names(annotations.classes), groups=groups, draws=1)
    for name, value in wanted.items():
        if value is None:
            assert np.isnan(values[name][0, 0])
        else:
            assert values[name][0, 0] == pytest.approx(value, abs=1e-12)


def test_resampled_sets_against_real_copies(scene):
    """Each draw's figures are those of the data set that holds each image as often as it was drawn."""
    annotations, detections = scene(8)
    groups = frequency_groups(annotations, edges=EDGES)
    table = MatchTable.build(annotations, detections)
    values = resample([table], names(annotations.classes), groups=groups, draws=12, seed=5)
    images = len(annotations)
    drawn = np.random.default_rng(5).multinomial(images, np.full(images, 1 / images), size=12)
    for draw, times in enumerate(drawn):
        copy, found = several(annotations, detections, times)
        wanted = figures(evaluate(copy, found, training=annotations, edges=EDGES), annotations.classes)
        for name, value in wanted.items():
            got = values[name][0, draw + 1]
            assert np.isnan(got) if value is None else got == pytest.approx(value, abs=1e-12), (draw, name)
    assert np.ptp(values["AP"]) > 0.02


def test_a_class_that_no_drawn_image_holds(scene):
    annotations, detections = scene(0)
    table = MatchTable.build(annotations, detections).areas["all"][2]
    without = (table.objects == 0).astype(np.int64)
    assert without.any()
    assert np.isnan(resampled_ap(table, np.stack([without, np.ones_like(without)]))).any(1).tolist() == [True, False]


def test_long_tables_are_worked_on_in_parts(scene, monkeypatch):
    annotations, detections = scene(1)
    table = MatchTable.build(annotations, detections)
    whole = resample([table], ["AP", "oLRP"], draws=20)
    monkeypatch.setattr("detbalance.scoring.resampling._CELLS", 300)
    parts = resample([table], ["AP", "oLRP"], draws=20)
    np.testing.assert_array_equal(whole["AP"], parts["AP"])
    np.testing.assert_array_equal(whole["oLRP"], parts["oLRP"])
