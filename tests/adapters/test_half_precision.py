"""Under autocast, anchors, proposals and predictions are those of full precision, but for the features' rounding."""

from functools import partial

import pytest
import torch

from detbalance import attach, recipes
from detbalance.adapters import kind_of
from detbalance.detectors import build

BOXES = [{"boxes": torch.tensor([[301.3, 20.1, 380.7, 97.9]]), "labels": torch.tensor([1])}]


def tensors(value):
    if isinstance(value, torch.Tensor):
        return [value]
    return [t for v in (value.values() if isinstance(value, dict) else value) for t in tensors(v)]


@pytest.mark.parametrize(
    ("detector", "generator", "outputs"),
    [
        ("retinanet", "anchor_generator", ["head"]),
        ("faster_rcnn", "rpn.anchor_generator", ["rpn.head", "rpn", "roi_heads.box_predictor"]),
        ("cascade_rcnn", "rpn.anchor_generator", ["roi_heads.box_predictor", "roi_heads.later.1.box_predictor"]),
    ],
)
def test_places_are_exact(detector, generator, outputs):
    torch.manual_seed(0)
    model = build(detector, classes=2, image_size=(192, 512)).train()
    model = attach(model, recipes.baseline(kind_of(model)))
    seen = {}
    for name in (generator, *outputs):
        model.get_submodule(name).register_forward_hook(
            partial(lambda n, module, inputs, output: seen.update({n: output}), name)
        )
    image = [torch.rand(3, 192, 512)]
    model(image, BOXES)
    exact = seen[generator]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(image, BOXES)
    for anchors, right in zip(seen.pop(generator), exact, strict=True):
        assert torch.equal(anchors, right)
        assert (right.bfloat16() != right).any()  # or this test could not fail
    assert all(tensor.dtype == torch.float32 for output in seen.values() for tensor in tensors(output))
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
