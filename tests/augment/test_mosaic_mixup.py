"""The two references: mosaic's four quarters, and mixup's ratio."""

import numpy as np
import pytest
import torch
from scipy import stats

from detbalance.augment import MixUp, Mosaic
from detbalance.data.annotations import Annotations


@pytest.mark.parametrize("seed", range(3))
def test_a_mosaic_is_made_of_corners(world, seed):
    """Unscaled, the point in the middle: the quarters are the corners of the image and of three others that face it."""
    data = world(seed)
    image, target = data.others(0)
    used = []

    def others(i):
        used.append(i)
        return data.others(i)

    torch.manual_seed(seed)
    transform = Mosaic(share=1, scale=(1, 1), centre=(0.5, 0.5), hidden=0.6).fit(data.annotations)
    made, objects = transform(image, target, others)
    pictures, expected = [data.others(i) for i in (0, *used)], []
    for (picture, t), top, left in zip(pictures, (24, 24, 0, 0), (32, 0, 32, 0)):
        y, x = 24 - top, 32 - left
        assert made[:, y : y + 24, x : x + 32].equal(picture[:, top : top + 24, left : left + 32])
        for mask, label in zip(t["masks"], t["labels"].tolist()):
            part = mask[top : top + 24, left : left + 32]
            if part.any() and part.sum() >= 0.4 * mask.sum():
                whole = torch.zeros(48, 64, dtype=torch.uint8)
                whole[y : y + 24, x : x + 32] = part
                expected.append((label, whole))
    assert objects["labels"].tolist() == [label for label, _ in expected]
    assert all(mask.equal(whole) for mask, (_, whole) in zip(objects["masks"], expected))


def test_partners_hold_the_ordered_class(world):
    data = world(4, skew=30, images=20)
    seen = []

    def others(i):
        seen.append(set(data.others(i)[1]["labels"].tolist()))
        return data.others(i)

    for method in (Mosaic(share=1, classes={"c1": 1}), MixUp(share=1, classes={"c1": 1})):
        torch.manual_seed(0)
        transform = method.fit(data.annotations)
        for _ in range(5):
            transform(*data.others(0), others)
    assert len(seen) == 20
    assert all(2 in labels for labels in seen)


def test_mixup_is_the_weighted_mean_on_the_larger_canvas():
    data = Annotations.from_arrays(classes=["a"], sizes=[(20, 12)], image=[0], label=[1], boxes=[[0, 0, 4, 4]])
    first, second = torch.rand(3, 12, 20), torch.rand(3, 16, 10)
    one = {"boxes": torch.tensor([[1.0, 2, 9, 9]]), "labels": torch.tensor([1])}
    two = {"boxes": torch.tensor([[0.0, 4, 8, 16], [1, 1, 2, 2]]), "labels": torch.tensor([2, 3])}
    torch.manual_seed(0)
    made, objects = MixUp(share=1).fit(data)(first, one, lambda i: (second, two))
    ratio = float(objects["weights"][0])
    assert objects["weights"].tolist() == pytest.approx([ratio, 1 - ratio, 1 - ratio])
    assert made.shape == (3, 16, 20)
    for y in range(16):
        for x in range(20):
            mine = first[:, y, x] if y < 12 else torch.zeros(3)
            other = second[:, y, x] if x < 10 else torch.zeros(3)
            torch.testing.assert_close(made[:, y, x], ratio * mine + (1 - ratio) * other)
    assert objects["boxes"].equal(torch.cat((one["boxes"], two["boxes"])))
    assert objects["labels"].tolist() == [1, 2, 3]


@pytest.mark.parametrize("alpha", [1.5, 8.0])
def test_the_ratio_is_from_the_beta_distribution(alpha):
    data = Annotations.from_arrays(classes=["a"], sizes=[(2, 2)], image=[0], label=[1], boxes=[[0, 0, 1, 1]])
    pair = torch.zeros(3, 2, 2), {"boxes": torch.tensor([[0.0, 0, 1, 1]]), "labels": torch.tensor([1])}
    transform = MixUp(share=1, alpha=alpha).fit(data)
    torch.manual_seed(0)
    ratios = np.array([float(transform(*pair, lambda i: pair)[1]["weights"][0]) for _ in range(250)])
    assert stats.kstest(ratios, stats.beta(alpha, alpha).cdf).pvalue > 0.001
