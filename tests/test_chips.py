"""Chips: the greedy cover is the paper's, chip by chip, and leaves out no object that any chip can hold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detbalance.chips import cover, grid, places


@st.composite
def layouts(draw):
    """Boxes in an image, and chips. Whole numbers: ties and borders that touch are usual."""
    width, height = draw(st.integers(20, 80)), draw(st.integers(20, 80))
    boxes = []
    for _ in range(draw(st.integers(0, 14))):
        x, y = draw(st.integers(0, width - 2)), draw(st.integers(0, height - 2))
        right, bottom = draw(st.integers(x + 1, min(width, x + 30))), draw(st.integers(y + 1, min(height, y + 30)))
        boxes.append((x, y, right, bottom))
    scale, stride = draw(st.sampled_from([1.0, 2.0, 3.75])), draw(st.sampled_from([1 / 16, 0.25, 1.0]))
    chip = width / scale, height / scale
    return np.array(boxes, float).reshape(-1, 4), (width, height), chip, stride


def naive(boxes, x, y, chip, least):
    """Section 3.2 read line by line: every chip against every box, again for every choice; of the best the middle."""
    left, chosen = set(range(len(boxes))), []
    while left:
        holds = {}
        for top in y:
            for start in x:
                holds[top, start] = {
                    g
                    for g in left
                    if start <= boxes[g][0] + 1e-6
                    and top <= boxes[g][1] + 1e-6
                    and boxes[g][2] <= start + chip[0] + 1e-6
                    and boxes[g][3] <= top + chip[1] + 1e-6
                }
        most = max(len(inside) for inside in holds.values())
        if most < least:
            break
        rows = [top for top in y if any(len(holds[top, start]) == most for start in x)]
        top = rows[(len(rows) - 1) // 2]
        columns = [start for start in x if len(holds[top, start]) == most]
        start = columns[(len(columns) - 1) // 2]
        chosen.append((start, top))
        left -= holds[top, start]
    return chosen, left


@given(layouts(), st.integers(1, 3))
@settings(max_examples=200, deadline=None)
def test_the_cover_is_that_of_the_naive_loop(layout, least):
    boxes, size, chip, stride = layout
    x, y = places(size, chip, stride)
    corners, covered = cover(boxes, x, y, chip, least=least)
    chosen, left = naive(boxes.tolist(), x.tolist(), y.tolist(), chip, least)
    assert corners.tolist() == [list(corner) for corner in chosen]
    if least == 1:
        assert set(np.flatnonzero(~covered)) == left


@given(layouts())
@settings(max_examples=200, deadline=None)
def test_every_object_that_fits_lies_wholly_in_a_chosen_chip(layout):
    boxes, size, chip, stride = layout
    x, y = places(size, chip, stride)
    corners, covered = cover(boxes, x, y, chip)
    for box, is_covered in zip(boxes, covered):
        inside = (corners <= box[:2] + 1e-6) & (box[2:] <= corners + chip + 1e-6)
        assert inside.all(1).any() == is_covered
        # A grid of such steps holds, in some chip, all that is smaller than a chip by a step.
        small = [side <= (1 - stride) * c for side, c in zip(box[2:] - box[:2], chip)]
        assert is_covered or not all(small)
    assert (corners >= 0).all()
    assert (corners + chip <= np.array(size) + 1e-6).all()
    assert len(corners) <= len(boxes)


@given(st.integers(1, 200), st.integers(1, 250), st.floats(0.05, 1))
def test_the_grid_reaches_both_borders_without_a_gap(length, chip, stride):
    starts = grid(length, chip, stride * chip)
    assert starts[0] == 0
    assert starts[-1] == max(0, length - chip)
    assert (np.diff(starts) >= 0).all()
    assert (np.diff(starts) <= stride * chip + 1e-9).all()


def test_the_cover_of_many_objects_is_fast_and_small():
    """A large image of tiny objects: the table of all chips and boxes would have 18 million entries."""
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 3960, (9000, 2))
    boxes = np.concatenate((corner, corner + rng.uniform(4, 40, (9000, 2))), 1)
    x, y = places((4000, 4000), (4000 / 3.75, 4000 / 3.75), 1 / 16)
    corners, covered = cover(boxes, x, y, (4000 / 3.75, 4000 / 3.75))
    assert covered.all()
    assert len(corners) <= 40


def test_nothing_to_cover():
    corners, covered = cover(np.zeros((0, 4)), np.zeros(1), np.zeros(1), (4, 4))
    assert corners.shape == (0, 2)
    assert covered.shape == (0,)
    with pytest.raises(ValueError, match="reshape"):
        cover(np.zeros(3), np.zeros(1), np.zeros(1), (4, 4))
