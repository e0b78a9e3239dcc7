"""Context-guided paste: the features and the score against loops; where and how large it pastes."""

import numpy as np
import pytest
import torch

from detbalance.augment import ContextPaste
from detbalance.augment._context import Contexts, features, most_covered
from detbalance.data.annotations import Annotations


def naive_features(pixels, box):
    """One place, field by field and pixel by pixel."""
    _, height, width = pixels.shape
    grey = pixels.mean(0)
    x1, y1, x2, y2 = box
    w, h = x2 - x1, y2 - y1
    across = [int(np.clip(round(v), 0, width)) for v in (x1 - w / 2, x1, x2, x2 + w / 2)]
    down = [int(np.clip(round(v), 0, height)) for v in (y1 - h / 2, y1, y2, y2 + h / 2)]
    fields = []
    for r in range(3):
        for c in range(3):
            if r == c == 1:
                continue
            values = []
            for y in range(down[r], down[r + 1]):
                for x in range(across[c], across[c + 1]):
                    rough = abs(grey[y, min(x + 1, width - 1)] - grey[y, x])
                    rough += abs(grey[min(y + 1, height - 1), x] - grey[y, x])
                    values.append([*pixels[:, y, x], rough])
            fields.append(values)
    every = np.array([v for values in fields for v in values]).reshape(-1, 4)
    fallback = every.sum(0) / max(1, len(every))
    look = np.array([np.mean(values, 0) if values else fallback for values in fields])
    place = [(x1 + x2) / 2 / width, (y1 + y2) / 2 / height, np.log(max(w, 1) / width), np.log(max(h, 1) / height)]
    return np.concatenate((look.T.reshape(-1), place))


def test_features_against_loops():
    rng = np.random.default_rng(0)
    pixels = rng.random((3, 30, 40))
    low = rng.uniform(-2, 25, (12, 2))
    boxes = np.concatenate((low, low + rng.uniform(1, 14, (12, 2))), 1)
    boxes[0] = (0, 0, 40, 30)  # with nothing around it
    found = features(pixels, boxes)
    assert found.shape == (12, 36)
    for row, box in zip(found, boxes):
        expected = naive_features(pixels, box)
        np.testing.assert_allclose(row, expected, atol=1e-9)


def test_score_against_loops(world):
    data = world(1, images=6)
    model = Contexts.learnt(data.annotations, data.others, 0.5)
    image, _ = data.others(2)
    pixels, boxes = image.numpy() / 255, np.array([[5.0, 5, 20, 18], [30, 20, 44, 40]])
    score = model.score(pixels, boxes, 1)
    for place, s in zip(features(pixels, boxes), score):
        density = {}
        for k in (1, 0):
            near = [
                np.exp(-(((place - model.mean) / model.scale - f) ** 2).sum() / (2 * 0.5**2))
                for f, label in zip(model.features, model.label)
                if label == k
            ]
            density[k] = np.mean(near)
        assert s == pytest.approx(density[1] / (density[1] + density[0]), rel=1e-6)
    assert (model.label > 0).sum() == len(data.annotations.boxes)


def test_background_lies_beside_the_objects(world):
    boxes = np.array([[0.0, 0, 10, 10], [20, 20, 30, 40]])
    places = np.array([[5.0, 0, 15, 10], [21, 21, 22, 22], [50, 50, 60, 60], [15, 15, 40, 45]])
    assert most_covered(boxes, places).tolist() == pytest.approx([0.5, 0.005, 0, 1])
    assert most_covered(boxes[:0], places).tolist() == [0] * 4


def halves(images=16):
    """Sky above and grass below: class 1, small, lies in the sky, class 2, large, on the grass."""
    rng, scenes, boxes, labels = np.random.default_rng(0), [], [], []
    for _ in range(images):
        image = np.empty((3, 64, 80))
        image[:, :32] = np.array([0.3, 0.5, 0.9])[:, None, None]
        image[:, 32:] = np.array([0.2, 0.6, 0.2])[:, None, None]
        image += rng.normal(0, 0.02, image.shape)
        here = []
        for label, size in ((1, 6), (2, 20)):
            x, y = rng.integers(0, 80 - size), rng.integers(0, 32 - size) + 32 * (label - 1)
            here.append([x, y, x + size, y + size])
            image[:, y : y + size, x : x + size] = np.array([0.9, 0.1, 0.1])[:, None, None]
        scenes.append(torch.from_numpy(image.clip(0, 1)).float())
        boxes.append(torch.tensor(here, dtype=torch.float32))
        labels += [1, 2]
    data = Annotations.from_arrays(
        classes=["bird", "cow"],
        sizes=[(80, 64)] * images,
        image=np.repeat(np.arange(images), 2),
        label=labels,
        boxes=torch.cat(boxes).numpy(),
    )
    return data, lambda i: (scenes[i], {"boxes": boxes[i], "labels": torch.tensor([1, 2])})


def test_where_and_how_large_is_learnt():
    """Pasted on images without objects: birds small and in the sky, cows large and on the grass."""
    data, others = halves()
    transform = ContextPaste(share=1, count=(1, 1), least=0.6, cut="box", blends=("none",)).fit(data, others)
    image = torch.empty(3, 64, 80)
    image[:, :32] = torch.tensor([0.3, 0.5, 0.9])[:, None, None]
    image[:, 32:] = torch.tensor([0.2, 0.6, 0.2])[:, None, None]
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long()}
    right = total = 0
    for seed in range(50):
        torch.manual_seed(seed)
        _, target = transform(image, empty, others)
        for box, label in zip(target["boxes"], target["labels"].tolist()):
            middle, side = (box[1] + box[3]) / 2, float(box[2] - box[0])
            assert side == pytest.approx(6 if label == 1 else 20, abs=1.5)
            right += bool((middle < 32) == (label == 1))
            total += 1
    assert total > 15
    assert right / total > 0.9


def test_no_place_no_paste():
    """A score that no place reaches leaves the image as it is."""
    data, others = halves(4)
    image, target = others(0)
    transform = ContextPaste(share=1, least=1.0).fit(data, others)
    torch.manual_seed(0)
    made, objects = transform(image, target, others)
    assert made is image
    assert objects is target


def test_an_image_without_a_free_place_teaches_too():
    """Objects that cover their image leave no background to learn from: that image says what objects look like."""
    data, others = halves(4)
    full = Annotations.from_arrays(
        classes=data.classes,
        sizes=[(80, 64)] * 5,
        image=[*data.image, 4],
        label=[*data.label, 2],
        boxes=[*data.boxes, (0, 0, 80, 64)],
    )
    covered = torch.rand(3, 64, 80), {"boxes": torch.tensor([[0.0, 0, 80, 64]]), "labels": torch.tensor([2])}
    learnt = ContextPaste(share=1).fit(full, lambda i: covered if i == 4 else others(i))
    torch.manual_seed(0)
    _, target = learnt(*others(0), others)
    assert len(target["boxes"]) >= 2
    assert features(np.zeros((3, 8, 8)), np.zeros((0, 4))).shape == (0, 36)
