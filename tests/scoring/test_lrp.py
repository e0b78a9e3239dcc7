"""oLRP against a loop that matches anew at every threshold."""

import numpy as np
import pytest

from detbalance.evaluation import evaluate


def iou(a, b) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(wide, 0) * max(high, 0)
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def naive_lrp(annotations, detections, label):
    """The least LRP over every score as a threshold, matching anew for each (paper, equations 1 to 3)."""
    objects = int(((annotations.label == label) & ~annotations.crowd).sum())
    best = {"oLRP": 1.0, "Loc": None, "FP": None, "FN": 1.0, "threshold": None}
    of_class = [d for d in detections if d["category_id"] == label]
    for threshold in sorted({d["score"] for d in of_class}, reverse=True):
        kept = sorted((d for d in of_class if d["score"] >= threshold), key=lambda d: -d["score"])
        used, distance, hits, misses = set(), 0.0, 0, 0
        for d in kept:
            x, y, w, h = d["bbox"]
            rows = [
                r
                for r in range(len(annotations.label))
                if annotations.image[r] == d["image_id"] - 1 and annotations.label[r] == label
            ]
            box, overlap = (x, y, x + w, y + h), 0.0
            match = None
            for r in rows:
                value = iou(box, annotations.boxes[r])
                if not annotations.crowd[r] and r not in used and value >= max(0.5, overlap):
                    match, overlap = r, value
            if match is not None:
                used.add(match)
                hits, distance = hits + 1, distance + 1 - overlap
            elif not any(annotations.crowd[r] and inside(box, annotations.boxes[r]) >= 0.5 for r in rows):
                misses += 1
        error = (distance / 0.5 + misses + objects - hits) / (hits + misses + objects - hits)
        if hits and error < best["oLRP"]:
            best = {
                "oLRP": error,
                "Loc": distance / hits,
                "FP": misses / (hits + misses),
                "FN": 1 - hits / objects,
                "threshold": threshold,
            }
    return best


def inside(box, crowd) -> float:
    wide, high = min(box[2], crowd[2]) - max(box[0], crowd[0]), min(box[3], crowd[3]) - max(box[1], crowd[1])
    return max(wide, 0) * max(high, 0) / ((box[2] - box[0]) * (box[3] - box[1]))


@pytest.mark.parametrize("tied", [False, True])
def test_optimal_lrp_against_every_threshold(tied, scene):
    annotations, detections = scene(3, tied=tied)
    result = evaluate(annotations, detections)
    expected = [naive_lrp(annotations, detections, k) for k in (1, 2, 3)]
    for name, values in zip(annotations.classes, expected):
        for key, value in values.items():
            assert result.by_class[name][key] == pytest.approx(value, abs=1e-12)
    assert result.olrp == pytest.approx(np.mean([v["oLRP"] for v in expected]))
    assert result.olrp_fn == pytest.approx(np.mean([v["FN"] for v in expected]))
