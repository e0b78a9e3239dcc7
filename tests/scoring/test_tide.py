"""TIDE against a loop over its definitions, and against hotcoco where there are no crowds."""

from dataclasses import replace

import numpy as np
import pytest

from detbalance.detections import load_predictions
from detbalance.evaluation import evaluate
from detbalance.scoring.coco import run_hotcoco
from detbalance.scoring.table import MatchTable


def iou(a, b) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(wide, 0) * max(high, 0)
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def average_precision(detections, objects) -> float:
    """101-point AP of (score, is a hit)."""
    ranked = sorted(detections, key=lambda d: -d[0])
    hits, points = 0, []
    for rank, (_, hit) in enumerate(ranked):
        hits += hit
        points.append((hits / objects if objects else 0.0, hits / (rank + 1)))
    levels = np.linspace(0, 1, 101)
    return float(np.mean([max((p for r, p in points if r >= level), default=0.0) for level in levels])) * (objects > 0)


def kind_of(box, label, others, used):
    """Section 2.2, tested in the order of the authors' tool: (kind, the object it is about)."""
    overlaps = [(iou(box, b), row, k == label) for row, b, k in others]
    own = max(((v, row) for v, row, same in overlaps if same), default=(0.0, -1), key=lambda pair: pair[0])
    other = max(((v, row) for v, row, same in overlaps if not same), default=(0.0, -1), key=lambda pair: pair[0])
    if 0.1 <= own[0] <= 0.5:
        return "Loc", own[1]
    if other[0] >= 0.5:
        return "Cls", other[1]
    if any(v >= 0.5 and same and row in used for v, row, same in overlaps):
        return "Dupe", -1
    if max(own[0], other[0]) <= 0.1:
        return "Bkg", -1
    return "Both", -1


def naive_tide(annotations, found):
    matches = MatchTable.build(annotations, found).areas["all"]
    base, used = [], set()
    for k, m in enumerate(matches):
        base += [(int(r), k + 1, bool(h)) for r, h, i in zip(m.row, m.hit[0], m.ignored[0]) if not i]
        used |= {int(row) for row in m.truth[m.hit[0]]}
    plain = [r for r in range(len(annotations.label)) if not annotations.crowd[r]]
    about = {}
    for row, label, hit in base:
        if not hit:
            of_image = [r for r in plain if annotations.image[r] == found.image[row]]
            others = [(r, annotations.boxes[r], annotations.label[r]) for r in of_image]
            about[row] = kind_of(found.boxes[row], label, others, used)
    winner = {}
    for row, (_, target) in about.items():
        if target >= 0 and target not in used:
            rival = winner.get(target)
            if rival is None or (-found.score[row], row) < (-found.score[rival], rival):
                winner[target] = row
    labels = range(1, len(matches) + 1)
    objects = {k: sum(annotations.label[r] == k for r in plain) for k in labels}

    def ap50(detections, objects_left):
        scored = {k: [(found.score[r], h) for r, label, h in detections if label == k] for k in labels}
        return np.mean([average_precision(scored[k], objects_left[k]) for k in labels if objects[k]])

    lost = {}
    for error in ("Cls", "Loc", "Both", "Dupe", "Bkg"):
        repaired = []
        for row, label, hit in base:
            kind, target = about.get(row, ("", -1))
            if kind != error:
                repaired.append((row, label, hit))
            elif winner.get(target) == row:
                repaired.append((row, annotations.label[target], True))
        lost[error] = ap50(repaired, objects) - ap50(base, objects)
    targets = {target for _, target in about.values()}
    missed = [r for r in plain if r not in used and r not in targets]
    unfound = [r for r in plain if r not in used]
    for error, rows in (("Miss", missed), ("FN", unfound)):
        fewer = {k: objects[k] - sum(annotations.label[r] == k for r in rows) for k in labels}
        lost[error] = ap50(base, fewer) - ap50(base, objects)
    lost["FP"] = ap50([d for d in base if d[2]], objects) - ap50(base, objects)
    return lost


@pytest.mark.parametrize("seed", range(4))
def test_against_the_definitions(scene, seed):
    annotations, detections = scene(seed, tied=seed == 3)
    assert annotations.crowd.any()
    expected = naive_tide(annotations, load_predictions(detections, annotations))
    assert sum(abs(v) > 1e-3 for v in expected.values()) >= 7
    assert evaluate(annotations, detections).tide == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_against_hotcoco_without_crowds(scene, seed):
    """With crowds hotcoco (1.3) takes them for objects that a detection can be about; the paper and tidecv do not."""
    annotations, detections = scene(seed)
    annotations = replace(annotations, crowd=np.zeros_like(annotations.crowd))
    found = load_predictions(detections, annotations)
    expected = run_hotcoco(annotations, found).tide_errors()["delta_ap"]
    assert evaluate(annotations, found).tide == pytest.approx(expected, abs=1e-12)


def test_one_error_of_each_kind(records):
    """A single detection of each kind, and what its repair wins."""
    from detbalance.data.annotations import Annotations

    annotations = Annotations.from_arrays(
        classes=["a", "b"], sizes=[(99, 99)], image=[0], label=[1], boxes=[[0, 0, 10, 10]]
    )

    def tide(label, boxes):
        count = len(boxes)
        columns = np.zeros(count, int), np.full(count, label), np.array(boxes, float), np.linspace(1, 0.5, count)
        return {k: v for k, v in evaluate(annotations, records(*columns)).tide.items() if abs(v) > 1e-12}

    one = pytest.approx(1)
    assert tide(2, [[0, 0, 10, 10]]) == {"Cls": one}
    assert tide(1, [[0, 0, 10, 4]]) == {"Loc": one}
    # What no repair turns into a hit costs nothing while the object is not found.
    assert tide(1, [[50, 50, 60, 60]]) == tide(2, [[0, 0, 10, 3]]) == {}
    assert tide(1, [[50, 50, 60, 60], [0, 0, 10, 10]]) == {"Bkg": pytest.approx(0.5), "FP": pytest.approx(0.5)}
    assert tide(1, [[0, 0, 10, 10], [0, 0, 10, 9]]) == {}
