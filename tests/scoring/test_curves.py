"""Score curves against loops over detections and objects."""

import numpy as np
import pytest

from detbalance.detections import load_predictions
from detbalance.evaluation import score_by_iou
from detbalance.scoring.curves import nearest_iou


def iou(a, b) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(wide, 0) * max(high, 0)
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def test_score_by_iou_against_a_loop(scene):
    annotations, detections = scene(4)
    nearest = []
    for d in detections:
        x, y, w, h = d["bbox"]
        near = [
            iou((x, y, x + w, y + h), annotations.boxes[r])
            for r in range(len(annotations.label))
            if annotations.image[r] == d["image_id"] - 1
            and annotations.label[r] == d["category_id"]
            and not annotations.crowd[r]
        ]
        nearest.append(max(near, default=0.0))
    found = load_predictions(detections, annotations)
    np.testing.assert_allclose(nearest_iou(annotations, found), nearest, atol=1e-12)
    curve = score_by_iou(annotations, detections, bins=4)
    for b in range(4):
        inside_bin = [d["score"] for d, v in zip(detections, nearest) if b == min(int(v * 4), 3)]
        assert curve["count"][b] == len(inside_bin)
        assert curve["score"][b] == pytest.approx(np.mean(inside_bin))
    assert score_by_iou(annotations, [], bins=2) == {"iou": [0, 0.5, 1], "score": [None, None], "count": [0, 0]}
