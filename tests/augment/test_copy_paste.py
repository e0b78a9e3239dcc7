"""Copy-paste and the frames it shares with mosaic: where each pixel comes from, which objects are pasted."""

import numpy as np
import pytest
import torch

from detbalance.augment import CopyPaste
from detbalance.augment._frame import Frame

PLAIN = {"share": 1, "jitter": (1, 1), "blend": "none"}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("hidden", [0.3, 1.0])
def test_a_frame_against_loops(world, seed, hidden):
    """Unscaled: every pixel of the window is one of the image, or grey; objects that are cut off too much are gone."""
    rng = np.random.default_rng(seed)
    image, target = world(seed).others(seed)
    left, top = (int(v) for v in rng.integers(-20, 30, 2))
    frame = Frame((48, 64), (48, 64), (40, 50), left, top, bool(seed % 2))
    made, objects = frame.image(image), frame.target(target, hidden)
    masks, expected = [], []
    source = image.flip(2) if frame.flip else image
    for mask, label in zip(target["masks"].numpy(), target["labels"].tolist()):
        mask = mask[:, ::-1] if frame.flip else mask
        seen = np.zeros((40, 50), np.uint8)
        for y in range(40):
            for x in range(50):
                if 0 <= y + top < 48 and 0 <= x + left < 64:
                    seen[y, x] = mask[y + top, x + left]
        if seen.any() and seen.sum() >= (1 - hidden) * mask.sum():
            masks.append(seen)
            expected.append(label)
    for y in range(0, 40, 3):
        for x in range(0, 50, 3):
            inside = 0 <= y + top < 48 and 0 <= x + left < 64
            assert made[:, y, x].tolist() == (source[:, y + top, x + left].tolist() if inside else [114] * 3)
    assert objects["labels"].tolist() == expected
    np.testing.assert_array_equal(objects["masks"].numpy().reshape(-1, 40, 50), np.reshape(masks, (-1, 40, 50)))


@pytest.mark.parametrize("scale", [0.4, 1.7])
def test_a_scaled_frame_moves_boxes_with_the_pixels(scale):
    image = torch.zeros(3, 60, 80)
    image[:, 12:30, 20:60] = 1
    target = {"boxes": torch.tensor([[20.0, 12, 60, 30]]), "labels": torch.tensor([1])}
    for seed in range(6):
        torch.manual_seed(seed)
        frame = Frame.jittered((60, 80), (48, 64), (scale, scale))
        made, objects = frame.image(image), frame.target(target, 0.99)
        bright = (made[0] > 0.7).nonzero()
        if not len(objects["labels"]):
            assert len(bright) < 100
            continue
        (y1, x1), (y2, x2) = bright.min(0).values.tolist(), (bright.max(0).values + 1).tolist()
        assert (objects["boxes"][0] - torch.tensor([x1, y1, x2, y2])).abs().max() <= 1
        x, y = frame.corner(20, 12, 40)
        assert abs(x - x1) <= 1 or x < 0
        assert abs(y - y1) <= 1 or y < 0


def test_without_pasting_it_is_the_jitter(world):
    data = world(1)
    image, target = data.others(2)
    transform = CopyPaste(share=1, keep=0).fit(data.annotations)
    torch.manual_seed(5)
    made, objects = transform(image, target, data.others)
    torch.manual_seed(5)
    torch.rand((), dtype=torch.float64)
    frame = Frame.jittered((48, 64), (48, 64), (0.1, 2.0))
    assert made.equal(frame.image(image))
    assert objects["boxes"].equal(frame.target(target, 0.9)["boxes"])


def test_pasted_objects_keep_their_places(world):
    """Unjittered, on an empty image: each is one of a single other image, mirrored or not, and no two times."""
    data, numbers = world(2), []
    image, target = data.others(0)
    empty = {name: value[:0] for name, value in target.items() if value.dim()}
    transform = CopyPaste(**PLAIN, keep=0.5, hidden=1.0).fit(data.annotations)
    sources = []
    for i in range(len(data.annotations)):
        other, objects = data.others(i)
        for flip in (False, True):
            frame = Frame((48, 64), (48, 64), (48, 64), flip=flip)
            sources.append((frame.image(other), frame.target(objects, 1.0)))
    for seed in range(30):
        torch.manual_seed(seed)
        made, objects = transform(torch.zeros_like(image), empty, data.others)
        numbers.append(len(objects["labels"]))
        assert any(
            all(
                any((mask & ~whole).sum() == 0 and k == label for whole, k in zip(t["masks"], t["labels"]))
                and made[:, mask > 0].equal(picture[:, mask > 0])
                for mask, label in zip(objects["masks"], objects["labels"])
            )
            for picture, t in sources
        )
    assert 0 in numbers
    assert max(numbers) >= 2


def test_ordered_classes_are_pasted(world):
    data = world(3, skew=10, images=12)
    image, target = data.others(0)
    empty = {name: value[:0] for name, value in target.items() if value.dim()}
    transform = CopyPaste(**PLAIN, classes={"c2": 3, "c0": 1}, hidden=1.0, cut="box").fit(data.annotations)
    torch.manual_seed(0)
    labels = torch.cat([transform(image, empty, data.others)[1]["labels"] for _ in range(80)])
    counts = np.bincount(labels, minlength=4)
    assert counts[2] == 0
    assert counts[3] / counts.sum() == pytest.approx(0.75, abs=0.11)  # 0.1 %: 3.3 standard errors of about 150
