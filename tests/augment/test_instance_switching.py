"""Instance switching: every image is one of the paper's quadruples, classes as ordered and by AP."""

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from detbalance.augment import InstanceSwitching
from detbalance.augment.instance_switching import alike
from detbalance.image_sampling import Feedback

PLAIN = {"share": 1, "blend": "none"}


def quadruples(data, difference=0.3):
    """All of them by loops: (image, row) -> the pairs that may take its place."""
    objects = []
    for i in range(len(data.annotations)):
        image, target = data.others(i)
        for row, (mask, box) in enumerate(zip(target["masks"], target["boxes"].int().tolist())):
            x1, y1, x2, y2 = box
            objects.append((i, row, int(target["labels"][row]), mask[y1:y2, x1:x2].float(), image[:, y1:y2, x1:x2]))
    found = {}
    for i, row, label, mask, _ in objects:
        for j, other_row, other_label, other, _ in objects:
            if i == j or label != other_label or not 0.3 <= mask.numel() / other.numel() <= 3:
                continue
            scaled = interpolate(other[None, None], mask.shape, mode="bilinear", antialias=True)[0, 0] > 0.5
            apart = (scaled != mask.bool()).sum()
            if apart <= difference * mask.sum() and apart <= difference * scaled.sum():
                found.setdefault((i, row), set()).add((j, other_row))
    return found


def test_every_result_is_a_quadruple(world):
    """Exactly one object of an image is another one, of its class and in its place; only such as have a partner."""
    data = world(1, images=10)
    allowed, switched = quadruples(data), 0
    transform = InstanceSwitching(**PLAIN, classes="data", hidden=1.0, tries=50).fit(data.annotations)
    kept = [data.others(i) for i in range(10)]
    for seed in range(40):
        torch.manual_seed(seed)
        image, target = transform(*kept[0], data.others)
        i = int(target["image_id"])
        before, old = kept[i]
        if image.equal(before):
            assert i == 0
            continue
        changed = (image != before).any(0)
        y, x = changed.nonzero().T
        inside = (
            (old["boxes"][:, 0] <= x.min() + 1)
            & (old["boxes"][:, 1] <= y.min() + 1)
            & (old["boxes"][:, 2] >= x.max())
            & (old["boxes"][:, 3] >= y.max())
        )
        assert any((i, row) in allowed for row in inside.nonzero().flatten().tolist())
        assert sorted(target["labels"].tolist()) == sorted(old["labels"].tolist())
        switched += 1
    assert switched > 20


def test_shapes_are_compared_after_scaling(world):
    from detbalance.augment._piece import trimmed

    square = trimmed(torch.ones(3, 10, 10), torch.ones(1, 10, 10).bool(), torch.tensor([1]))
    large = trimmed(torch.ones(3, 30, 20), torch.ones(1, 30, 20).bool(), torch.tensor([1]))
    y, x = torch.meshgrid(torch.arange(20), torch.arange(20), indexing="ij")
    triangle = trimmed(torch.ones(3, 20, 20), (x <= y)[None], torch.tensor([1]))
    assert alike(square, large, 0.0)
    assert not alike(square, triangle, 0.3)
    assert alike(square, triangle, 1.0)


def test_classes_follow_the_order_and_the_ap(world):
    data = world(2, skew=10, images=12)
    even = InstanceSwitching(**PLAIN, power=1.0).fit(data.annotations)
    heard = even.hear(Feedback(epochs=9, ap=np.array([0.9, 0.5, np.nan])))
    for method, share in ((even, [1 / 3] * 3), (heard, np.array([0.1, 0.5, 0.3]) / 0.9)):
        torch.manual_seed(0)
        factor = 1.0 if method.failing is None else method.failing
        kinds = [method.data.kind(method.data.draw(factor)) for _ in range(2000)]
        expected = np.array(share) * 2000
        assert ((np.bincount(kinds, minlength=3) - expected) ** 2 / expected).sum() < 13.8
    for nothing in (None, Feedback(epochs=9), Feedback(epochs=9, ap=np.full(3, np.nan))):
        assert heard.hear(nothing).failing is None


def test_it_listens_only_if_it_is_progressive():
    assert InstanceSwitching().needs == "ap"
    assert InstanceSwitching(power=0).needs == ""
    assert InstanceSwitching(power=0).hear(Feedback(epochs=9, ap=np.zeros(3))).failing is None


def test_objects_without_partner_stay(world):
    data = world(3, images=1)
    image, target = data.others(0)
    made, objects = InstanceSwitching(**PLAIN).fit(data.annotations)(image, target, data.others)
    assert made is image
    assert objects is target


@pytest.mark.parametrize("ratio", [(2.0, 3.0), (0.3, 0.5), (0.0, 3.0)])
def test_the_ratio_holds_one(ratio):
    with pytest.raises(ValueError, match="ratio"):
        InstanceSwitching(ratio=ratio)
