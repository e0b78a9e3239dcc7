"""The recipes that move boxes about train a hundred steps with the settings of a run: no value goes astray."""

import pytest
import torch
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler

from detbalance import attach, recipes
from detbalance.detectors import build
from detbalance.runs import Settings

RECIPES = {
    "cascade": "cascade_rcnn",
    "dynamic_rcnn": "faster_rcnn",
    "iou_uniform": "faster_rcnn",
    "kl_loss": "faster_rcnn",
}


def batch(step):
    """An image with two bright objects; in every eighth step with none."""
    g = torch.Generator().manual_seed(step % 8)
    images, targets = torch.rand(1, 3, 48, 64, generator=g) * 0.3, []
    for image in images:
        count = 0 if step % 8 == 7 else 2
        corner = (torch.rand(count, 2, generator=g) * torch.tensor([38.0, 22.0])).round()
        boxes, labels = torch.cat((corner, corner + 24), 1), torch.randint(1, 4, (count,), generator=g)
        for (x1, y1, x2, y2), label in zip(boxes.int().tolist(), labels.tolist()):
            image[label - 1, y1:y2, x1:x2] = 1.0
        targets.append({"boxes": boxes, "labels": labels})
    return list(images), targets


@pytest.mark.parametrize(("name", "detector"), RECIPES.items())
def test_hundred_steps(name, detector):
    torch.manual_seed(0)
    settings, recipe = Settings(), recipes.get(name, "rcnn")
    if name == "dynamic_rcnn":
        recipe.stages.assign.interval = recipe.stages.box_loss.interval = 25
    model = build(detector, classes=3, image_size=(48, 64))
    model.rpn._post_nms_top_n["training"] = 60
    for head in (model.roi_heads, *getattr(model.roi_heads, "later", ())):
        head.fg_bg_sampler = BalancedPositiveNegativeSampler(32, 0.25)
    attach(model, recipe).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    totals = []
    for step in range(100):
        losses = model(*batch(step))
        total = sum(losses.values())
        assert all(loss.isfinite() for loss in losses.values()), (step, losses)
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip, error_if_nonfinite=True)
        optimizer.step()
        totals.append(float(total.detach()))
    assert sum(totals[-8:]) < 0.9 * sum(totals[:8])  # the same eight images
    assert all(p.isfinite().all() for p in model.parameters())
    treatment = model.roi_heads.treatment
    if name == "dynamic_rcnn":
        assert 0 < treatment.box_loss.beta <= 1
        assert 0.4 <= treatment.assign.threshold <= 1
    with torch.no_grad():
        assert all(found["boxes"].isfinite().all() for found in model.eval()(batch(0)[0]))
