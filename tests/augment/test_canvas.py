"""Pasting: what is seen, what is hidden, boxes and masks against loops over pixels; cuts and blends."""

import pickle

import numpy as np
import pytest
import torch

from detbalance.augment import _blend
from detbalance.augment._blend import blend, poisson
from detbalance.augment._canvas import Canvas, uncovered
from detbalance.augment._objects import Objects, settled, shares
from detbalance.augment._piece import Cuts, Piece, cut, trimmed, turned
from detbalance.augment._place import place
from detbalance.boxes import box_iou
from detbalance.data.annotations import Annotations


def disc(radius, label=1):
    """A white disc as a piece."""
    side = 2 * radius + 1
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    mask = (y - radius) ** 2 + (x - radius) ** 2 <= radius**2
    return trimmed(torch.ones(3, side, side), mask[None], torch.tensor([label]))


def naive(owners, totals, hidden):
    """number -> box of what is seen of it, by loops; those hidden too much are left out."""
    found = {}
    for number, total in totals.items():
        pixels = [(x, y) for y, row in enumerate(owners) for x, owner in enumerate(row) if owner == number]
        if pixels and len(pixels) >= (1 - hidden) * total:
            xs, ys = [p[0] for p in pixels], [p[1] for p in pixels]
            found[number] = [min(xs), min(ys), max(xs) + 1, max(ys) + 1]
    return found


@pytest.mark.parametrize("hidden", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_what_is_seen_against_loops(world, seed, hidden):
    rng = np.random.default_rng(seed)
    image, target = world(seed).others(seed)
    canvas = Canvas(image, target)
    owners = np.zeros(canvas.size, int)
    totals = {}
    for number, mask in enumerate(target["masks"].numpy(), 1):
        owners[mask > 0] = number
        totals[number] = int(mask.sum())
    for number in range(100, 105):
        radius, left, top = (int(v) for v in rng.integers((2, -6, -6), (9, 60, 44)))
        side, inside = 2 * radius + 1, 0
        for y in range(side):
            for x in range(side):
                if (y - radius) ** 2 + (x - radius) ** 2 <= radius**2:
                    row, column = top + y, left + x
                    if 0 <= row < canvas.size[0] and 0 <= column < canvas.size[1]:
                        owners[row, column] = number
                        inside += 1
        assert canvas.paste(disc(radius, label=number), left, top, "none") == (inside > 0)
        totals[number] = inside
    made, objects = canvas.finish(hidden)
    expected = naive(owners, totals, hidden)
    assert objects["boxes"].tolist() == list(expected.values())
    labels = [int(target["labels"][n - 1]) if n < 100 else n for n in expected]
    assert objects["labels"].tolist() == labels
    np.testing.assert_array_equal(objects["masks"].numpy(), [owners == n for n in expected])
    np.testing.assert_array_equal(made[:, owners >= 100], 255)
    np.testing.assert_array_equal(made[:, owners < 100], image[:, owners < 100])
    assert objects["boxes"].canvas_size == canvas.size


def test_uncovered_against_loops():
    rng = np.random.default_rng(0)
    low = rng.uniform(-3, 20, (40, 2))
    boxes = torch.from_numpy(np.concatenate((low, low + rng.uniform(0.2, 14, (40, 2))), 1))
    cover = torch.from_numpy(rng.random((18, 24)) < 0.6)
    cover[4:9] = True
    share, seen = uncovered(boxes, cover)
    for box, s, b in zip(boxes.tolist(), share.tolist(), seen.tolist()):
        x1, y1, x2, y2 = (int(np.floor(box[0])), int(np.floor(box[1])), int(np.ceil(box[2])), int(np.ceil(box[3])))
        there = [(x, y) for y in range(max(y1, 0), min(y2, 18)) for x in range(max(x1, 0), min(x2, 24))]
        free = [(x, y) for x, y in there if not cover[y, x]]
        if not there:
            assert s == 1
            continue
        assert s == pytest.approx(len(free) / len(there))
        if free:
            xs, ys = zip(*free)
            tight = [max(min(xs), box[0]), max(min(ys), box[1]), min(max(xs) + 1, box[2]), min(max(ys) + 1, box[3])]
            assert b == pytest.approx(tight)


def test_nothing_pasted_changes_nothing(world):
    image, target = world().others(0)
    made, objects = Canvas(image, target).finish(0.5)
    assert made is image
    assert objects is target


def test_without_masks_an_untouched_box_stays_to_the_last_digit():
    image = torch.zeros(3, 40, 40)
    boxes = torch.tensor([[1.3, 2.7, 10.2, 12.9], [20.5, 20.5, 30.5, 30.5]])
    canvas = Canvas(image, {"boxes": boxes, "labels": torch.tensor([1, 2])})
    canvas.paste(disc(12, label=3), 18, 18, "none")
    _, objects = canvas.finish(0.7)
    assert objects["labels"].tolist() == [1, 3]
    assert objects["boxes"][0].equal(boxes[0])


# ---- cuts ---------------------------------------------------------------------------------------------------------


def test_a_cut_along_the_mask_is_the_mask(world):
    image, target = world(1).others(0)
    for row, mask in enumerate(target["masks"]):
        piece = cut(image, target, row, how="saliency")
        x1, y1, x2, y2 = piece.bounds
        bx1, by1, bx2, by2 = target["boxes"][row].int().tolist()
        assert (x2 - x1, y2 - y1) == (bx2 - bx1, by2 - by1)
        assert piece.masks[0, y1:y2, x1:x2].equal(mask[by1:by2, bx1:bx2] > 0)
        assert torch.equal((piece.pixels[:, y1:y2, x1:x2] * 255).round(), image[:, by1:by2, bx1:bx2].float())


def test_saliency_finds_the_object(world):
    """Discs of one colour on a noisy ground: the cut is the disc, but for a few pixels of its edge."""
    data, known, agreement = world(3, masks=False, most=1), world(3, most=1), []
    for i in range(len(data.annotations)):
        image, target = data.others(i)
        mask = known.others(i)[1]["masks"][0] > 0
        piece = cut(image, target, 0, how="saliency")
        canvas = Canvas(torch.zeros(3, *mask.shape), {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long()})
        bx1, by1 = target["boxes"][0, :2].int().tolist()
        canvas.paste(piece, bx1, by1, "none")
        found = canvas.front > 0
        agreement.append(float((found & mask).sum() / (found | mask).sum()))
    assert min(agreement) > 0.8
    assert sum(agreement) / len(agreement) > 0.9


def test_saliency_of_nothing_is_the_ellipse_or_the_box():
    """In a plain image nothing stands out, and around the whole image there is nothing."""
    image = torch.full((3, 40, 40), 99, dtype=torch.uint8)
    target = {"boxes": torch.tensor([[10.0, 10, 30, 25]]), "labels": torch.tensor([1])}
    piece = cut(image, target, 0, how="saliency")
    assert piece.masks.sum() / (20 * 15) == pytest.approx(np.pi / 4, abs=0.02)
    everything = {"boxes": torch.tensor([[0.0, 0, 40, 40]]), "labels": torch.tensor([1])}
    assert cut(image, everything, 0, how="saliency").masks.sum() == 1600


def test_what_lies_on_an_object_travels_with_it():
    image = torch.rand(3, 40, 40)
    boxes = torch.tensor([[5.0, 5, 25, 25], [10, 10, 16, 14], [20, 20, 30, 30], [5, 5, 25, 25]])
    target = {"boxes": boxes, "labels": torch.tensor([1, 2, 3, 4])}
    piece = cut(image, target, 0, how="box")
    assert piece.labels.tolist() == [1, 2]
    canvas = Canvas(torch.zeros(3, 50, 60), {"boxes": boxes[:0], "labels": target["labels"][:0]})
    canvas.paste(turned(piece, scale=(0.5, 2.0)), 20, 3, "none")
    _, objects = canvas.finish(0.5)
    assert objects["labels"].tolist() == [1, 2]
    assert (objects["boxes"] - torch.tensor([[20.0, 3, 30, 43], [22.5, 13, 25.5, 21]])).abs().max() <= 1


@pytest.mark.parametrize("box", [[-5.0, -5, 0, 0], [3, 3, 3, 9], [50, 50, 60, 60]])
def test_a_box_without_pixels_is_not_cut(box):
    target = {"boxes": torch.tensor([box]), "labels": torch.tensor([1])}
    assert cut(torch.rand(3, 40, 40), target, 0, how="saliency") is None


def test_turned_by_nothing_and_by_a_full_turn():
    piece = disc(7)
    for other in (turned(piece), turned(turned(piece, flip=True), flip=True)):
        assert other.masks.equal(piece.masks)
    around = turned(turned(turned(turned(piece, degrees=90), degrees=90), degrees=90), degrees=90)
    assert (around.masks ^ piece.masks).float().mean() < 0.05
    bar = trimmed(torch.ones(3, 5, 21), torch.ones(1, 5, 21).bool(), torch.tensor([1]))
    x1, y1, x2, y2 = turned(bar, degrees=90).bounds
    assert abs(x2 - x1 - 5) <= 1
    assert abs(y2 - y1 - 21) <= 1
    assert turned(piece, scale=2.0).bounds[2] - turned(piece, scale=2.0).bounds[0] == pytest.approx(30, abs=1)


def test_what_was_cut_is_kept_within_its_limit(world):
    """The same pieces as without memory, each cut once; what was used longest ago goes; another process has nothing."""
    data, looked = world(2, masks=False), []

    def others(i):
        looked.append(i)
        return data.others(i)

    cuts = Cuts()
    pieces = [cuts(others, i, 0, how="box") for i in (0, 1, 0, 1)]
    assert looked == [0, 1]
    assert pieces[0] is pieces[2]
    fresh = cut(*data.others(1), 0, how="box")
    assert pieces[1].pixels.equal(fresh.pixels)
    assert pieces[1].masks.equal(fresh.masks)
    assert cuts(others, 0, 0, how="saliency").masks.sum() != pieces[0].masks.sum()  # another cut
    assert pickle.loads(pickle.dumps(cuts)).used == 0

    small = Cuts(limit=cuts.used // 2)
    for i in (0, 1, 2, 3, 0, 3):
        small(others, i, 0, how="box")
        assert small.used <= small.limit
    del looked[:]
    small(others, 3, 0, how="box")
    assert looked == []
    small(others, 1, 0, how="box")
    assert looked == [1]
    assert Cuts(limit=0)(others, 0, 0, how="box").pixels.equal(pieces[0].pixels)


# ---- blends -------------------------------------------------------------------------------------------------------


def solved_by_loops(view, pixels, mask):
    """Equation 7 of Perez et al. as a dense table, one unknown at a time."""
    height, width = mask.shape
    number = {(y, x): i for i, (y, x) in enumerate(zip(*np.nonzero(mask)))}
    result = view.copy()
    for channel in range(3):
        table, right = np.zeros((len(number), len(number))), np.zeros(len(number))
        for (y, x), i in number.items():
            for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                p = (y + dy, x + dx)
                if not (0 <= p[0] < height and 0 <= p[1] < width):
                    continue
                table[i, i] += 1
                right[i] += pixels[channel, y, x] - pixels[channel][p]
                if p in number:
                    table[i, number[p]] -= 1
                else:
                    right[i] += view[channel][p]
        for (y, x), value in zip(number, np.linalg.solve(table, right)):
            result[channel, y, x] = value
    return result


@pytest.mark.parametrize("seed", range(3))
def test_poisson_against_a_dense_solve(seed):
    rng = np.random.default_rng(seed)
    view, pixels = rng.random((2, 3, 9, 11))
    mask = rng.random((9, 11)) < 0.6
    mask[0, :4] = True  # at the window's edge: no condition from beyond
    np.testing.assert_allclose(poisson(view, pixels, mask), solved_by_loops(view, pixels, mask), atol=1e-10)


@pytest.mark.parametrize("band", [0, 10**9], ids=["sparse", "banded"])
def test_poisson_by_either_table(band, monkeypatch):
    """Small pieces are solved by a banded table, large ones by a sparse one; float32 is as good as bytes need."""
    rng = np.random.default_rng(0)
    view, pixels = rng.random((2, 3, 12, 17))
    mask = rng.random((12, 17)) < 0.7
    monkeypatch.setattr(_blend, "_BAND", band)
    expected = solved_by_loops(view, pixels, mask)
    np.testing.assert_allclose(poisson(view, pixels, mask), expected, atol=1e-10)
    low = poisson(view.astype(np.float32), pixels.astype(np.float32), mask)
    assert low.dtype == np.float32
    np.testing.assert_allclose(low, expected, atol=1e-4)


def test_poisson_takes_the_colours_of_the_place():
    """A piece that differs by a constant vanishes; without a border, and without a mask, nothing is solved."""
    view, mask = np.random.default_rng(0).random((3, 8, 9)), np.zeros((8, 9), bool)
    mask[2:6, 3:7] = True
    np.testing.assert_allclose(poisson(view, view + 0.3, mask), view, atol=1e-12)
    np.testing.assert_array_equal(poisson(view, view + 0.3, mask | True), view + 0.3)
    np.testing.assert_array_equal(poisson(view, view + 0.3, mask & False), view)


def test_gaussian_against_loops():
    rng = np.random.default_rng(0)
    view, pixels = torch.from_numpy(rng.random((2, 3, 12, 12))).float()
    mask = torch.zeros(12, 12, dtype=torch.bool)
    mask[4:9, 3:8] = True
    kernel = np.exp(-(np.arange(-2, 3) ** 2) / 8)
    kernel /= kernel.sum()
    made = blend("gaussian", view, pixels, mask)
    for y in range(12):
        for x in range(12):
            alpha = sum(
                kernel[i + 2] * kernel[j + 2]
                for i in range(-2, 3)
                for j in range(-2, 3)
                if 0 <= y + i < 12 and 0 <= x + j < 12 and mask[y + i, x + j]
            )
            expected = alpha * pixels[:, y, x] + (1 - alpha) * view[:, y, x]
            torch.testing.assert_close(made[:, y, x], expected, atol=1e-5, rtol=0)


# ---- places and objects -------------------------------------------------------------------------------------------


def test_places_keep_the_limits():
    torch.manual_seed(0)
    boxes = torch.tensor([[10.0, 10, 30, 30], [40, 5, 60, 25]])
    found = [place(16, 20, (48, 64), boxes, outside=0.75, overlap=0.3) for _ in range(200)]
    found = torch.tensor([f for f in found if f is not None])
    shown = torch.cat((found, found + torch.tensor([16, 20])), 1).double()
    shown = torch.stack((shown[:, 0::2].clamp(0, 64), shown[:, 1::2].clamp(0, 48)), 2).flatten(1)
    inside = (shown[:, 2:] - shown[:, :2]).prod(1) / 320
    assert inside.min() >= 0.25
    assert (inside < 0.5).any()
    assert box_iou(shown, boxes.double()).max() <= 0.3
    assert place(16, 20, (48, 64), torch.tensor([[0.0, 0, 64, 48]]), overlap=0.0) is None
    inner = [place(64, 48, (48, 64), boxes[:0]) for _ in range(5)]
    assert set(inner) == {(0, 0)}


def annotations(label, box=None, image=None):
    box = [[8 * i, 0, 8 * i + 8, 8] for i in range(len(label))] if box is None else box
    image = [0] * len(label) if image is None else image
    sizes = [(400, 400)] * (max(image, default=0) + 1)
    return Annotations.from_arrays(classes=["a", "b", "c"], sizes=sizes, image=image, label=label, boxes=box)


def test_shares_of_classes():
    counts, names = np.array([60, 30, 0]), ("a", "b", "c")
    assert shares("data", counts, names).round(3).tolist() == [0.667, 0.333, 0]
    assert shares("even", counts, names).tolist() == [0.5, 0.5, 0]
    assert shares("inverse", counts, names).round(3).tolist() == [0.333, 0.667, 0]
    assert shares(settled({"b": 2, 1: 6, "c": 5}), counts, names).tolist() == [0.75, 0.25, 0]
    assert shares(settled([1, 3, 9]), counts, names).tolist() == [0.25, 0.75, 0]
    for wrong in ({"d": 1}, {4: 1}, [1, 2], {"c": 1}):
        with pytest.raises(ValueError, match="classes"):
            shares(settled(wrong), counts, names)
    for wrong in ("most", [], [0, 0], [-1, 2], [float("nan")], 3):
        with pytest.raises(ValueError, match="classes"):
            settled(wrong)


def test_objects_that_stand_free_are_preferred():
    """Two that overlap are not cut, unless their class has no other; what lies within another hinders nobody."""
    box = [[0, 0, 20, 20], [10, 0, 30, 20], [100, 0, 120, 20], [105, 5, 110, 10], [200, 0, 220, 20], [205, 0, 225, 20]]
    found = Objects.of(annotations([1, 1, 1, 2, 3, 3], box), "even")
    assert found.first.tolist() == [0, 1, 2, 4]
    assert found.row.tolist() == [2, 3, 4, 5]


def test_rows_are_those_of_the_target_without_crowds():
    data = Annotations.from_arrays(
        classes=["a"],
        sizes=[(400, 400)] * 3,
        image=[0, 0, 2, 2],
        label=[1, 1, 1, 1],
        boxes=[[0, 0, 9, 9], [50, 0, 59, 9], [0, 0, 9, 9], [50, 0, 59, 9]],
        crowd=[True, False, False, True],
    )
    found = Objects.of(data, "even")
    assert list(zip(found.image.tolist(), found.row.tolist())) == [(0, 0), (2, 0)]


@pytest.mark.parametrize("order", ["even", "data", "inverse", {"c": 1, "a": 2}, [5, 1, 1]])
def test_drawn_classes_follow_the_order(order):
    data = annotations([1] * 12 + [2] * 4 + [3])
    found, draws = Objects.of(data, settled(order)), 3000
    torch.manual_seed(0)
    counts = np.bincount([found.kind(found.draw()) for _ in range(draws)], minlength=3)
    expected = found.share * draws
    assert counts[expected == 0].sum() == 0
    there = expected > 0
    assert ((counts - expected)[there] ** 2 / expected[there]).sum() < 13.8  # 0.1 % of chi-square with 2 degrees


def test_nothing_to_draw():
    assert Objects.of(annotations([]), "even").draw() is None
    assert Objects.of(annotations([]), None).draw_image() == 0


def test_pieces_are_compared_by_identity():
    assert isinstance(disc(3), Piece)
    assert disc(3) != disc(3)
