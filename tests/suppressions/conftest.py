"""Variance voting, written out."""

import math

import pytest


def overlap(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def vote_one_after_another(boxes, scores, labels, deviations, iou, sigma):
    """Algorithm 1, with the usual suppression, one detection after another."""
    boxes, deviations = boxes.tolist(), deviations.tolist()
    left, found = sorted(range(len(boxes)), key=lambda i: -scores[i]), []
    while left:
        best = left[0]
        place = []
        for k in range(4):
            top = bottom = 0.0
            for i in left:
                common = overlap(boxes[best], boxes[i])
                if labels[i] == labels[best] and common > 0:
                    weight = math.exp(-((1 - common) ** 2) / sigma) / deviations[i][k] ** 2
                    top, bottom = top + weight * boxes[i][k], bottom + weight
            place.append(top / bottom)
        found.append((best, place))
        left = [i for i in left[1:] if labels[i] != labels[best] or overlap(boxes[best], boxes[i]) <= iou]
    return found


@pytest.fixture
def voted():
    """(boxes, scores, labels, deviations, iou, sigma) -> [(row, place)]."""
    return vote_one_after_another
