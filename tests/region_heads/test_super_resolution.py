"""Super-resolution of small regions: the dilated look, the pairs, who learns from what, and which regions go where."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import resnet18
from torchvision.ops import MultiScaleRoIAlign, roi_align

from detbalance import Recipe, Stage, attach, recipes
from detbalance.detectors import build
from detbalance.detectors.backbone import LightResNet
from detbalance.losses import KLLoss
from detbalance.region_heads import SuperResolution
from detbalance.region_heads._super_resolution import dilated

IMAGES = [torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(i)) for i in range(2)]
TARGETS = [
    {"boxes": torch.tensor([[10.0, 10, 40, 44], [42, 20, 60, 32]]), "labels": torch.tensor([1, 2])},
    {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)},
]
SIDE = (64 * 96) ** 0.5


def detector(**settings):
    torch.manual_seed(0)
    model = build("faster_rcnn", classes=3, image_size=(64, 96)).train()
    return attach(model, Recipe(name="x", region=SuperResolution(**settings)))


def run(model, seed=1):
    torch.manual_seed(seed)
    return model(list(IMAGES), copy.deepcopy(TARGETS))


@pytest.mark.parametrize("network", [LightResNet, lambda: nn.Sequential(*list(resnet18().children())[:-2])])
def test_the_dilated_look_sees_what_the_same_network_sees_in_half_the_pixels(network):
    torch.manual_seed(0)
    network, image = network().eval(), torch.rand(1, 3, 128, 192)
    before = [(m.dilation, m.padding) for m in network.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        with dilated(network):
            fine = network(image)
        coarse = network(image[..., ::2, ::2])
        assert fine.shape == network(image).shape  # as fine as the detector's own
    torch.testing.assert_close(fine[..., ::2, ::2], coarse, rtol=1e-4, atol=1e-5)
    assert [(m.dilation, m.padding) for m in network.modules() if isinstance(m, nn.Conv2d)] == before


def test_the_losses_against_the_paper():
    """Features, pairs and losses region by region."""
    model = detector(small=0.2, content=0.7, adversarial=0.3)
    pool = model.roi_heads.box_roi_pool
    nn.init.normal_(pool.generator.add.weight, std=0.1)
    seen, batch = [], []
    model.roi_heads.treatment.observers.append(lambda stage, samples, losses, rows: seen.append(samples))
    model.backbone.register_forward_pre_hook(lambda m, x: batch.append(x[0]))
    losses = run(model)
    samples = seen[0]
    for m in model.backbone.modules():  # the step's own look has moved the running statistics before the others
        if isinstance(m, nn.BatchNorm2d):
            m.eval()
    with torch.no_grad():
        halved = list(
            model.backbone(F.interpolate(batch[0], scale_factor=0.5, mode="bilinear", antialias=True)).values()
        )
        with dilated(model.backbone):
            targets = list(model.backbone(batch[0]).values())
    own = MultiScaleRoIAlign(["1", "2", "3"], 5, 2, canonical_scale=56, canonical_level=4)
    pairs = []
    for row, box in enumerate(samples.boxes):
        if ((box[2] - box[0]) * (box[3] - box[1])) ** 0.5 >= 0.4 * SIDE:
            continue
        own.scales = own.map_levels = None
        own(dict(zip("123", targets)), [box[None]] * 2, [(64, 96)] * 2)
        level, image = int(own.map_levels([box[None]])), int(samples.image[row])

        def pooled(maps, of, box=box, image=image):
            return roi_align(maps[of][image, None], [box[None]], (5, 5), 1 / (8 * 2**of), 2)

        made = pool.generator(pooled(halved, level, box / 2), pooled(halved, 0, box / 2))
        pairs.append((made, pooled(targets, level)))
    size = torch.cat([target for _, target in pairs]).square().mean().sqrt()
    count, content, fooled, told = len(pairs), 0.0, 0.0, 0.0
    for made, target in pairs:
        made, target = made / size, target / size
        content += (made - target).square().mean()
        fooled -= pool.discriminator(made).sigmoid().log().sum()
        told -= pool.discriminator(target).sigmoid().log().sum()
        told -= (1 - pool.discriminator(made).sigmoid()).log().sum()
    assert 0 < count < len(samples.boxes)
    for name, expected in (("content", 0.7 * content), ("adversarial", 0.3 * fooled), ("discriminator", told)):
        torch.testing.assert_close(losses[f"loss_{name}"], expected / count, rtol=1e-3, atol=1e-5)


def test_who_learns_from_what():
    model = detector()
    pool = model.roi_heads.box_roi_pool
    nn.init.normal_(pool.generator.add.weight, std=0.1)
    for names, learner in ((("content", "adversarial"), "generator"), (("discriminator",), "discriminator")):
        model.zero_grad()
        losses = run(model)
        sum(losses[f"loss_{name}"] for name in names).backward()
        learning = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
        assert learning
        assert all(n.startswith(f"roi_heads.box_roi_pool.{learner}.") for n in learning)
    model.zero_grad()
    losses = run(model)
    (losses["loss_classifier"] + losses["loss_box_reg"]).backward()
    assert pool.generator.join.weight.grad.any()  # the small predictor's losses reach the generator
    assert all(p.grad is None for p in pool.discriminator.parameters())


def test_small_regions_pass_the_generator_and_have_a_predictor_of_their_own():
    model = detector().eval()
    head, predictor, pool = model.roi_heads.box_head, model.roi_heads.box_predictor, model.roi_heads.box_roi_pool
    for module in (pool.generator.add, predictor.cls_score, predictor.further[0].cls_score, head.further[0].fc6):
        nn.init.normal_(module.weight, std=0.1)
    side = 0.173 * SIDE
    boxes = torch.tensor(
        [[2.0, 2, 2 + side - 0.1, 2 + side - 0.1], [2, 2, 2 + side + 0.1, 2 + side + 0.1], [0, 0, 90, 60]]
    )
    with torch.no_grad():
        features = model.backbone(torch.stack(IMAGES))
        shapes, both = [(64, 96)] * 2, [boxes[:2], boxes[2:]]
        logits, _ = predictor(head(pool(features, both, shapes)))
        plain, lower = pool.pool(features, both, shapes), roi_align(features["1"], both, (5, 5), 1 / 8, 2)
        for row in range(3):
            x = plain[row, None]
            if row == 0:
                x = pool.generator(x, lower[row, None])
                expected = predictor.further[0](head.further[0](x))[0]
            else:
                expected = predictor.predict(head.whole(x))[0]
            torch.testing.assert_close(logits[row], expected[0])


def test_before_the_first_step_it_is_the_detector_as_it_was():
    torch.manual_seed(0)
    plain = build("faster_rcnn", classes=3, image_size=(64, 96)).eval()
    model = attach(copy.deepcopy(plain), Recipe(name="x", region=SuperResolution())).eval()
    for a, b in zip(model(IMAGES), plain(IMAGES)):
        for key in a:
            torch.testing.assert_close(a[key], b[key])


def test_the_looks_leave_no_trace():
    """The norms know the step itself, every module trains as before, and no image is held."""
    model = detector()
    plain = copy.deepcopy(model)
    run(model)
    images, _ = plain.transform(list(IMAGES))
    plain.backbone(images.tensors)
    kept = dict(model.backbone.named_buffers())
    for name, buffer in plain.backbone.named_buffers():
        torch.testing.assert_close(kept[name], buffer)
    assert all(m.training for m in model.modules())
    assert model.roi_heads.box_roi_pool._images is None
    assert not any(name.count("backbone") > 1 or "pool.backbone" in name for name in model.state_dict())


def test_one_image_of_one_place_on_the_coarsest_map():
    model = build("faster_rcnn", classes=3, image_size=(64, 64)).train()
    model = attach(model, recipes.super_resolution("rcnn"))
    losses = model([torch.rand(3, 64, 64)], [{"boxes": torch.tensor([[1.0, 1, 9, 9]]), "labels": torch.tensor([1])}])
    assert all(loss.isfinite() for loss in losses.values())


def test_it_goes_with_a_light_image_pyramid():
    model = build("faster_rcnn", classes=3, image_size=(64, 96)).train()
    model = attach(model, recipes.get("super_resolution+efip", "rcnn"))
    assert all(loss.isfinite() for loss in run(model).values())


def test_what_is_refused():
    model = build("faster_rcnn", classes=3, image_size=(64, 96))
    recipe = Recipe(name="x", region=SuperResolution(), stages=Stage(box_loss=KLLoss()))
    with pytest.raises(ValueError, match="to learn deviations"):
        attach(model, recipe)
    for wrong in ({"small": 0.0}, {"small": 1.0}, {"content": -1.0}, {"adversarial": float("inf")}, {"blocks": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            SuperResolution(**wrong)
