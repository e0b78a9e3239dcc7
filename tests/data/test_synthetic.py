"""The generated data: exact boxes, dials that turn what they say, files that are whole or absent."""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from detbalance.data import synthetic
from detbalance.data._outlines import CLASSES, outline, rasterise
from detbalance.data._scene import VISIBLE, Scene, Thing, compose
from detbalance.data.readers import read
from detbalance.data.synthetic import DIALS, Dials, disturb, draw_image, make_dataset
from detbalance.taxonomy import Imbalance

CROWDED = Dials(objects_per_image=12, overlap=1.0, lookalikes=0.5, orientation=1.0, aspect=0.5, classes=16)


def scenes(dials, count=60, seed=0):
    return [compose(np.random.default_rng([seed, i]), dials) for i in range(count)]


def objects(dials, count=60, seed=0):
    """Boxes (image by image) and all labels."""
    found = [scene.boxes() for scene in scenes(dials, count, seed)]
    return [boxes for boxes, _ in found], np.concatenate([labels for _, labels in found])


def sides(boxes):
    """Width and height of each."""
    boxes = np.concatenate(boxes)
    return (boxes[:, 2:] - boxes[:, :2]).T


def visible_by_hand(scene):
    """Which thing is seen at each pixel, painted naively from back to front."""
    seen = np.zeros(scene.owner.shape, int)
    for number in scene.order:
        thing = scene.things[number - 1]
        for row in range(thing.alpha.shape[0]):
            for column in range(thing.alpha.shape[1]):
                if thing.alpha[row, column] >= 0.5:
                    seen[thing.y + row, thing.x + column] = number
    return seen


# Pictures


def test_the_same_seed_gives_the_same_picture():
    first, second = (draw_image(np.random.default_rng([3, 1]), CROWDED) for _ in range(2))
    for a, b in zip(first, second):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[0], draw_image(np.random.default_rng([3, 2]), CROWDED)[0])


@pytest.mark.parametrize("size", [(64, 64), (256, 192), (100, 333)])
def test_form_of_a_picture(size):
    for i in range(8):
        image, boxes, labels = draw_image(np.random.default_rng(i), Dials(width=size[0], height=size[1], classes=6))
        assert image.shape == (size[1], size[0], 3)
        assert image.dtype == np.uint8
        assert boxes.shape == (len(labels), 4)
        assert boxes.dtype == np.float64
        assert labels.dtype == np.int64
        assert ((boxes >= 0) & (boxes <= np.array(size * 2))).all()
        assert (boxes[:, :2] < boxes[:, 2:]).all()
        assert np.isin(labels, np.arange(1, 7)).all()


@pytest.mark.parametrize("dials", [Dials(), CROWDED, Dials(overlap=0.5, scale=1.0, objects_per_image=15)])
def test_boxes_are_tight_around_what_is_seen(dials):
    for scene in scenes(dials, 6):
        seen = visible_by_hand(scene)
        np.testing.assert_array_equal(seen, scene.owner)
        expected = []
        for number, thing in enumerate(scene.things, 1):
            rows, columns = np.nonzero(seen == number)
            assert len(rows) == thing.visible or not thing.label
            if thing.label:
                assert len(rows) >= VISIBLE * (thing.alpha >= 0.5).sum()
                expected.append((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
        boxes, labels = scene.boxes()
        np.testing.assert_array_equal(boxes, np.array(expected).reshape(-1, 4))
        assert labels.tolist() == [thing.label for thing in scene.things if thing.label]


def test_boxes_fit_the_painted_pixels(monkeypatch):
    """Painted white on black, without light and noise, the pixels at least half white touch all sides of the box."""
    monkeypatch.setattr(synthetic.drawing, "background", lambda rng, w, h: np.zeros((3, h, w), np.float32))
    monkeypatch.setattr(synthetic.drawing, "expose", lambda rng, canvas: canvas.transpose(1, 2, 0))
    white = (np.full(3, 255, np.float32),) * 2
    monkeypatch.setattr("detbalance.data._drawing._colours", lambda rng, behind, hue, apart: white)
    for i in range(30):
        dials = Dials(objects_per_image=1, lookalikes=0, clutter=0, overlap=0, orientation=0.5)
        image, boxes, labels = draw_image(np.random.default_rng(i), dials)
        if len(labels) == 1:
            rows, columns = np.nonzero(image[..., 0] >= 127.5)
            assert boxes.tolist() == [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]


def test_objects_differ_from_what_lies_behind_them():
    """A picture without objects and the same with them differ inside the boxes."""
    dials = Dials(lookalikes=0, clutter=0, overlap=0, objects_per_image=3)
    for i in range(10):
        with_objects, boxes, _ = draw_image(np.random.default_rng(i), dials)
        rng = np.random.default_rng(i)
        empty = synthetic.drawing.background(rng, dials.width, dials.height).transpose(1, 2, 0)
        for x1, y1, x2, y2 in boxes.astype(int):
            change = np.abs(with_objects[y1:y2, x1:x2] - empty[y1:y2, x1:x2]).sum(-1)
            assert np.median(change) > 30


def test_no_pixel_is_hidden_without_overlap():
    for scene in scenes(dataclasses.replace(CROWDED, overlap=0.0), 15):
        assert all(thing.visible == thing.total for thing in scene.things)


def test_nothing_covers_a_lookalike():
    """A covered bite would leave an object without a label."""
    lookalikes = [t for scene in scenes(CROWDED, 20) for t in scene.things if not t.label and t.keep == 1]
    assert len(lookalikes) > 20
    assert all(thing.visible == thing.total for thing in lookalikes)


def test_what_would_hide_too_much_is_not_placed():
    scene = Scene(64, 64)
    square = lambda label, side: Thing(label, np.ones((side, side), np.float32), "flat", side, keep=VISIBLE, hue=None)  # noqa: E731
    middle = np.array([32.0, 32.0])
    assert scene.place(square(1, 20), middle)
    assert not scene.place(square(2, 16), middle)  # no overlap allowed
    assert not scene.place(square(2, 16), middle, overlap=True, front=True)  # would hide 64 %
    assert not scene.place(square(2, 16), middle, overlap=True, front=False)  # would be hidden
    assert scene.boxes()[0].tolist() == [[22, 22, 42, 42]]
    assert scene.place(square(3, 14), middle, overlap=True, front=True)  # hides 49 %
    assert not scene.place(square(4, 16), middle + 9, overlap=True, front=True)  # would hide the first beyond 60 %
    assert scene.boxes()[1].tolist() == [1, 3]


@pytest.mark.parametrize("name", CLASSES)
def test_each_class_has_its_own_outline(name):
    def mask(shape):
        return rasterise(shape, size=40, ratio=1.0, turn=0.0, shift=np.zeros(2), limit=(99, 99)) >= 0.5

    own = mask(outline(name))
    assert abs(np.prod(own.shape) ** 0.5 - 40) < 3
    for other in set(CLASSES) - {name, f"striped {name}", name.removeprefix("striped ")}:
        if other.removeprefix("striped ") != name.removeprefix("striped "):
            theirs = np.zeros((60, 60), bool), np.zeros((60, 60), bool)
            for canvas, shape in zip(theirs, (own, mask(outline(other)))):
                canvas[: shape.shape[0], : shape.shape[1]] = shape
            assert (theirs[0] & theirs[1]).sum() < 0.9 * (theirs[0] | theirs[1]).sum()
    for direction in outline(name).bites:
        bitten = rasterise(
            outline(name).bitten(direction), size=40, ratio=1.0, turn=0.0, shift=np.zeros(2), limit=(99, 99)
        )
        assert 0.05 < 1 - (bitten >= 0.5).sum() / own.sum() < 0.6


def test_the_limit_holds_and_the_size_is_met():
    for ratio in (0.2, 1.0, 5.0):
        for turn in (0.0, 0.1, 0.4):
            options = {"ratio": ratio, "turn": turn, "shift": np.array([0.3, 0.9])}
            alpha = rasterise(outline("star"), size=300, limit=(80, 50), **options)
            assert alpha.shape[1] <= 80
            assert alpha.shape[0] <= 50
            alpha = rasterise(outline("disc"), size=40, limit=(400, 400), **options)
            rows, columns = np.nonzero(alpha >= 0.5)
            assert (np.ptp(rows) + 1) * (np.ptp(columns) + 1) == pytest.approx(1600, rel=0.1)


# Dials


@pytest.mark.parametrize("skew", [1, 8, 200])
def test_class_histogram_follows_the_dial(skew):
    dials = Dials(classes=8, class_skew=skew, objects_per_image=8, scale=0.8, lookalikes=0, overlap=0)
    _, labels = objects(dials, 150)
    counts = np.bincount(labels - 1, minlength=8)
    share = skew ** (-np.arange(8) / 7)
    share /= share.sum()
    np.testing.assert_allclose(dials.class_shares(), share)
    assert stats.chisquare(counts, share * counts.sum()).pvalue > 1e-3
    wrong = share[::-1] if skew > 1 else 2.0 ** -np.arange(8)  # the test can fail
    assert stats.chisquare(counts, wrong / wrong.sum() * counts.sum()).pvalue < 1e-6


def test_all_coco_sizes_occur_when_balanced():
    width, height = sides(objects(Dials.balanced(), 120)[0])
    area = width * height
    shares = [(area < 32**2).mean(), ((area >= 32**2) & (area < 96**2)).mean(), (area >= 96**2).mean()]
    assert min(shares) > 0.05, shares


def relative_size(boxes):
    width, height = sides(boxes)
    return np.sqrt(width * height).mean()


def distance(boxes):
    """Mean distance of box centres from the middle of a 256 x 192 image, in halves of its sides."""
    boxes = np.concatenate(boxes)
    return np.abs((boxes[:, :2] + boxes[:, 2:]) / (256, 192) - 1).max(1).mean()


def overlap(boxes):
    """Sum of the IoU of all pairs in an image, for each object."""
    total = 0.0
    for b in boxes:
        for i in range(len(b)):
            for j in range(i):
                side = np.minimum(b[i, 2:], b[j, 2:]) - np.maximum(b[i, :2], b[j, :2])
                both = np.prod(side.clip(0))
                total += both / (np.prod(b[i, 2:] - b[i, :2]) + np.prod(b[j, 2:] - b[j, :2]) - both)
    return total / sum(map(len, boxes))


def elongation(boxes):
    width, height = sides(boxes)
    return np.abs(np.log(width / height)).mean()


@pytest.mark.parametrize(
    ("name", "values", "measure", "rises"),
    [
        ("scale", (0, 0.3, 1), relative_size, False),
        ("location_bias", (0, 0.5, 1), distance, False),
        ("overlap", (0, 0.4, 1), overlap, True),
        ("aspect", (0, 0.4, 1), elongation, True),
        ("objects_per_image", (1, 4, 12), lambda boxes: np.mean([len(b) for b in boxes]), True),
    ],
)
def test_each_dial_moves_its_statistic(name, values, measure, rises):
    steady = Dials(objects_per_image=4, aspect=0, orientation=0, lookalikes=0, classes=2, overlap=0)
    figures = [measure(objects(dataclasses.replace(steady, **{name: v}), 80)[0]) for v in values]
    low, middle, high = figures if rises else figures[::-1]
    assert low < 0.9 * middle, figures
    assert middle < 0.9 * high, figures


def test_orientation_turns():
    """The box of a turned square of fixed size is the same, so its filling says how far it was turned."""

    def filling(orientation):
        dials = Dials(orientation=orientation, aspect=0, overlap=0, lookalikes=0, classes=2)
        squares = [t for scene in scenes(dials, 60) for t in scene.things if t.label == 2]
        return np.mean([t.total / t.mask.size for t in squares])

    assert filling(0.0) > 0.9 > filling(0.1) > filling(0.3) + 0.05


def test_lookalikes_are_counted_and_carry_no_label():
    dials = Dials(lookalikes=1.0, overlap=0, objects_per_image=4)
    things = [t for scene in scenes(dials, 80) for t in scene.things]
    labelled = sum(t.label > 0 for t in things)
    assert 0.7 < (len(things) - labelled) / labelled < 1.3
    assert len(objects(dials, 80)[1]) == labelled
    assert all(t.label for scene in scenes(dataclasses.replace(dials, lookalikes=0), 20) for t in scene.things)


def test_clutter_covers_the_background_alone(monkeypatch):
    monkeypatch.setattr(synthetic.drawing, "background", lambda rng, w, h: np.zeros((3, h, w), np.float32))
    monkeypatch.setattr(synthetic.drawing, "expose", lambda rng, canvas: canvas)
    covered = []
    for clutter in (0.0, 0.3, 1.0):
        dials = Dials(clutter=clutter, objects_per_image=0)
        pictures = [draw_image(np.random.default_rng(i), dials) for i in range(20)]
        assert all(len(boxes) == 0 for _, boxes, _ in pictures)
        covered.append(np.mean([(canvas > 0).any(0).mean() for canvas, _, _ in pictures]))
    assert covered[0] == 0
    assert 0 < 1.5 * covered[1] < covered[2]


def test_every_dial_names_its_imbalance_and_range():
    assert list(DIALS) == [f.name for f in dataclasses.fields(Dials) if f.name not in ("classes", "width", "height")]
    for name, dial in DIALS.items():
        assert isinstance(dial.imbalance, Imbalance)
        assert dial.low <= getattr(Dials.balanced(), name) <= dial.high
        assert dial.help
        assert dial.lowers
        for extreme in (dial.low, dial.high):  # a dial at its end still draws
            image, _, _ = draw_image(np.random.default_rng(0), Dials(**{name: extreme}, width=96, height=64))
            assert image.shape == (64, 96, 3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, bad) for name in DIALS for bad in (-1, float("nan"), float("inf"), "1", True, None)],
        *[(name, bad) for name in ("classes", "width", "height") for bad in (0, 2.5, True, 10**6)],
    ],
)
def test_dials_refuse_what_is_out_of_range(name, value):
    with pytest.raises(ValueError, match=f"^{name}: expected a .*number from .* to .* but got"):
        Dials(**{name: value})


# Label noise


def test_label_noise_hits_its_share_of_the_objects():
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 100, (4000, 2))
    boxes, labels = np.concatenate((corner, corner + rng.uniform(10, 90, (4000, 2))), 1), rng.integers(1, 9, 4000)
    noisy, swapped = disturb(rng, boxes, labels, Dials(label_noise=0.3, classes=8))
    moved, other = (noisy != boxes).any(1), swapped != labels
    assert not (moved & other).any()
    assert moved.mean() == pytest.approx(0.15, abs=0.02)
    assert other.mean() == pytest.approx(0.15, abs=0.02)
    assert set(swapped.tolist()) <= set(range(1, 9))
    assert (noisy >= 0).all()
    assert (noisy <= (256, 192, 256, 192)).all()
    assert (noisy[:, :2] < noisy[:, 2:]).all()
    inside = np.minimum(noisy[:, 2:], boxes[:, 2:]) - np.maximum(noisy[:, :2], boxes[:, :2])
    both = inside.clip(0).prod(1)
    iou = both / ((noisy[:, 2:] - noisy[:, :2]).prod(1) + (boxes[:, 2:] - boxes[:, :2]).prod(1) - both)
    assert 0.45 < iou[moved].mean() < 0.75
    clean = disturb(rng, boxes, labels, Dials(classes=8))
    np.testing.assert_array_equal(clean[0], boxes)
    np.testing.assert_array_equal(clean[1], labels)


def test_label_noise_with_one_class_or_no_object():
    _, labels = disturb(
        np.random.default_rng(0), np.array([[0.0, 0, 9, 9]] * 9), np.ones(9, int), Dials(classes=1, label_noise=1)
    )
    assert (labels == 1).all()
    boxes, labels = disturb(np.random.default_rng(0), np.zeros((0, 4)), np.zeros(0, int), Dials(label_noise=1))
    assert boxes.shape == (0, 4)
    assert labels.shape == (0,)


# Files

SMALL = Dials(width=96, height=64, objects_per_image=2, classes=8)


def contents(folder):
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in folder.rglob("*")
        if p.is_file()
    }


def test_dataset_holds_what_was_drawn(tmp_path):
    data = make_dataset(tmp_path / "new" / "data", images=10, dials=SMALL, seed=4)
    assert (len(data), data.classes) == (10, SMALL.names)
    assert {name: len(part) for name, part in data.splits().items()} == {"train": 7, "test": 3}
    assert len(set(data.image_ids.tolist())) == 10
    for row in range(10):
        image, boxes, labels = draw_image(np.random.default_rng([4, int(data.image_ids[row]) - 1]), SMALL)
        np.testing.assert_allclose(data.boxes[data.rows(row)], boxes)
        np.testing.assert_array_equal(data.label[data.rows(row)], labels)
        stored = np.asarray(Image.open(data.path(row)).convert("RGB"), int)
        assert np.abs(stored - image).mean() < 14  # JPEG and the noise that it removes
        assert data.sizes[row].tolist() == [96, 64]
    again = read(tmp_path / "new" / "data")
    assert again.fingerprint() == data.fingerprint()
    assert again.split.tolist() == data.split.tolist()
    assert {p.kind for p in again.problems} <= {"image without boxes", "category without boxes"}


def test_same_settings_same_bytes_and_more_images_keep_the_first(tmp_path):
    whole = {"train": 1.0}
    make_dataset(tmp_path / "a", images=4, dials=SMALL, splits=whole)
    make_dataset(tmp_path / "b", images=4, dials=SMALL, splits=whole)
    make_dataset(tmp_path / "c", images=6, dials=SMALL, splits=whole)
    a, b, c = (contents(tmp_path / name) for name in "abc")
    assert a == b
    assert all(c[name] == digest for name, digest in a.items() if name.endswith(".jpg"))


def test_a_finished_dataset_is_used_as_it_is(tmp_path, monkeypatch):
    steps = []
    first = make_dataset(
        tmp_path / "d", images=5, dials=SMALL, progress=lambda done, total: steps.append((done, total))
    )
    assert steps == [(i, 5) for i in range(1, 6)]
    monkeypatch.setattr(synthetic, "draw_image", None)
    again = make_dataset(tmp_path / "d", images=np.int64(5), dials=dataclasses.replace(SMALL, width=np.int32(96)))
    assert again.fingerprint() == first.fingerprint()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"images": 6}, "images 5 there, 6 asked for"),
        ({"seed": 1}, "seed 0 there, 1 asked for"),
        ({"dials": dataclasses.replace(SMALL, class_skew=9)}, r"dials.class_skew 1.0 there, 9 asked for"),
        ({"splits": {"train": 0.6, "val": 0.4}}, "splits.test 0.3 there, None asked for"),
    ],
)
def test_other_settings_do_not_overwrite(tmp_path, changed, message):
    make_dataset(tmp_path / "d", images=5, dials=SMALL)
    before = contents(tmp_path / "d")
    with pytest.raises(FileExistsError, match=message):
        make_dataset(tmp_path / "d", **({"images": 5, "dials": SMALL} | changed))
    assert contents(tmp_path / "d") == before
    assert [p.name for p in tmp_path.iterdir()] == ["d"]


def test_foreign_and_damaged_folders_are_left_alone(tmp_path):
    (tmp_path / "notes.json").write_text(json.dumps({"info": {"description": "mine"}}))
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(FileExistsError, match="is not a generated dataset"):
        make_dataset(tmp_path, images=5)
    with pytest.raises(FileExistsError, match="is not a generated dataset"):
        make_dataset(tmp_path / "notes.json", images=5)
    make_dataset(tmp_path / "d", images=5, dials=SMALL)
    (tmp_path / "d" / "images" / "000003.jpg").unlink()
    with pytest.raises(FileExistsError, match="files of the generated dataset are missing"):
        make_dataset(tmp_path / "d", images=5, dials=SMALL)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["broken.json", "d", "notes.json"]


@pytest.mark.parametrize("empty", [False, True])
def test_an_interrupted_run_leaves_nothing_and_the_next_one_finishes(tmp_path, empty):
    if empty:
        (tmp_path / "d").mkdir()

    def stop(done, total):
        assert not (tmp_path / "d" / "images").exists()
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_dataset(tmp_path / "d", images=5, dials=SMALL, progress=stop)
    assert [p.name for p in tmp_path.rglob("*")] == ["d"] * empty
    assert len(make_dataset(tmp_path / "d", images=5, dials=SMALL)) == 5
    assert [p.name for p in tmp_path.iterdir()] == ["d"]


def test_two_writers_of_the_same_dataset_agree(tmp_path):
    """The slower one finds the other's work when it is done."""

    def race(done, total):
        if done == 2:
            make_dataset(tmp_path / "e", images=5, dials=SMALL)
            (tmp_path / "e").rename(tmp_path / "d")

    data = make_dataset(tmp_path / "d", images=5, dials=SMALL, progress=race)
    assert len(data) == 5
    assert [p.name for p in tmp_path.iterdir()] == ["d"]


def test_images_without_objects(tmp_path):
    data = make_dataset(tmp_path / "d", images=6, dials=dataclasses.replace(SMALL, objects_per_image=0))
    assert (len(data), len(data.boxes), data.classes) == (6, 0, SMALL.names)
    data = make_dataset(tmp_path / "e", images=30, dials=dataclasses.replace(SMALL, objects_per_image=0.7))
    assert 0 < (np.bincount(data.image, minlength=30) == 0).sum() < 30


def test_label_noise_is_in_the_train_split_alone(tmp_path):
    clean = make_dataset(tmp_path / "c", images=20, dials=SMALL)
    noisy = make_dataset(tmp_path / "n", images=20, dials=dataclasses.replace(SMALL, label_noise=1.0))
    assert clean.splits()["test"].fingerprint() == noisy.splits()["test"].fingerprint()
    a, b = clean.splits()["train"], noisy.splits()["train"]
    assert ((a.label != b.label) | (a.boxes != b.boxes).any(1)).all()
    images = [contents(tmp_path / name / "images") for name in "cn"]
    assert images[0] == images[1]


def test_the_test_split_can_have_dials_of_its_own(tmp_path):
    skewed = dataclasses.replace(SMALL, class_skew=10_000, objects_per_image=8, scale=1.0)
    even = dataclasses.replace(skewed, class_skew=1)
    parts = make_dataset(
        tmp_path / "d", images=24, dials=skewed, test_dials=even, splits={"train": 0.5, "test": 0.5}
    ).splits()
    assert parts["train"].counts[4:].sum() <= 2
    assert (parts["test"].counts[4:] > 2).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": 0}, "images: expected a whole number >= 1 but got 0"),
        ({"images": 2.0}, "images: expected a whole number"),
        ({"seed": -1}, "seed: expected a whole number >= 0 but got -1"),
        ({"splits": {}}, "splits: expected positive shares"),
        ({"splits": {"train": 0.5, "test": 0.4}}, "splits: expected positive shares"),
        ({"splits": {"train": 1.5, "test": -0.5}}, "splits: expected positive shares"),
        ({"splits": {"training": 1.0}}, "splits: expected positive shares"),
        ({"images": 1}, "images: expected enough for the splits"),
    ],
)
def test_make_dataset_refuses_bad_options(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        make_dataset(tmp_path / "d", **options)
    assert not list(tmp_path.iterdir())


def test_the_documentation_states_every_dial():
    text = (Path(__file__).resolve().parents[2] / "docs" / "synthetic.md").read_text("utf-8")
    for name, dial in DIALS.items():
        default = getattr(Dials.balanced(), name)
        cells = (
            f"`{name}`",
            f"{default:g}",
            f"{dial.low:g} .. {dial.high:g}",
            dial.imbalance.value,
            dial.help,
            dial.lowers,
        )
        assert f"| {' | '.join(cells)} |" in text
