"""Boxes made for the regressor alone: classes, masks and keypoints train as without them, boxes on nothing else."""

import copy

import pytest
import torch
from torchvision.models.detection import MaskRCNN
from torchvision.ops import box_iou
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from detbalance import Recipe, Stage, attach, recipes
from detbalance.box_generators import IoUUniformJitter
from detbalance.detectors import build
from detbalance.detectors.backbone import with_fpn
from detbalance.losses import GIoULoss
from detbalance.probes import Probe
from detbalance.weights import ConstantWeights, IoUBalancedWeights

TARGETS = [
    {"boxes": torch.tensor([[10.0, 10, 40, 44], [42, 20, 80, 56]]), "labels": torch.tensor([1, 2])},
    {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)},
]
IMAGES = [torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(i)) for i in range(2)]


def trained(recipe, detector="faster_rcnn", targets=TARGETS):
    """Losses and the table of samples of one step."""
    torch.manual_seed(0)
    model = attach(build(detector, classes=3, image_size=(64, 96)).train(), recipe)
    seen = []
    for head in (model.roi_heads, *getattr(model.roi_heads, "later", ())):
        head.treatment.observers.append(lambda stage, samples, losses, rows: seen.append((samples, losses, rows)))
    torch.manual_seed(1)
    return model, model(IMAGES, copy.deepcopy(targets)), seen


def test_classes_train_as_without():
    _, plain, _ = trained(recipes.baseline("rcnn"))
    _, ours, _ = trained(recipes.iou_uniform("rcnn"))
    for name in plain:
        assert torch.equal(ours[name], plain[name]) is (name != "loss_box_reg"), name


def test_boxes_train_on_the_made_ones_alone():
    """Box by box: smooth L1 of torchvision's Faster R-CNN, averaged as there over the sampled rows."""
    _, losses, ((samples, _, _),) = trained(recipes.iou_uniform("rcnn"))
    made = samples.generated
    assert samples.positive[made].all()
    assert made.sum() == 32
    truths, total = TARGETS[0]["boxes"], 0.0
    for row in made.nonzero().flatten().tolist():
        overlaps = box_iou(samples.boxes[row][None], truths)[0]
        assert samples.image[row] == 0
        assert overlaps.max() > 0.5
        owner = int(overlaps.argmax())
        assert samples.labels[row] == TARGETS[0]["labels"][owner]
        box, truth = samples.boxes[row], truths[owner]
        size, goal = box[2:] - box[:2], truth[2:] - truth[:2]
        code = [10 * ((truth[i] + truth[i + 2] - box[i] - box[i + 2]) / 2 / size[i]) for i in (0, 1)]
        code += [5 * (goal[i] / size[i]).log() for i in (0, 1)]
        for predicted, wanted in zip(samples.deltas[row], code):
            d = abs(float(predicted.detach()) - float(wanted))
            total += 4.5 * d * d if d < 1 / 9 else d - 1 / 18
    assert float(losses["loss_box_reg"]) == pytest.approx(total / int((~made).sum()), rel=1e-4)


def test_gradients_go_where_they_belong():
    _, losses, ((samples, _, _),) = trained(recipes.iou_uniform("rcnn"))
    (boxes,) = torch.autograd.grad(losses["loss_box_reg"], samples.deltas, retain_graph=True)
    (classes,) = torch.autograd.grad(losses["loss_classifier"], samples.logits, retain_graph=True)
    moved, scored = boxes.abs().sum(1) > 0, classes.abs().sum(1) > 0
    assert torch.equal(scored, ~samples.generated)
    assert moved[samples.generated].any()
    assert not moved[~samples.generated].any()


def test_weights_and_losses_in_xyxy():
    stage = Stage(
        box_generator=IoUUniformJitter(),
        box_loss=GIoULoss(),
        weigh=(IoUBalancedWeights(), ConstantWeights()),
    )
    model, losses, ((samples, _, rows),) = trained(Recipe(name="x", stages=stage))
    assert all(loss.isfinite() for loss in losses.values())
    (values, weights), (box, box_weights) = rows["loss_classifier"], rows["loss_box_reg"]
    assert len(values) == len(weights) == len(samples.labels)
    assert len(box) == len(box_weights) == int(samples.positive.sum())
    torch.testing.assert_close((values * weights).sum(), losses["loss_classifier"])
    torch.testing.assert_close((box * box_weights).sum(), losses["loss_box_reg"])
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_probes_see_them():
    torch.manual_seed(0)
    model = attach(build("faster_rcnn", classes=3, image_size=(64, 96)).train(), recipes.iou_uniform("rcnn"))
    probe = Probe(model, every=1)
    model(IMAGES, copy.deepcopy(TARGETS))
    (record,) = probe.records
    assert len(record["iou_before"]) >= 32


def test_masks_train_as_without():
    targets, found = copy.deepcopy(TARGETS), []
    for target in targets:
        target["masks"] = torch.ones(len(target["boxes"]), 64, 96, dtype=torch.uint8)
    for name in ("baseline", "iou_uniform"):
        torch.manual_seed(0)
        backbone = with_fpn("nano", levels=(1, 2, 3, 4), out_channels=16, extra_blocks=LastLevelMaxPool())
        model = MaskRCNN(backbone, 4, min_size=64, max_size=96, rpn_post_nms_top_n_train=60)
        attach(model.train(), recipes.get(name, "rcnn"))
        torch.manual_seed(1)
        found.append(model(IMAGES, copy.deepcopy(targets)))
    assert torch.equal(found[0]["loss_mask"], found[1]["loss_mask"])


def test_in_a_cascade_every_head_has_its_own():
    _, losses, seen = trained(recipes.iou_uniform("rcnn"), "cascade_rcnn")
    assert all(loss.isfinite() for loss in losses.values())
    assert [int(samples.generated.sum()) for samples, _, _ in seen] == [32, 32, 32]
    first, second = (samples for samples, _, _ in seen[:2])
    assert (~second.generated).sum() <= (~first.generated).sum()  # what was made is no proposal of the next head


def test_no_objects():
    model, losses, ((samples, _, _),) = trained(recipes.iou_uniform("rcnn"), targets=[TARGETS[1]] * 2)
    assert not samples.generated.any()
    assert losses["loss_box_reg"] == 0
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
