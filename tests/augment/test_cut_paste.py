"""Cut and paste: the ordered classes, the limits of the paper, one blending for a scene."""

import numpy as np
import pytest
import torch

from detbalance.augment import CutPaste
from detbalance.boxes import box_iou

ONE = {"share": 1, "count": (1, 1), "scale": (1, 1), "degrees": 0, "blends": ("none",)}


def empty(data):
    image, target = data.others(0)
    return torch.zeros_like(image), {
        name: value[:0].as_subclass(torch.Tensor) for name, value in target.items() if value.dim()
    }


@pytest.mark.parametrize("order", ["inverse", (1, 0, 3)])
def test_pasted_classes_follow_the_order(world, order):
    """On empty images, so that every object in the end is a pasted one."""
    data = world(4, skew=10, images=12)
    transform = CutPaste(**ONE, classes=order, outside=0, cut="box").fit(data.annotations)
    image, target = empty(data)
    torch.manual_seed(1)
    draws = 100
    labels = torch.cat([transform(image, target, data.others)[1]["labels"] for _ in range(draws)])
    counts, expected = np.bincount(labels, minlength=4)[1:], transform.data.share * draws
    assert len(labels) == draws
    assert counts[expected == 0].sum() == 0
    there = expected > 0
    assert ((counts - expected)[there] ** 2 / expected[there]).sum() < 13.8


def test_a_pasted_object_is_the_cut_one(world):
    """Unscaled and unturned, the pixels under its mask are those of an object of the dataset."""
    data = world(5)
    transform = CutPaste(**ONE, outside=0).fit(data.annotations)
    cuts = []
    for i in range(len(data.annotations)):
        image, target = data.others(i)
        cuts += [(image[:, m > 0], int(k)) for m, k in zip(target["masks"], target["labels"])]
    for seed in range(10):
        torch.manual_seed(seed)
        image, target = transform(*empty(data), data.others)
        pasted = image[:, target["masks"][0] > 0]
        assert any(pasted.shape == cut.shape and pasted.equal(cut) and k == target["labels"][0] for cut, k in cuts)


def test_truncation_and_occlusion_keep_the_papers_limits(world):
    data, cut = world(6), 0
    transform = CutPaste(**{**ONE, "count": (4, 4)}, hidden=1.0).fit(data.annotations)
    sizes = {tuple((b[2:] - b[:2]).tolist()) for i in range(8) for b in data.others(i)[1]["boxes"]}
    areas = {w * h for w, h in sizes}
    for seed in range(12):
        torch.manual_seed(seed)
        _, target = transform(*empty(data), data.others)
        boxes = target["boxes"]
        for box in boxes.tolist():
            at_edge = box[0] == 0 or box[1] == 0 or box[2] == 64 or box[3] == 48
            cut += at_edge
            if not at_edge:
                continue
            assert (box[2] - box[0]) * (box[3] - box[1]) <= max(areas)
        iou = box_iou(boxes, boxes).fill_diagonal_(0)
        assert iou.max() <= 0.8  # of what is seen; as pasted it is at most 0.75
    assert cut > 5


def test_the_scene_does_not_depend_on_the_blending(world):
    """The same draws under every blending: objects in the same places, other pixels at their edges."""
    data = world(7)
    made = []
    for name in ("none", "gaussian", "poisson"):
        torch.manual_seed(3)
        made.append(CutPaste(share=1, blends=(name,)).fit(data.annotations)(*data.others(1), data.others))
    for image, target in made[1:]:
        assert target["boxes"].equal(made[0][1]["boxes"])
        assert target["labels"].equal(made[0][1]["labels"])
        assert not image.equal(made[0][0])


def test_large_objects_are_made_to_fit(world):
    data = world(8)
    transform = CutPaste(**{**ONE, "scale": (9, 9)}, outside=0).fit(data.annotations)
    torch.manual_seed(0)
    _, target = transform(*empty(data), data.others)
    assert len(target["labels"]) == 1
