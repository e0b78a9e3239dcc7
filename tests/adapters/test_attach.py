"""attach: what it refuses, what it fills, and that every named recipe trains on its detectors."""

import math
from functools import partial

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from detbalance import Recipe, Stage, attach, recipes
from detbalance.adapters import kind_of
from detbalance.adapters.stage import mean_over_ranks
from detbalance.detectors import build
from detbalance.losses import CrossEntropyLoss, FocalLoss
from detbalance.necks import FPN, BalancedFPN
from detbalance.samplers import AllSampler, CombinedSampler, HardNegativeSampler, OHEMSampler, RandomSampler
from detbalance.weights import PrimeSampleWeights

DETECTORS = {"dense": "retinanet", "ssd": "ssd", "yolo": "yolov2", "rcnn": "faster_rcnn"}


def worth_trying(kind, name):
    """Does the recipe touch the detector, and in a way of its own? A neck or a box loss alone goes into all alike."""
    recipe = recipes.get(name, kind)
    neck_alone = recipe == Recipe(name=name, neck=recipe.neck) and recipe.neck is not None
    loss_alone = name in recipes.in_group(recipes.regression)
    return recipe.images is None and not (neck_alone and kind == "rcnn") and not (loss_alone and kind != "dense")


EVERY = [(kind, name) for name in recipes.names() for kind in recipes.kinds(name) if worth_trying(kind, name)]


def detector(kind, classes=3):
    torch.manual_seed(0)
    return build(DETECTORS[kind], classes=classes, image_size=(64, 96)).train()


def treated(kind, name):
    """With a named recipe, told what training would tell it."""
    model = attach(detector(kind), recipes.get(name, kind))
    if kind == "rcnn":
        model.rpn._post_nms_top_n = {"training": 60, "testing": 60}  # of the 1,500 anchors that so small an image has
    for part in model.modules():
        if hasattr(part, "set_counts"):
            part.set_counts((0, 5, 3, 1))
    return model


def batch(count=6):
    """Some images; the second has no objects."""
    generator = torch.Generator().manual_seed(0)
    images, targets = [], []
    for i in range(count):
        image = torch.rand(3, 64, 96, generator=generator) * 0.3
        objects = 0 if i == 1 else 2
        corner = torch.rand(objects, 2, generator=generator) * torch.tensor([60.0, 30.0])
        boxes = torch.cat((corner, corner + 24), 1)
        labels = torch.randint(1, 4, (objects,), generator=generator)
        for (x1, y1, x2, y2), label in zip(boxes.int().tolist(), labels.tolist()):
            image[label - 1, y1:y2, x1:x2] = 1.0
        images.append(image)
        targets.append({"boxes": boxes, "labels": labels})
    return images, targets


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_every_recipe_trains(kind, name):
    """A few steps on one batch, an image without objects in it: finite, and the loss falls."""
    model = treated(kind, name)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    images, targets = batch(4)
    torch.manual_seed(1)
    totals = []
    slow = kind == "dense" and name in ("aug_fpn", "consistent_supervision")  # they pool 512 regions from every level
    for _ in range(4 if slow else 9):
        losses = model(images, targets)
        total = sum(losses.values())
        optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0, error_if_nonfinite=True)
        optimizer.step()
        if name == "alrp":  # its box part is divided by the ranks, and so grows at first as they get better
            total = losses["loss_objectness" if kind == "rcnn" else "classification"]
        totals.append(float(total.detach()))
    assert sum(totals[-2:]) < sum(totals[:2])
    with torch.no_grad():
        found = model.eval()(images)
    assert all(torch.isfinite(f["boxes"]).all() and torch.isfinite(f["scores"]).all() for f in found)


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_recipe_without_any_object(kind, name):
    """A batch of empty images: finite loss and gradient."""
    model = treated(kind, name)
    images, _ = batch()
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    losses = model(images[:2], [dict(empty), dict(empty)])
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("kind", ["dense", "rcnn"])
def test_recipes_are_copied(kind):
    """Two models never share state, nor do they see later changes of the recipe's parts."""
    recipe = recipes.get("pisa", kind)
    first, second = attach(detector(kind), recipe), attach(detector(kind), recipe)
    assert first.recipe is not second.recipe
    assert first.recipe == second.recipe


@pytest.mark.parametrize("kind", ["dense", "rcnn"])
@pytest.mark.parametrize("name", ["focal", "pisa", "balanced_l1", "cross_entropy"])
def test_state_dict_keys_stay(kind, name):
    assert list(attach(detector(kind), recipes.get(name, kind)).state_dict()) == list(detector(kind).state_dict())


def test_state_of_a_stateful_part_goes_with_the_checkpoint():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, logits, target):
            self.calls += 1
            return FocalLoss()(logits, target)

    part = Counting()
    recipe = Recipe(name="counting", stages=Stage(cls_loss=part))
    model = attach(detector("dense"), recipe)
    model(*batch())
    assert model.state_dict()["treatment.cls_loss.calls"] == 1
    assert part.calls == 0


def test_slots_that_a_detector_lacks():
    with pytest.raises(ValueError, match=r"no proposal network.*it has images"):
        attach(detector("dense"), Recipe(name="x", proposals=Stage(sample=RandomSampler())))
    with pytest.raises(ValueError, match="cascade"):
        attach(detector("dense"), Recipe(name="x", stages=(Stage(), Stage())))
    with pytest.raises(ValueError, match="box_generator"):
        attach(detector("dense"), Recipe(name="x", stages=Stage(box_generator=print)))
    with pytest.raises(ValueError, match="box_generator"):
        attach(detector("rcnn"), Recipe(name="x", proposals=Stage(box_generator=print)))
    with pytest.raises(ValueError, match="head"):
        attach(detector("rcnn"), Recipe(name="x", head=print))


def test_losses_for_other_scores_are_refused():
    with pytest.raises(ValueError, match="softmax with the background"):
        attach(detector("ssd"), Recipe(name="x", stages=Stage(cls_loss=FocalLoss())))
    with pytest.raises(ValueError, match="one sigmoid a class"):
        attach(detector("dense"), Recipe(name="x", stages=Stage(cls_loss=CrossEntropyLoss(softmax=True))))


def test_models_that_are_no_detector():
    with pytest.raises(TypeError, match=r"RetinaNet.*but got torchvision.*ResNet"):
        attach(resnet18(), recipes.baseline("dense"))
    with pytest.raises(ValueError, match=r"kind 'dense', .*'rcnn' but got 'one'"):
        recipes.libra("one")


def test_a_failed_attach_leaves_the_model_as_it_was():
    model = detector("rcnn")
    stage = Stage(cls_loss=CrossEntropyLoss(softmax=True), prior=0.3)
    with pytest.raises(ValueError, match="softmax"):
        attach(model, Recipe(name="x", neck=BalancedFPN, proposals=stage))
    assert type(model.roi_heads).__name__ == "RoIHeads"
    assert type(model.backbone.fpn).__name__ == "FeaturePyramidNetwork"
    same = detector("rcnn").state_dict()
    assert all(torch.equal(value, same[name]) for name, value in model.state_dict().items())
    assert kind_of(attach(model, recipes.baseline("rcnn"))) == "rcnn"


def test_prior_and_threshold():
    model = attach(detector("dense"), Recipe(name="x", stages=Stage(prior=0.2, score_threshold=0.3)))
    assert model.score_thresh == 0.3
    assert torch.allclose(model.head.classification_head.cls_logits.bias.sigmoid(), torch.tensor(0.2))
    model = attach(detector("rcnn"), Recipe(name="x", proposals=Stage(prior=0.1), stages=Stage(prior=0.3)))
    assert torch.allclose(model.rpn.head.cls_logits.bias.sigmoid(), torch.tensor(0.1))
    scores = model.roi_heads.box_predictor.cls_score.bias.softmax(0)
    assert torch.allclose(scores, torch.tensor([0.7, 0.1, 0.1, 0.1]))
    with pytest.raises(ValueError, match="prior between 0 and 1 but got 1"):
        Stage(prior=1)


def test_new_neck_takes_over_the_weights_of_the_old():
    plain, model = detector("dense"), detector("dense")
    attach(model, Recipe(name="x", neck=partial(BalancedFPN, refine="conv")))
    ours, theirs = model.backbone.fpn.state_dict(), plain.backbone.fpn.state_dict()
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    assert len(ours) > len(theirs)
    same = attach(detector("dense"), Recipe(name="x", neck=FPN))
    images, targets = batch()
    for name, loss in plain(images, targets).items():
        torch.testing.assert_close(same(images, targets)[name], loss)


def test_own_assigner_is_checked():
    def wrong(boxes, target, levels, predictions):
        return torch.full((len(boxes),), 99)

    model = attach(detector("dense"), Recipe(name="x", stages=Stage(assign=wrong)))
    with pytest.raises(ValueError, match="expected rows in -2"):
        model(*batch())


def test_own_assigner_is_used():
    def nobody(boxes, target, levels, predictions):
        assert levels.shape == (len(boxes),)
        return torch.full((len(boxes),), -1)

    model = attach(detector("dense"), Recipe(name="x", stages=Stage(assign=nobody)))
    assert model(*batch())["bbox_regression"] == 0


def test_objective_weighs_the_losses():
    def halve(losses):
        return {name: loss / 2 for name, loss in losses.items()}

    plain = detector("dense")(*batch())
    halved = attach(detector("dense"), Recipe(name="x", objective=halve))(*batch())
    for name in plain:
        torch.testing.assert_close(halved[name], plain[name] / 2)


def test_loss_weights():
    plain = detector("dense")(*batch())
    weighed = attach(detector("dense"), Recipe(name="x", stages=Stage(cls_weight=2.0, box_weight=3.0)))(*batch())
    torch.testing.assert_close(weighed["classification"], 2 * plain["classification"])
    torch.testing.assert_close(weighed["bbox_regression"], 3 * plain["bbox_regression"])


def scale_of(sampler):
    """The losses of a RetinaNet with cross-entropy at even odds: each row then has the same class loss."""
    model = detector("dense")
    logits = model.head.classification_head.cls_logits
    logits.weight.data.zero_()
    model = attach(model, Recipe(name="x", stages=Stage(sample=sampler, cls_loss=CrossEntropyLoss(), prior=0.5)))
    return model(*batch())


def test_a_fixed_number_of_samples_is_averaged_over_the_samples():
    """As in Faster R-CNN: the class loss is the mean over the rows, whatever the number of objects or of rows."""
    for count in (16, 256):
        for sampler in (RandomSampler(count=count), OHEMSampler(count=count), CombinedSampler(count=count)):
            assert scale_of(sampler)["classification"].item() == pytest.approx(4 * math.log(2), rel=1e-5)


def test_mined_negatives_are_averaged_over_the_positives():
    """As in SSD: one positive and three negatives for each unit of the loss; the image without objects adds nothing."""
    loss = scale_of(HardNegativeSampler())["classification"].item()
    assert loss == pytest.approx(4 * 4 * math.log(2) * 5 / 6, rel=1e-5)


def test_class_and_box_loss_are_averaged_alike():
    """What keeps their ratio the papers': both over the samples, or both over the positives."""
    few, all_ = scale_of(RandomSampler(count=64, positive_fraction=1)), scale_of(AllSampler())
    assert few["bbox_regression"] < 0.6 * all_["bbox_regression"]
    torch.testing.assert_close(all_["bbox_regression"], scale_of(HardNegativeSampler())["bbox_regression"])


def test_a_sampler_may_see_the_whole_batch():
    class Hardest(nn.Module):
        def sample_batch(self, candidates, generator=None):
            assert len(candidates) == 6
            return [c.loss().argmax()[None] for c in candidates]

    for kind, slot in (("dense", "stages"), ("rcnn", "stages"), ("rcnn", "proposals")):
        losses = attach(detector(kind), Recipe(name="x", **{slot: Stage(sample=Hardest())}))(*batch())
        assert all(torch.isfinite(loss) for loss in losses.values())


def test_ohem_trains_the_candidates_of_the_highest_loss():
    """The sampled candidates of the RoI head are those that a pass over all of them finds hardest."""
    model = attach(detector("rcnn"), Recipe(name="x", stages=Stage(sample=OHEMSampler(count=8, nms_threshold=None))))
    seen = {}
    heads = model.roi_heads
    choose = heads.treatment.choose

    def watch(candidates):
        rows = choose(candidates)
        loss = candidates.loss()
        seen[len(seen)] = (loss[rows].min(), loss.sort(descending=True).values[len(rows) - 1])
        return rows

    heads.treatment.choose = watch
    model(*batch())
    assert len(seen) == 6
    for lowest, expected in seen.values():
        torch.testing.assert_close(lowest, expected)


def test_weights_of_a_ranking_loss_are_refused():
    def ranks(logits, target):
        return (logits * 0).sum()

    stage = Stage(cls_loss=ranks, weigh=PrimeSampleWeights(negative=False))
    with pytest.raises(ValueError, match="ranks a set"):
        attach(detector("dense"), Recipe(name="x", stages=stage))(*batch())


def test_normalisers_alone_are_themselves():
    assert mean_over_ranks(torch.tensor(3.0)) == 3


def test_half_precision_under_autocast():
    model = attach(detector("dense"), recipes.pisa("dense"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(*batch())
    assert all(loss.dtype == torch.float32 and torch.isfinite(loss) for loss in losses.values())
