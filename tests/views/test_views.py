"""Windows over random layouts: no object is lost at a border, every valid one lies wholly in a window, and what is
valid in a window is what the papers say, object by object."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detbalance import listing
from detbalance.data.annotations import Annotations
from detbalance.views import SNIP, SNIPER, Sliced
from detbalance.views._windows import Windows

METHODS = (SNIP, SNIPER, Sliced)
SIZE = (48, 64)
every = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.__name__)


def annotations(boxes, sizes=((200, 150),), image=None, crowd=None):
    boxes = np.array(boxes, float).reshape(-1, 4)
    image = np.zeros(len(boxes), int) if image is None else image
    label = np.ones(len(boxes), int)
    return Annotations.from_arrays(classes=["a"], sizes=sizes, image=image, label=label, boxes=boxes, crowd=crowd)


@st.composite
def layouts(draw):
    """The objects of one image, of all sizes and shapes, some at its borders."""
    width, height = draw(st.integers(40, 300)), draw(st.integers(40, 300))
    boxes = []
    for _ in range(draw(st.integers(0, 12))):
        w, h = (
            max(1, round(side * draw(st.sampled_from([0.01, 0.05, 0.1, 0.2, 0.4, 0.9])))) for side in (width, height)
        )
        x, y = draw(st.integers(0, width - w)), draw(st.integers(0, height - h))
        boxes.append((x, y, x + w, y + h))
    return annotations(boxes, [(width, height)])


def drawn(views, i=0, *, seed=0, turns):
    """What an image shows at its first turns of an epoch."""
    return [views(i, nth, np.random.default_rng((seed, i))) for nth in range(turns)]


def inside(box, window):
    return all(box[k] >= window[k] - 1e-6 for k in (0, 1)) and all(box[k] <= window[k] + 1e-6 for k in (2, 3))


def share_seen(box, window):
    w = min(box[2], window[2]) - max(box[0], window[0])
    h = min(box[3], window[3]) - max(box[1], window[1])
    return (w * h if w > 0 and h > 0 else 0.0) / ((box[2] - box[0]) * (box[3] - box[1]))


def valid_at(views, data, box):
    """The scales at which one object is valid, read from the papers: its side, and whether a chip can hold it."""
    width, height = data.sizes[0].tolist()
    side, whole = math.sqrt((box[2] - box[0]) * (box[3] - box[1])), math.sqrt(width * height)
    fit, valid = [], []
    for number, (scale, (low, high)) in enumerate(zip(views.scales, views.ranges)):
        chip = width / scale, height / scale
        if isinstance(views, SNIPER):
            steps = [(length, c, math.ceil(length / c / views.stride)) for length, c in zip((width, height), chip)]
            corners = [[min(k * views.stride * c, length - c) for k in range(count)] for length, c, count in steps]
            ok = any(inside(box, (x, y, x + chip[0], y + chip[1])) for x in corners[0] for y in corners[1])
        else:
            ok = box[2] - box[0] <= chip[0] and box[3] - box[1] <= chip[1]
        if ok:
            fit.append(number)
        if ok and low * whole <= side and (side <= high * whole or high >= 1):
            valid.append(number)
    return valid or fit[:1]  # finest first


@given(layouts(), st.sampled_from([1 / 16, 0.25]))
@settings(max_examples=60, deadline=None)
def test_every_valid_object_lies_wholly_in_a_chip_of_each_of_its_scales(data, stride):
    views = SNIPER(negatives=0, stride=stride).fit(data, SIZE)
    chips, scale = views.chips.boxes, views.chips.scale
    valid = views.valid(data.boxes, tuple(data.sizes[0].tolist()))
    for g, box in enumerate(data.boxes.tolist()):
        scales = valid_at(views, data, box)
        assert np.flatnonzero(valid[:, g]).tolist() == scales
        for number in scales:
            assert any(inside(box, chip) for chip in chips[scale == number])
    # No chip is there for nothing, and each is as large as the share of the image that its scale shows.
    for chip, number in zip(chips, scale):
        held = [g for g, box in enumerate(data.boxes) if valid[number, g] and inside(box, chip)]
        assert held or (len(chips) == 1 and number == 2)
        assert np.allclose(chip[2:] - chip[:2], data.sizes[0] / views.scales[number])
        assert inside(chip, (0, 0, *data.sizes[0]))


@given(layouts(), st.sampled_from(["snip", "sniper"]))
@settings(max_examples=30, deadline=None)
def test_an_epoch_trains_every_object_whole_and_only_where_it_is_valid(data, which):
    views = {"snip": SNIP(), "sniper": SNIPER(negatives=0)}[which].fit(data, SIZE)
    width, height = data.sizes[0].tolist()
    whole, trained = math.sqrt(width * height), set()
    turns = 6 if which == "snip" else int(views.chips.counts()[0])
    for view in drawn(views, turns=turns):
        scale = width / (view.window[2] - view.window[0])
        number = int(np.argmin(np.abs(np.array(views.scales) - scale)))
        low, high = views.ranges[number]
        for g, box in enumerate(data.boxes.tolist()):
            share = share_seen(box, view.window)
            if share > 1 - 1e-6:
                assert view.valid[g] == (number in valid_at(views, data, box))
                trained |= {g} if view.valid[g] else set()
            else:
                side = math.sqrt(share * (box[2] - box[0]) * (box[3] - box[1]))
                expected = share >= max(views.visible, 1e-12) and low * whole <= side
                expected &= side <= high * whole or high >= 1
                assert abs(side - low * whole) < 1e-6 or abs(side - high * whole) < 1e-6 or view.valid[g] == expected
            if view.valid[g] and share > 1 - 1e-6:
                side = math.sqrt((box[2] - box[0]) * (box[3] - box[1]))
                assert view.range[0] - 1e-6 <= side <= view.range[1] + 1e-6
    if which == "sniper":  # SNIP draws its windows, so that in any one epoch chance may leave some out
        assert trained == set(range(len(data.boxes)))


@given(layouts(), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_snips_windows_together_hold_every_object(data, seed):
    """Those of one epoch, out of which one is shown; each lies in the image."""
    size, rng = tuple(data.sizes[0].tolist()), np.random.default_rng(seed)
    chip = size[0] / 1.75, size[1] / 1.75
    boxes = data.boxes[((data.boxes[:, 2:] - data.boxes[:, :2]) <= chip).all(1)]
    windows = [(*corner, *(corner + chip)) for corner in SNIP(candidates=5)._corners(boxes, size, chip, rng)]
    assert all(inside(window, (0, 0, *size)) for window in windows)
    assert all(any(inside(box, window) for window in windows) for box in boxes)
    assert 1 <= len(windows) <= max(1, len(boxes))


@given(layouts(), st.sampled_from([0.1, 0.25, 0.5]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_no_object_is_lost_at_the_seams_of_slices(data, overlap, whole):
    views = Sliced(overlap=overlap, whole=whole).fit(data, SIZE)
    shown = {view.window: view for view in drawn(views, turns=int(views.windows.counts()[0]))}
    assert len(shown) == views.windows.counts()[0]  # a pass shows none twice
    for g, box in enumerate(data.boxes.tolist()):
        for view in shown.values():
            share = share_seen(box, view.window)
            assert view.valid[g] == (share > 0 and share >= views.visible)
            assert view.range is None
        small = all(box[2 + a] - box[a] <= int(overlap * SIZE[1 - a]) for a in (0, 1))
        if whole or small:
            assert any(view.valid[g] and inside(box, view.window) for view in shown.values())
    kinds = views.windows.background
    assert views.windows.drawn[0] <= max(1, np.count_nonzero(~kinds))


def test_negative_chips_are_those_of_uncovered_proposals():
    data = annotations([[10, 10, 22, 22]])
    near = [[8 + k, 8, 20 + k, 20] for k in range(5)]  # in the positive chip
    far = [[150 + k, 100, 162 + k, 112] for k in range(5)]
    large = [[60, 60, 190, 149]] * 5  # of no size for the finest scale
    views = SNIPER(least=5).fit(data, SIZE, [np.array(near + far, float)])
    chips = views.chips
    assert chips.background.any()
    for chip, scale, negative in zip(chips.boxes, chips.scale, chips.background):
        held = [sum(inside(box, chip) for box in boxes) for boxes in (near, far)]
        assert held == ([0, 5] if negative else [5, 0]), (chip, scale)
    assert set(chips.scale) == {0, 1}
    views = SNIPER(least=5).fit(data, SIZE, [np.array(large, float)])
    assert views.chips.scale[views.chips.background].tolist() == [2]
    assert not SNIPER(least=6).fit(data, SIZE, [np.array(far, float)]).chips.background.any()


def test_a_pass_shows_so_many_negative_chips_and_others_in_the_next():
    proposals = [np.array([[x, y, x + 5, y + 5] for x in range(0, 190, 40) for y in range(0, 140, 40)], float)]
    views = SNIPER(least=1).fit(annotations([]), SIZE, proposals)
    assert views.chips.background.all()
    assert views.chips.counts().tolist() == [2]
    assert views.epoch(views.data, 0, np.random.default_rng(0)).tolist() == [0, 0]
    shown = [{view.window for view in drawn(views, seed=seed, turns=2)} for seed in range(20)]
    assert all(len(windows) == 2 for windows in shown)
    assert len(set.union(*shown)) > 4


def test_images_without_objects_or_chips_show_the_whole():
    data = annotations([[0, 0, 9, 9]], [(64, 48)] * 3, crowd=[True])
    for views in (SNIPER(negatives=0).fit(data, SIZE), Sliced().fit(data, SIZE)):
        assert [views(i, 0, np.random.default_rng(0)).window for i in range(3)] == [(0, 0, 64, 48)] * 3
    view = SNIP().fit(data, SIZE)(1, 0, np.random.default_rng(0))
    assert view.valid.shape == (0,)


def test_windows_come_each_once_a_pass():
    boxes = [np.arange(12.0).reshape(3, 4), np.arange(4.0).reshape(1, 4)]
    background = [np.array([False, True, True]), np.array([False])]
    windows = Windows.of(list(zip(boxes, [np.zeros(3), np.zeros(1)], background)), np.array([1, 5]))
    assert windows.counts().tolist() == [2, 1]
    assert sorted(windows.epoch(np.random.default_rng(0)).tolist()) == [0, 0, 1]
    for seed in range(9):
        turns = [windows.pick(0, nth, np.random.default_rng(seed)) for nth in range(4)]
        assert len(set(turns[:2])) == 2
        assert 0 in turns[:2]
        assert turns[2:] == turns[:2]
        assert windows.pick(1, seed, np.random.default_rng(seed)) == 3


@every
def test_it_has_to_know_the_data_first(method):
    with pytest.raises(ValueError, match=f"{method.__name__}.*fit"):
        method()(0, 0, np.random.default_rng(0))


@every
def test_fitting_gives_a_copy_that_prints_as_the_original(method):
    one, data = method(), annotations([])
    other = one.fit(data, SIZE, [np.zeros((0, 4))])
    assert one.data is None
    assert other.data is data
    assert repr(other) == repr(one)
    assert other == one


@every
def test_an_image_of_unknown_size_is_named(method):
    data = Annotations.from_arrays(classes=["a"], sizes=[(0, 0)], image=[], label=[], boxes=[], file_names=["lost.jpg"])
    with pytest.raises(ValueError, match=r"lost\.jpg.*size"):
        method().fit(data, SIZE, [np.zeros((0, 4))])(0, 0, np.random.default_rng(0))


@every
def test_settings_out_of_range_are_refused(method):
    wrong = {
        "scales": [(), (2.0, 1.5, 1.2), (0.0, 1.0, 2.0)],
        "ranges": [((0.0, 1.0),), ((0.0, 0.1), (0.2, 0.3), (0.3, 1.0))],
        "visible": [1.5],
        "candidates": [0],
        "stride": [0.0, 1.5],
        "negatives": [-1],
        "least": [0],
        "weak": [2.0],
        "overlap": [1.0],
        "empty": [-1.0],
        "size": [(4, 4)],
    }
    for name in wrong:
        for value in wrong[name] if name in method.__dataclass_fields__ else ():
            with pytest.raises(ValueError, match=name):
                method(**{name: value})


def test_sniper_asks_for_proposals():
    assert SNIPER().needs_proposals
    assert not SNIPER(negatives=0).needs_proposals
    with pytest.raises(ValueError, match="proposals"):
        SNIPER().fit(annotations([]), SIZE)


def test_the_catalogue_tells_snip_from_sniper():
    assert [line for line in listing._method(SNIP) if line.startswith("recipes: ")] == ["recipes: snip"]
