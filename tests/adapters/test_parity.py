"""attach(model, baseline) is torchvision: losses and gradients to 1e-6, images without objects included."""

import copy

import pytest
import torch
from torchvision.models.detection import (
    fasterrcnn_resnet50_fpn,
    maskrcnn_resnet50_fpn,
    retinanet_resnet50_fpn,
    retinanet_resnet50_fpn_v2,
)

from detbalance import Recipe, Stage, attach
from detbalance.losses import BalancedL1Loss, CrossEntropyLoss, FocalLoss, SmoothL1Loss
from detbalance.samplers import RandomSampler

BUILDERS = [retinanet_resnet50_fpn, retinanet_resnet50_fpn_v2, fasterrcnn_resnet50_fpn, maskrcnn_resnet50_fpn]
OPTIONS = {"weights": None, "weights_backbone": None, "num_classes": 5, "min_size": 96, "max_size": 128}


def build(builder):
    torch.manual_seed(0)
    return builder(**OPTIONS).train()


def batch(empty=(1,), masks=False):
    generator = torch.Generator().manual_seed(1)
    images, targets = [], []
    for i, (height, width) in enumerate([(96, 128), (100, 90), (80, 120)]):
        images.append(torch.rand(3, height, width, generator=generator))
        count = 0 if i in empty else 3
        corner = torch.rand(count, 2, generator=generator) * 40
        size = 12 + torch.rand(count, 2, generator=generator) * 30
        target = {
            "boxes": torch.cat((corner, corner + size), 1),
            "labels": torch.randint(1, 5, (count,), generator=generator),
        }
        if masks:
            target["masks"] = torch.ones(count, height, width, dtype=torch.uint8)
        targets.append(target)
    return images, targets


def run(model, images, targets):
    torch.manual_seed(3)
    losses = model(images, targets)
    model.zero_grad()
    sum(losses.values()).backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return losses, gradients


def assert_same(plain, treated, images, targets):
    losses, gradients = run(plain, images, copy.deepcopy(targets))
    our_losses, our_gradients = run(treated, images, copy.deepcopy(targets))
    assert our_losses.keys() == losses.keys()
    for name, loss in losses.items():
        torch.testing.assert_close(our_losses[name], loss, rtol=1e-6, atol=1e-6)
    assert our_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(our_gradients[name], gradient, rtol=1e-6, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("empty", [(), (1,), (0, 1, 2)])
def test_baseline_is_torchvision(builder, empty):
    plain, treated = build(builder), attach(build(builder), Recipe(name="baseline"))
    assert_same(plain, treated, *batch(empty, masks="mask" in builder.__name__))


@pytest.mark.parametrize("builder", BUILDERS)
def test_state_dict_and_inference_stay(builder):
    plain, treated = build(builder), attach(build(builder), Recipe(name="baseline"))
    assert list(plain.state_dict()) == list(treated.state_dict())
    images, _ = batch()
    with torch.no_grad():
        for ours, theirs in zip(treated.eval()(images), plain.eval()(images)):
            assert ours.keys() == theirs.keys()
            for name in theirs:
                assert torch.equal(ours[name], theirs[name])


def test_our_parts_in_torchvisions_places_are_torchvision():
    """The same losses and sampler, by our own classes in the slots: the whole path through samples, not the defaults."""
    retinanet = Recipe(name="same", stages=Stage(cls_loss=FocalLoss(gamma=2.0, alpha=0.25)))
    assert_same(build(retinanet_resnet50_fpn), attach(build(retinanet_resnet50_fpn), retinanet), *batch())
    rcnn = Recipe(
        name="same",
        proposals=Stage(
            sample=RandomSampler(count=256, positive_fraction=0.5),
            cls_loss=CrossEntropyLoss(),
            box_loss=SmoothL1Loss(beta=1 / 9),
        ),
        stages=Stage(
            sample=RandomSampler(count=512, positive_fraction=0.25),
            cls_loss=CrossEntropyLoss(softmax=True),
            box_loss=SmoothL1Loss(beta=1 / 9),
        ),
    )
    assert_same(build(fasterrcnn_resnet50_fpn), attach(build(fasterrcnn_resnet50_fpn), rcnn), *batch())


@pytest.mark.parametrize("builder", [retinanet_resnet50_fpn, fasterrcnn_resnet50_fpn])
def test_a_filled_slot_changes_its_loss_alone(builder):
    """That parity does not come from recipes being ignored."""
    name = "bbox_regression" if "retinanet" in builder.__name__ else "loss_box_reg"
    treated = attach(build(builder), Recipe(name="b", stages=Stage(box_loss=BalancedL1Loss(beta=0.11))))
    losses, _ = run(build(builder), *batch())
    ours, _ = run(treated, *batch())
    for other, loss in losses.items():
        same = torch.allclose(ours[other], loss, rtol=1e-6, atol=1e-6)
        assert same is (other != name), other


@pytest.mark.parametrize("builder", [retinanet_resnet50_fpn, fasterrcnn_resnet50_fpn])
def test_copies_share_nothing(builder):
    treated = attach(build(builder), Recipe(name="baseline"))
    other = copy.deepcopy(treated)
    images, targets = batch()
    losses, gradients = run(treated, images, targets)
    for p in treated.parameters():
        p.data.zero_()
    ours, our_gradients = run(other, images, targets)
    for name in losses:
        torch.testing.assert_close(ours[name], losses[name])
    assert our_gradients.keys() == gradients.keys()
