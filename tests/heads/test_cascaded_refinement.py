"""The cascaded refinement: codes composed, features read where the anchors have gone, both steps' losses as loops."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import box_iou, deform_conv2d

from detbalance import Recipe, Stage, attach, recipes
from detbalance.adapters.stage import StageLoss
from detbalance.detectors import build
from detbalance.heads import CascadedRefinement
from detbalance.heads.cascaded_refinement import composed
from detbalance.losses import KLLoss

CODER = BoxCoder((1.0, 1.0, 1.0, 1.0))
SIZE = (64, 96)


def batch():
    """Three images; the second has no objects."""
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(3, *SIZE, generator=generator) for _ in range(3)]
    box = torch.tensor([[10.0, 10, 42, 42], [50, 20, 82, 52]])
    some = {"boxes": box, "labels": torch.tensor([1, 3])}
    return images, [some, {"boxes": box[:0], "labels": torch.zeros(0, dtype=torch.long)}, some]


def head(**options):
    torch.manual_seed(0)
    made = CascadedRefinement(RetinaNetHead(16, 3, 5), **options)
    nn.init.normal_(made.objectness[2].weight, std=0.3)
    nn.init.normal_(made.first.weight, std=0.1)
    nn.init.normal_(made.where.weight, std=1.0)
    return made


def maps():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, 16, h, w, generator=generator) for h, w in ((6, 8), (3, 4), (2, 2))]


def retinanet(recipe=None):
    torch.manual_seed(0)
    model = build("retinanet", classes=3, image_size=SIZE)
    return attach(model, recipes.efgr("dense") if recipe is None else recipe)


# ---- numbers --------------------------------------------------------------------------------------------------------


def test_one_code_for_two():
    generator = torch.Generator().manual_seed(0)
    corner = 50 * torch.rand(200, 2, generator=generator, dtype=torch.float64)
    anchors = torch.cat((corner, corner + 5 + 40 * torch.rand(200, 2, generator=generator, dtype=torch.float64)), 1)
    first, second = (torch.randn(200, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    wanted = CODER.decode_single(second, CODER.decode_single(first, anchors))
    torch.testing.assert_close(CODER.decode_single(composed(first, second), anchors), wanted)
    wild = composed(torch.full((1, 4), 1e4), torch.full((1, 4), -1.0))
    assert wild.isfinite().all()


def test_a_first_step_of_zeros_is_none():
    torch.testing.assert_close(composed(torch.zeros(5, 4), torch.ones(5, 4)), torch.ones(5, 4))
    made = head()
    nn.init.zeros_(made.first.weight)
    trained, found = made.train()(maps()), made.eval()(maps())
    assert not trained["first_regression"].any()
    assert found["bbox_regression"].equal(trained["bbox_regression"])


@pytest.mark.parametrize("dilation", [1, 2, 5])
def test_the_second_step_reads_where_the_first_has_gone(dilation):
    made, seen = head(dilation=dilation), []
    found = made(maps())
    for level, x in enumerate(maps()):
        score = made.objectness(x).amax(1, keepdim=True).sigmoid()
        codes = made.first(x).unflatten(1, (-1, 4))
        offset = made.where(torch.cat((codes[:, :, 0], codes[:, :, 1]), 1))
        spread = (dilation, max(dilation - 1, 1), max(dilation - 2, 1))[level]
        layer = made.deformable
        deformed = deform_conv2d(x * (1 + score), offset, layer.weight, padding=spread, dilation=spread)
        seen.append(layer.norm(deformed).relu())
        assert offset.abs().max() > 0.5
    torch.testing.assert_close(found["cls_logits"], made.classification_head(seen))
    torch.testing.assert_close(found["bbox_regression"], made.regression_head(seen))


def test_evaluation_composes_and_filters():
    made = head(threshold=0.2, prior=0.21)
    trained, found = made.train()(maps()), made.eval()(maps())
    wanted = composed(trained["first_regression"], trained["bbox_regression"])
    torch.testing.assert_close(found["bbox_regression"], wanted)
    sure = trained["objectness"].sigmoid().squeeze(2) <= 0.2
    assert 0 < sure.sum() < sure.numel()
    assert (found["cls_logits"][sure] == -1e4).all()
    assert found["cls_logits"][~sure].equal(trained["cls_logits"][~sure])
    assert set(found) == {"cls_logits", "bbox_regression"}


# ---- both steps, as loops -------------------------------------------------------------------------------------------


def watched(monkeypatch, model):
    """The samples of the second step, the predictions, and the anchors of the images."""
    seen, forward, generator = {}, StageLoss.forward, model.anchor_generator.forward

    def take(self, samples):
        seen["samples"] = samples
        return forward(self, samples)

    monkeypatch.setattr(StageLoss, "forward", take)
    model.head.register_forward_hook(lambda m, i, o: seen.update(o))
    model.anchor_generator.forward = lambda *a: seen.setdefault("anchors", generator(*a))
    return seen


def assigned(boxes, target):
    """RetinaNet's thresholds, object by object: 0.5 and 0.4, and the best of each object whatever its IoU."""
    matched = torch.full((len(boxes),), -1)
    if len(target["boxes"]):
        overlap = box_iou(boxes, target["boxes"])
        best, row = overlap.max(1)
        matched[best >= 0.4] = -2
        matched[best >= 0.5] = row[best >= 0.5]
        for column in overlap.T:
            ties = (column == column.max()).nonzero().flatten()
            matched[ties] = row[ties]
    return matched


def test_both_steps(monkeypatch):
    model = retinanet().train()
    nn.init.normal_(model.head.first.weight, std=0.02)
    nn.init.normal_(model.head.objectness[2].weight, std=0.2)
    model.head.threshold = 0.07
    seen = watched(monkeypatch, model)
    images, targets = batch()
    losses = model(images, targets)
    assert set(losses) == {"classification", "bbox_regression", "objectness", "anchor_regression"}
    first_loss, kept, positives = 0.0, [], []
    for i, (anchors, target) in enumerate(zip(seen["anchors"], targets)):
        rows = assigned(anchors, target)
        which = (rows >= 0).nonzero().flatten()
        for row in which.tolist():
            truth = target["boxes"][rows[row]]
            wanted = CODER.encode_single(truth[None], anchors[row : row + 1])[0]
            share = (seen["first_regression"][i, row] - wanted).abs().sum()
            first_loss += share.item() / (3 * len(which))
        moved = CODER.decode_single(seen["first_regression"][i].detach(), anchors)
        assert (moved - anchors).abs().max() > 1
        again = assigned(moved, target)
        assert not again.equal(rows) or not len(target["boxes"])
        easy = seen["objectness"][i].sigmoid().squeeze(1) <= 0.07
        assert 0 < easy.float().mean() < 1
        kept.append(set(((again >= 0) | ((again == -1) & ~easy)).nonzero().flatten().tolist()))
        positives.append(moved[again >= 0])
    assert losses["anchor_regression"].item() == pytest.approx(first_loss, rel=1e-5)
    samples = seen["samples"]
    for i in range(3):
        mine = samples.image == i
        torch.testing.assert_close(samples.boxes[mine & samples.positive], positives[i], rtol=1e-5, atol=1e-3)
        hidden = seen["anchors"][i].shape[0] - len(kept[i])
        assert hidden > 0
        moved = CODER.decode_single(seen["first_regression"][i].detach(), seen["anchors"][i])[sorted(kept[i])]
        for box in samples.boxes[mine]:  # no easy background among them
            assert (box - moved).abs().amax(1).min() < 1e-3
    codes = CODER.encode_single(samples.truth[samples.positive], samples.boxes[samples.positive])
    torch.testing.assert_close(samples.codes[samples.positive], codes)


def test_no_gradient_goes_through_the_moved_anchors():
    model = retinanet().train()
    losses = model(*batch())
    (losses["classification"] + losses["bbox_regression"]).backward(retain_graph=True)
    assert not model.head.first.weight.grad.any()  # the offsets' weights are 0 at first
    assert model.head.where.weight.grad.any()
    losses["anchor_regression"].backward()
    assert model.head.first.weight.grad.any()


# ---- in a detector --------------------------------------------------------------------------------------------------


def test_it_trains():
    model = retinanet().train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    totals = []
    for _ in range(8):
        losses = model(*batch())
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        totals.append(float(sum(losses.values()).detach()))
    assert totals[-1] < totals[0]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    images, targets = batch()
    losses = model(images[1:2], targets[1:2])
    assert losses["anchor_regression"].item() == 0
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    model.eval()
    found = model(images)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), retinanet().eval()):
        twin.load_state_dict(model.state_dict())
        assert all(a["boxes"].equal(b["boxes"]) and a["scores"].equal(b["scores"]) for a, b in zip(twin(images), found))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision(dtype):
    model = retinanet()
    with torch.autocast("cpu", dtype=dtype):
        losses = model(*batch())
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_wild_first_steps_stay_finite():
    model = retinanet().train()
    for value in (1e4, -1e4):
        nn.init.constant_(model.head.first.bias, value)
        losses = model(*batch())
        sum(losses.values()).backward()
        assert all(loss.isfinite() for loss in losses.values())
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("detector", ["faster_rcnn", "fcos", "ssd"])
def test_other_detectors_have_no_such_head(detector):
    model = build(detector, classes=3, image_size=SIZE)
    with pytest.raises(ValueError, match=r"head \(RetinaNet alone has it\)"):
        attach(model, Recipe(name="x", head=CascadedRefinement))


def test_a_code_of_corners_is_refused():
    model = build("retinanet", classes=3, image_size=SIZE)
    with pytest.raises(ValueError, match="this head moves anchors by their centres"):
        attach(model, Recipe(name="x", head=CascadedRefinement, stages=Stage(box_loss=KLLoss())))
    assert not hasattr(model, "recipe")


def test_settings_and_kinds():
    with pytest.raises(ValueError, match="dilation"):
        CascadedRefinement(RetinaNetHead(16, 3, 5), dilation=0)
    assert recipes.kinds("efgr") == ("dense",)
    with pytest.raises(ValueError, match="RetinaNet's head"):
        recipes.get("efgr", "ssd")
