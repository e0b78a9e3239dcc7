"""`evaluate` against pycocotools' figures, and its own parts against naive loops."""

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from detbalance.data.annotations import Annotations
from detbalance.detections import Predictions, load_predictions
from detbalance.evaluation import Evaluation, evaluate, false_positives, frequency_groups
from detbalance.scoring.coco import run_hotcoco
from detbalance.scoring.table import MatchTable

COCO100 = Path(__file__).resolve().parents[1] / "../shared/data/coco_val2014_100"


def coco_annotations(path: Path) -> Annotations:
    """A plain reading of a COCO file, so that this test stands alone."""
    data = json.loads(path.read_text())
    image = {entry["id"]: row for row, entry in enumerate(data["images"])}
    label = {entry["id"]: row + 1 for row, entry in enumerate(data["categories"])}
    boxes = np.array([a["bbox"] for a in data["annotations"]])
    boxes[:, 2:] += boxes[:, :2]
    return Annotations.from_arrays(
        classes=[c["name"] for c in data["categories"]],
        sizes=[(i["width"], i["height"]) for i in data["images"]],
        image=[image[a["image_id"]] for a in data["annotations"]],
        label=[label[a["category_id"]] for a in data["annotations"]],
        boxes=boxes,
        area=[a["area"] for a in data["annotations"]],
        crowd=[a["iscrowd"] for a in data["annotations"]],
        image_ids=list(image),
        category_ids=list(label),
        form="coco",
    )


@pytest.mark.skipif(not COCO100.exists(), reason="needs ../shared/data/coco_val2014_100 beside the repository")
def test_pycocotools_twelve_figures():
    annotations = coco_annotations(COCO100 / "instances_val2014_100.json")
    found = load_predictions(COCO100 / "instances_val2014_fakebbox100_results.json", annotations, ids="source")
    result = evaluate(annotations, found)
    expected = json.loads((COCO100 / "reference_pycocotools.json").read_text())["bbox_stats"]
    names = [
        "ap",
        "ap50",
        "ap75",
        "ap_small",
        "ap_medium",
        "ap_large",
        "ar1",
        "ar10",
        "ar",
        "ar_small",
        "ar_medium",
        "ar_large",
    ]
    # The reference is written with six digits.
    np.testing.assert_allclose([getattr(result, name) for name in names], expected, rtol=0, atol=5.0000001e-7)


def one_object(**columns) -> Annotations:
    return Annotations.from_arrays(
        classes=["a", "b"],
        sizes=[(100, 100)] * 2,
        image=[0, 0],
        label=[1, 1],
        boxes=[[0, 0, 10, 10], [50, 50, 60, 60]],
        **columns,
    )


ONE = pytest.approx(1, abs=1e-12)  # COCO's precision has an epsilon in its denominator
PERFECT = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10], "score": 0.5}
ON_SECOND = {"image_id": 1, "category_id": 1, "bbox": [50, 50, 10, 10], "score": 0.9}


def test_difficult_boxes_are_neither_wanted_nor_wrong():
    annotations = one_object(difficult=[False, True])
    assert evaluate(annotations, [PERFECT, ON_SECOND]).ap == ONE
    assert evaluate(annotations, [PERFECT]).ap == ONE
    assert evaluate(one_object(), [PERFECT]).ap < 0.6
    assert evaluate(annotations, [PERFECT]).objects == 1


def test_what_does_not_exist_is_none():
    result = evaluate(one_object(), [PERFECT, ON_SECOND])
    assert result.by_class["b"]["AP"] is None
    assert result.by_class["b"]["oLRP"] is None
    assert result.ap_large is None
    assert result.ap_frequent is None
    assert result.ap_small == result.ap_rare == ONE


def test_no_detections_and_no_objects():
    nothing = evaluate(one_object(), [])
    assert (nothing.ap, nothing.ar, nothing.olrp, nothing.olrp_fn) == (0, 0, 1, 1)
    assert nothing.olrp_loc is None
    bare = Annotations.from_arrays(classes=["a", "b"], sizes=[(9, 9)], image=[], label=[], boxes=[])
    for detections in ([], [PERFECT]):
        result = evaluate(bare, detections)
        assert result.ap is None
        assert result.olrp is None
        assert set(result.tide.values()) == {None}
    assert false_positives(bare, [PERFECT], [0.4, 0.6]) == {"threshold": [0.4, 0.6], "per_image": [1.0, 0.0]}


def test_boxes_of_a_file_come_back_to_the_last_bit():
    """x + w - x is not w in binary, and an IoU of exactly a threshold would be decided by the difference."""
    x, w = 142.61, 52.83
    assert (x + w) - x != w
    annotations = Annotations.from_arrays(
        classes=["a"], sizes=[(640, 640)], image=[0], label=[1], boxes=[[x, 0, x + w, 100.0]]
    )
    coco = run_hotcoco(annotations, load_predictions([], annotations))
    assert coco.coco_gt.dataset["annotations"][0]["bbox"] == [x, 0, w, 100]


def test_equal_scores_rank_by_the_source_s_image_id(scene):
    """pycocotools takes the images by id: the same data with its images listed in another order is the same AP."""
    annotations, detections = scene(1, tied=True)
    order = np.random.default_rng(0).permutation(len(annotations))
    row = np.argsort(order)
    moved = Annotations.from_arrays(
        classes=annotations.classes,
        sizes=annotations.sizes[order],
        image=row[annotations.image],
        label=annotations.label,
        boxes=annotations.boxes,
        crowd=annotations.crowd,
        image_ids=annotations.image_ids[order],
    )
    shifted = [{**d, "image_id": int(row[d["image_id"] - 1]) + 1} for d in detections]
    plain = replace(moved, image_ids=np.arange(len(order)))
    assert evaluate(moved, shifted).ap == evaluate(annotations, detections).ap != evaluate(plain, shifted).ap


def test_lvis_rules():
    """Unverified classes are dropped, verified absent ones are wrong, and where not all is marked nothing is wrong."""
    annotations = Annotations.from_arrays(
        classes=["a", "b", "c"],
        sizes=[(99, 99)] * 2,
        image=[0, 1, 1],
        label=[1, 1, 2],
        boxes=[[0, 0, 10, 10]] * 3,
        form="lvis",
        frequency=("f", "r", "c"),
        negatives=((2,), ()),
        not_exhaustive=((), (1,)),
    )

    def detection(image, label, score, x=0):
        return {"image_id": image, "category_id": label, "bbox": [x, 0, 10, 10], "score": score}

    right = [detection(1, 1, 0.5), detection(2, 1, 0.5), detection(2, 2, 0.5)]
    perfect = evaluate(annotations, right)
    assert (perfect.ap, perfect.ap_rare, perfect.ap_common, perfect.ap_frequent) == (ONE, ONE, None, ONE)
    assert perfect.ar1 is None
    assert evaluate(annotations, [*right, detection(1, 3, 0.9), detection(2, 1, 0.9, x=50)]).ap == ONE
    wrong = evaluate(annotations, [*right, detection(1, 2, 0.9)])
    assert (wrong.ap_frequent, wrong.ap_rare) == (ONE, pytest.approx(0.5))
    assert wrong.by_class["b"]["FP"] == 0.5


def test_frequency_groups_count_training_images(records):
    image = np.repeat(np.arange(120), 2)
    label = np.ones(240, int)
    label[1:22:2], label[23:43:2] = 2, 3  # eleven and ten images
    training = Annotations.from_arrays(
        classes=["many", "eleven", "ten", "none"],
        sizes=[(9, 9)] * 120,
        image=image,
        label=label,
        boxes=[[0, 0, 1, 1]] * 240,
    )
    assert frequency_groups(training) == ("frequent", "common", "rare", "rare")
    assert frequency_groups(training, edges=(10, 120)) == ("common", "common", "rare", "rare")
    with pytest.raises(ValueError, match="edges"):
        frequency_groups(training, edges=(5, 2))
    test = replace(training.subset(np.arange(30)), image_ids=np.arange(30))
    detections = records(test.image, test.label, test.boxes, np.ones(60))
    result = evaluate(test, detections, training=training)
    assert result.by_frequency["frequent"] == {"AP": result.by_class["many"]["AP"], "classes": 1}
    assert result.by_class["eleven"]["train_images"] == 11
    assert result.ap_rare == result.by_class["ten"]["AP"]  # "none" has no object to find
    with pytest.raises(ValueError, match="classes"):
        evaluate(one_object(), [], training=training)


def test_matches_agree_with_hotcoco_s_ap(scene):
    annotations, detections = scene(5)
    result = evaluate(annotations, detections)
    assert 0.1 < result.ap < 0.9
    matches = MatchTable.build(annotations, load_predictions(detections, annotations)).areas["all"][0]
    assert (np.diff(matches.score) <= 0).all()
    assert ((matches.iou >= 0.5) == matches.hit[0]).all()
    assert matches.objects.sum() == result.by_class["c0"]["test_boxes"]


def test_score_threshold_and_false_positives(scene):
    annotations, detections = scene(2)
    assert evaluate(annotations, detections, score_threshold=0.5) == evaluate(
        annotations, [d for d in detections if d["score"] >= 0.5]
    )
    curve = false_positives(annotations, detections, [0.0, 0.5, 0.9])
    assert curve["per_image"] == sorted(curve["per_image"], reverse=True)
    for threshold, per_image in zip(curve["threshold"], curve["per_image"]):
        kept = [d for d in detections if d["score"] >= threshold]
        table = MatchTable.build(annotations, load_predictions(kept, annotations))
        wrong = sum(int((~m.hit[0] & ~m.ignored[0]).sum()) for m in table.areas["all"])
        assert per_image == pytest.approx(wrong / len(annotations))


def test_json_round_trip_and_table(scene):
    annotations, detections = scene(6)
    result = evaluate(annotations, detections)
    text = json.dumps(result.to_json(), allow_nan=False)
    assert Evaluation.from_json(json.loads(text)) == result
    assert {"AP", "AP50", "AP_small", "AP_rare", "oLRP"} <= set(result.to_json()["metrics"])
    assert all(v is None or math.isfinite(v) for v in result.to_json()["metrics"].values())
    with pytest.raises(ValueError, match="AP99"):
        Evaluation.from_json({**result.to_json(), "metrics": {"AP99": 1}})
    console = Console(record=True, width=200)
    console.print(result.table())
    printed = console.export_text()
    assert f"{100 * result.ap:.1f}" in printed
    assert all(name in printed for name in annotations.classes)


def test_no_figure_is_cut_in_a_narrow_terminal(scene):
    """Whole numbers of boxes and a long name of a class; the name is broken over lines."""
    values = evaluate(*scene(6)).to_json()
    row = {**next(iter(values["by_class"].values())), "group": "frequent", "train_boxes": 12345, "test_boxes": 6789}
    name = "a_class_whose_name_is_long"
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(Evaluation.from_json({**values, "by_class": {name: row}}).table())
    shown = console.export_text()
    assert "…" not in shown
    assert {"frequent", "12345", "6789"} <= set(shown.split())
    rows = shown[shown.rindex("─") + 1 :].splitlines()
    assert "".join(row.split()[0] for row in rows if row.strip()) == name


def test_tide_shares():
    """One detection of the wrong class: repairing it wins everything."""
    wrong_class = {**PERFECT, "category_id": 2}
    annotations = Annotations.from_arrays(
        classes=["a", "b"], sizes=[(99, 99)], image=[0], label=[1], boxes=[[0, 0, 10, 10]]
    )
    result = evaluate(annotations, [wrong_class])
    assert result.tide["Cls"] == ONE
    assert result.tide["Loc"] == 0
    assert isinstance(load_predictions([], annotations), Predictions)
