"""Iterative refinement: alone, and in a detector against passes made one by one."""

import pytest
import torch

from detbalance import Recipe, Stage, attach, recipes
from detbalance.detectors import build
from detbalance.refinements import IterativeRefinement

IMAGES = [torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(i)) for i in range(2)]


def model(detector="faster_rcnn", **options):
    torch.manual_seed(0)
    made = build(detector, classes=3, image_size=(64, 96))
    torch.nn.init.normal_(made.roi_heads.box_predictor.bbox_pred.weight, std=0.3)
    return attach(made, Recipe(name="x", stages=Stage(refine=IterativeRefinement(**options)))).eval()


def proposals_seen(detector):
    """The proposals of the network and those that detections are made from."""
    seen = {}
    detector.rpn.register_forward_hook(lambda m, x, output: seen.update(first=output[0]))
    detector.roi_heads.box_roi_pool.register_forward_hook(lambda m, x, output: seen.update(last=x[1], features=x[0]))
    with torch.no_grad():
        found = detector(IMAGES)
    return found, dict(seen)


def test_one_pass_changes_nothing():
    torch.manual_seed(0)
    plain = build("faster_rcnn", classes=3, image_size=(64, 96)).eval()
    torch.nn.init.normal_(plain.roi_heads.box_predictor.bbox_pred.weight, std=0.3)
    with torch.no_grad():
        for ours, theirs in zip(model(passes=1)(IMAGES), plain(IMAGES)):
            assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("union", [False, True])
def test_passes_one_by_one(union):
    detector = model(passes=3, union=union)
    _, seen = proposals_seen(detector)
    heads, boxes = detector.roi_heads, seen["first"]
    rounds = [boxes]
    with torch.no_grad():
        for _ in range(2):
            logits, regression = heads.box_predictor(
                heads.box_head(heads.box_roi_pool(seen["features"], boxes, [(64, 96)] * 2))
            )
            decoded = heads.box_coder.decode(regression, boxes)
            own = decoded[range(len(logits)), logits[:, 1:].argmax(1) + 1]
            own[:, 0::2], own[:, 1::2] = own[:, 0::2].clamp(0, 96), own[:, 1::2].clamp(0, 64)
            boxes = list(own.split([len(b) for b in boxes]))
            rounds.append(boxes)
    for i, mine in enumerate(seen["last"]):
        expected = torch.cat([r[i] for r in rounds]) if union else rounds[-1][i]
        torch.testing.assert_close(mine, expected)


def test_training_is_the_baselines():
    target = {"boxes": torch.tensor([[10.0, 10, 40, 44]]), "labels": torch.tensor([1])}
    found = []
    for name in ("baseline", "iterative_refinement"):
        torch.manual_seed(0)
        detector = attach(build("faster_rcnn", classes=3, image_size=(64, 96)).train(), recipes.get(name, "rcnn"))
        found.append(detector(IMAGES, [dict(target), dict(target)]))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_in_a_cascade_the_last_head_refines():
    _, seen = proposals_seen(model("cascade_rcnn", passes=2))
    assert [len(b) for b in seen["last"]] == [2 * len(b) for b in seen["first"]]


def test_refuses():
    with pytest.raises(ValueError, match="passes"):
        IterativeRefinement(passes=0)
    with pytest.raises(ValueError, match="refine"):
        attach(build("retinanet", classes=2), Recipe(name="x", stages=Stage(refine=IterativeRefinement())))
    with pytest.raises(ValueError, match="iterative_refinement"):
        recipes.iterative_refinement("dense")
