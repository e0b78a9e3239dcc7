"""Scale-aware Fast R-CNN: the gate and the mixture against a naive reading of the paper."""

import copy
import math

import pytest
import torch
from torch import nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead

from detbalance import Recipe, Stage, attach, recipes
from detbalance.detectors import build
from detbalance.losses import CrossEntropyLoss, FocalLoss, KLLoss
from detbalance.region_heads import ScaleAware
from detbalance.types import RegionParts

IMAGES = [torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(i)) for i in range(2)]
TARGETS = [
    {"boxes": torch.tensor([[10.0, 10, 40, 44], [42, 20, 60, 32]]), "labels": torch.tensor([1, 2])},
    {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)},
]


class Given(nn.Module):
    """A pool that has pooled already."""

    def forward(self, features, boxes, image_shapes):
        return features


def made(settings, softmax=True):
    torch.manual_seed(0)
    parts = RegionParts(Given(), TwoMLPHead(18, 7), FastRCNNPredictor(7, 3), 2, softmax=softmax)
    parts = ScaleAware(**settings)(parts)
    for part in (parts.head, parts.predictor):
        part.double()
        for name, p in part.named_parameters():
            if "gate" not in name:
                nn.init.normal_(p)
    gate = parts.predictor.gate
    gate.total.fill_(150.0)
    gate.objects.fill_(5.0)  # 30 pixels a piece
    return parts


@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("settings", [{}, {"alpha": 3.0, "beta": 0.1}])
def test_against_the_paper(settings, softmax):
    parts = made(settings, softmax)
    grids = torch.randn(5, 2, 3, 3).double()
    boxes = [
        torch.tensor([[0.0, 0, 5, 4], [0, 10, 9, 40], [1, 2, 3, 33]]),
        torch.tensor([[0.0, 0, 9, 90], [5, 5, 9, 5]]),
    ]
    boxes = [b.double() for b in boxes]
    logits, regression = parts.predictor(parts.head(parts.pool(grids, boxes, None)))
    alpha, beta = settings.get("alpha", 1.0), settings.get("beta", 0.5) * 30
    scores, codes = [], []
    for grid, box in zip(grids, torch.cat(boxes)):
        height = float(box[3] - box[1])
        w = 1 / (1 + alpha * math.exp(-(height - 30) / beta))
        answers = []
        for head, predictor in ((parts.head, parts.predictor), (parts.head.small, parts.predictor.small)):
            x = (head.fc6.weight @ grid.flatten() + head.fc6.bias).clamp(min=0)
            x = (head.fc7.weight @ x + head.fc7.bias).clamp(min=0)
            score = (predictor.cls_score.weight @ x + predictor.cls_score.bias).exp()
            score = score / score.sum() if softmax else score / (1 + score)
            answers.append((score, predictor.bbox_pred.weight @ x + predictor.bbox_pred.bias))
        (large, large_code), (small, small_code) = answers
        scores.append(w * large + (1 - w) * small)
        codes.append(w * large_code + (1 - w) * small_code)
    found = logits.softmax(1) if softmax else logits.sigmoid()
    torch.testing.assert_close(found, torch.stack(scores), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(regression, torch.stack(codes), rtol=1e-6, atol=1e-9)


def test_the_gate_learns():
    """The gradient of alpha and beta against differences."""
    parts = made({"alpha": 2.0, "beta": 0.4})
    gate, height = parts.predictor.gate.double(), torch.tensor([4.0, 30.0, 33.0, 90.0]).double()
    assert torch.autograd.gradcheck(
        lambda a, b: torch.func.functional_call(gate, {"log_alpha": a, "log_beta": b}, (height,)),
        (gate.log_alpha, gate.log_beta),
    )


def test_with_the_same_weights_it_is_the_head_as_it_was():
    torch.manual_seed(0)
    head, predictor = TwoMLPHead(18, 7), FastRCNNPredictor(7, 3)
    grids, boxes = torch.randn(4, 2, 3, 3), [10 * torch.arange(16.0).reshape(4, 4)]
    expected = predictor(head(grids))
    new = ScaleAware()(RegionParts(Given(), head, predictor, 2))
    logits, regression = new.predictor(new.head(new.pool(grids, boxes, None)))
    torch.testing.assert_close(logits.softmax(1), expected[0].softmax(1))
    torch.testing.assert_close(regression, expected[1])


@pytest.mark.parametrize("softmax", [True, False])
def test_extreme_heights_and_scores(softmax):
    parts = made({"beta": 1e-3}, softmax)
    parts.predictor.float()
    two = parts.head.float()((1e4 * torch.randn(3, 2, 3, 3), torch.tensor([0.0, 30.0, 1e6])))
    logits, regression = parts.predictor(two)
    assert logits.isfinite().all()
    (logits.logsumexp(1).sum() + regression.sum()).backward()
    assert all(p.grad.isfinite().all() for p in parts.predictor.parameters())


def test_the_mean_height_is_that_of_the_objects_seen():
    torch.manual_seed(0)
    model = attach(build("faster_rcnn", classes=3, image_size=(64, 96)).train(), recipes.scale_aware("rcnn"))
    model.roi_heads.fg_bg_sampler.batch_size_per_image = 512
    gate = model.roi_heads.box_predictor.gate
    assert gate(torch.tensor([1.0, 100.0])).tolist() == [0, 0]  # nothing is known yet
    model(IMAGES, copy.deepcopy(TARGETS))
    assert (gate.total.item(), gate.objects.item()) == (34 + 12, 2)
    model(IMAGES[:1], copy.deepcopy(TARGETS[1:]))
    assert (gate.total.item(), gate.objects.item()) == (34 + 12, 2)
    assert {"roi_heads.box_predictor.gate.total", "roi_heads.box_predictor.gate.objects"} <= set(model.state_dict())
    assert gate(torch.tensor([23.0])).item() == 0


@pytest.mark.parametrize("softmax", [True, False])
def test_the_mixture_follows_the_class_loss(softmax):
    stage = Stage(cls_loss=CrossEntropyLoss(softmax=True) if softmax else FocalLoss())
    model = build("faster_rcnn", classes=3, image_size=(64, 96)).train()
    model = attach(model, Recipe(name="x", region=ScaleAware(), stages=stage))
    assert model.roi_heads.box_predictor.softmax is softmax
    assert all(loss.isfinite() for loss in model(IMAGES, copy.deepcopy(TARGETS)).values())
    assert len(model.eval()(IMAGES)) == 2


def test_priors_reach_both_sub_networks():
    recipe = Recipe(name="x", region=ScaleAware(), stages=Stage(prior=0.3))
    predictor = attach(build("faster_rcnn", classes=3, image_size=(64, 96)), recipe).roi_heads.box_predictor
    for layer in (predictor.cls_score, predictor.small.cls_score):
        torch.testing.assert_close(layer.bias.softmax(0), torch.tensor([0.7, 0.1, 0.1, 0.1]))


def test_what_is_refused():
    model = build("faster_rcnn", classes=3, image_size=(64, 96))
    recipe = Recipe(name="x", region=ScaleAware(), stages=Stage(box_loss=KLLoss()))
    with pytest.raises(ValueError, match="to learn deviations"):
        attach(model, recipe)
    with pytest.raises(ValueError, match="two linear layers, cls_score and bbox_pred"):
        ScaleAware()(RegionParts(Given(), TwoMLPHead(18, 7), nn.Linear(7, 3), 2))
    with pytest.raises(ValueError, match="TwoMLPHead or a Sequential"):
        ScaleAware()(RegionParts(Given(), nn.Linear(18, 7), FastRCNNPredictor(7, 3), 2))
    with pytest.raises(ValueError, match="alpha"):
        ScaleAware(alpha=0)
