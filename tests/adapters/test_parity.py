"""attach(model, baseline) is torchvision: losses and gradients to 1e-6, images without objects included.

In float64, where 1e-6 is far above rounding: in float32 the order of a sum alone moves a gradient by more than that.
"""

import copy
import pickle

import pytest
import torch
from torchvision.models.detection import FCOS, FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from detbalance import Recipe, Stage, attach
from detbalance.detectors.backbone import with_fpn
from detbalance.losses import BalancedL1Loss, CrossEntropyLoss, FocalLoss, GIoULoss, SmoothL1Loss
from detbalance.samplers import HardNegativeSampler, RandomSampler

OPTIONS = {"num_classes": 5, "min_size": 96, "max_size": 128}


def retinanet(loss_type="l1"):
    """torchvision's RetinaNet as it comes, on a light backbone."""
    model = RetinaNet(
        with_fpn("nano", levels=(2, 3, 4), out_channels=32, extra_blocks=LastLevelP6P7(32, 32)), **OPTIONS
    )
    model.head.regression_head._loss_type = loss_type
    return model


def retinanet_giou():
    return retinanet("giou")


def fcos():
    """torchvision's FCOS as it comes, on a light backbone."""
    return FCOS(with_fpn("nano", levels=(2, 3, 4), out_channels=32, extra_blocks=LastLevelP6P7(32, 32)), **OPTIONS)


def ssd():
    """torchvision's SSD as it comes, on two maps of a light network."""
    backbone = with_fpn("nano", levels=(2, 3), out_channels=32, extra_blocks=None)
    backbone.out_channels = [32, 32]
    return SSD(backbone, DefaultBoxGenerator([[2], [2, 3]], scales=[0.2, 0.4, 0.8]), (128, 96), 5)


def faster_rcnn(kind=FasterRCNN):
    """torchvision's Faster R-CNN as it comes, on a light backbone."""
    backbone = with_fpn("nano", levels=(1, 2, 3, 4), out_channels=32, extra_blocks=LastLevelMaxPool())
    few = {"rpn_post_nms_top_n_train": 150, "box_batch_size_per_image": 64, "box_detections_per_img": 20}
    return kind(backbone, **few, **OPTIONS)


def mask_rcnn():
    return faster_rcnn(MaskRCNN)


BUILDERS = [retinanet, retinanet_giou, fcos, ssd, faster_rcnn, mask_rcnn]


def build(builder):
    torch.manual_seed(0)
    return builder().train().double()


def batch(empty=(1,), masks=False):
    generator = torch.Generator().manual_seed(1)
    images, targets = [], []
    for i, (height, width) in enumerate([(96, 128), (100, 90), (80, 120)]):
        images.append(torch.rand(3, height, width, generator=generator, dtype=torch.float64))
        count = 0 if i in empty else 3
        corner = torch.rand(count, 2, generator=generator) * 40
        size = 12 + torch.rand(count, 2, generator=generator) * 30
        target = {
            "boxes": torch.cat((corner, corner + size), 1).double(),
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
        torch.testing.assert_close(our_losses[name], loss, rtol=1e-6, atol=1e-6, check_dtype=False)
    assert our_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            our_gradients[name], gradient, rtol=1e-6, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("empty", [(1,), (0, 1, 2)])
def test_baseline_is_torchvision(builder, empty):
    plain, treated = build(builder), attach(build(builder), Recipe(name="baseline"))
    assert_same(plain, treated, *batch(empty, masks="mask" in builder.__name__))


@pytest.mark.parametrize("builder", BUILDERS)
def test_state_dict_and_inference_stay(builder):
    plain, treated = build(builder).float(), attach(build(builder), Recipe(name="baseline")).float()
    assert list(plain.state_dict()) == list(treated.state_dict())
    images = [image.float() for image in batch()[0]]
    with torch.no_grad():
        for ours, theirs in zip(treated.eval()(images), plain.eval()(images)):
            assert ours.keys() == theirs.keys()
            for name in theirs:
                assert torch.equal(ours[name], theirs[name])


def test_our_parts_in_torchvisions_places_are_torchvision():
    """Our own classes in the slots, the same losses and sampler: the path through samples, not the defaults."""
    dense = Recipe(name="same", stages=Stage(cls_loss=FocalLoss(gamma=2.0, alpha=0.25)))
    assert_same(build(retinanet), attach(build(retinanet), dense), *batch())
    dense = Recipe(name="same", stages=Stage(cls_loss=FocalLoss(), box_loss=GIoULoss()))
    assert_same(build(fcos), attach(build(fcos), dense), *batch())
    mined = Stage(
        sample=HardNegativeSampler(), cls_loss=CrossEntropyLoss(softmax=True), box_loss=SmoothL1Loss(beta=1.0)
    )
    assert_same(build(ssd), attach(build(ssd), Recipe(name="same", stages=mined)), *batch())
    rcnn = Recipe(
        name="same",
        proposals=Stage(
            sample=RandomSampler(count=256, positive_fraction=0.5),
            cls_loss=CrossEntropyLoss(),
            box_loss=SmoothL1Loss(beta=1 / 9),
        ),
        stages=Stage(
            sample=RandomSampler(count=64, positive_fraction=0.25),
            cls_loss=CrossEntropyLoss(softmax=True),
            box_loss=SmoothL1Loss(beta=1 / 9),
        ),
    )
    assert_same(build(faster_rcnn), attach(build(faster_rcnn), rcnn), *batch())


@pytest.mark.parametrize("builder", [retinanet, fcos, ssd, faster_rcnn])
def test_a_filled_slot_changes_its_loss_alone(builder):
    """That parity does not come from recipes being ignored."""
    name = "loss_box_reg" if builder is faster_rcnn else "bbox_regression"
    treated = attach(build(builder), Recipe(name="b", stages=Stage(box_loss=BalancedL1Loss(beta=0.11))))
    losses, _ = run(build(builder), *batch())
    ours, _ = run(treated, *batch())
    for other, loss in losses.items():
        same = torch.allclose(ours[other].double(), loss.double(), rtol=1e-6, atol=1e-6)
        assert same is (other != name), other


@pytest.mark.parametrize("builder", [retinanet, fcos, ssd, faster_rcnn])
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_share_nothing(builder, duplicate):
    treated = attach(build(builder), Recipe(name="baseline"))
    other = duplicate(treated)
    images, targets = batch()
    losses, gradients = run(treated, images, targets)
    for p in treated.parameters():
        p.data.zero_()
    ours, our_gradients = run(other, images, targets)
    for name in losses:
        torch.testing.assert_close(ours[name], losses[name])
    assert our_gradients.keys() == gradients.keys()
