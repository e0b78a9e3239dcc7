"""What every region head does in a detector: trains, detects, is saved and copied, and goes with what there is else."""

import copy
import pickle

import pytest
import torch
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator

from detbalance import Recipe, Stage, attach, recipes
from detbalance.catalog import folder_of, methods
from detbalance.detectors import build
from detbalance.detectors.backbone import with_fpn
from detbalance.probes import Probe
from detbalance.samplers import OHEMSampler

SIZE = (64, 96)
METHODS = [method for method in methods() if folder_of(method) == "region_heads"]
EVERY = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.__name__)
IMAGES = [torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(i)) for i in range(2)]
TARGETS = [
    {"boxes": torch.tensor([[10.0, 10, 40, 44], [42, 20, 60, 32]]), "labels": torch.tensor([1, 2])},
    {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)},
]


def detector(method, name="faster_rcnn", **slots):
    torch.manual_seed(0)
    model = build(name, classes=3, image_size=SIZE)
    return attach(model.train(), Recipe(name="mine", region=method(), **slots))


def run(model, targets=TARGETS, seed=1):
    torch.manual_seed(seed)
    return model(list(IMAGES), copy.deepcopy(targets))


@EVERY
def test_the_loss_falls_and_every_parameter_learns(method):
    model = detector(method)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    totals = []
    for step in range(6):
        losses = run(model, seed=step)
        total = sum(losses.values())
        optimizer.zero_grad()
        total.backward()
        if not step:  # each has a gradient at the first step already, as processes that train together need it
            lacking = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
            assert not lacking
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
        optimizer.step()
        totals.append(total.item())
    assert sum(totals[-2:]) < 0.85 * sum(totals[:2])


@EVERY
def test_no_objects_at_all(method):
    model = detector(method)
    losses = run(model, [TARGETS[1]] * 2)
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    lacking = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not lacking
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    with torch.no_grad():
        assert len(model.eval()(list(IMAGES))) == 2


@EVERY
def test_it_is_saved_copied_and_sent(method):
    model = detector(method)
    run(model)
    other = build("faster_rcnn", classes=3, image_size=SIZE)
    names = set(other.state_dict())
    assert names <= set(model.state_dict())
    other = attach(other, Recipe(name="mine", region=method()))
    other.load_state_dict(model.state_dict())
    expected = model.eval()(IMAGES)
    for twin in (other, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        for a, b in zip(twin.eval()(IMAGES), expected):
            assert all(a[key].equal(b[key]) for key in a)
    again, losses = copy.deepcopy(model).train(), run(model.train())
    for p in model.parameters():
        p.data.zero_()
    for name, loss in run(again).items():
        torch.testing.assert_close(loss, losses[name])  # the copy shares nothing with the model


@EVERY
def test_half_precision(method):
    model = detector(method)
    exact = run(model)
    with torch.autocast("cpu", torch.bfloat16):
        losses = run(model)
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    assert sum(losses.values()).item() == pytest.approx(sum(exact.values()).item(), rel=0.3)


@EVERY
def test_samplers_that_look_at_predictions_and_probes(method):
    model = detector(method, stages=Stage(sample=OHEMSampler(count=16)))
    run(model)
    plain = {name: value.item() for name, value in run(copy.deepcopy(model)).items()}
    probe = Probe(model, every=1)
    assert {name: value.item() for name, value in run(model).items()} == plain
    assert len(probe.records) == 1
    probe.close()


@EVERY
def test_cascades_have_parts_of_their_own_in_each_stage(method):
    for name in ("cascade_rcnn", "faster_rcnn"):
        stages = {} if name == "cascade_rcnn" else {"stages": recipes.cascade("rcnn").stages}
        model = detector(method, name, **stages)
        heads = [model.roi_heads, *model.roi_heads.later]
        parameters = [{id(p) for n, p in h.named_parameters() if not n.startswith("later.")} for h in heads]
        assert parameters[0].isdisjoint(parameters[1])
        assert parameters[1].isdisjoint(parameters[2])
        losses = run(model)
        assert {"loss_classifier", "loss_classifier_2", "loss_box_reg_3"} <= set(losses)
        own = [name for name in losses if name.startswith("loss_") and name.endswith(("_2", "_3"))]
        assert len(own) == 2 * len([n for n in losses if not n.endswith(("_2", "_3"))]) - 4
        sum(losses.values()).backward()
        assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
        with torch.no_grad():
            assert len(model.eval()(list(IMAGES))) == 2


@EVERY
def test_masks_stay(method):
    """The mask head is the detector's own, and trains on the same boxes."""
    targets = [{**t, "masks": torch.ones(len(t["boxes"]), *SIZE, dtype=torch.uint8)} for t in TARGETS]

    def masked(region):
        torch.manual_seed(0)
        backbone = with_fpn("nano", levels=(1, 2, 3, 4), out_channels=16, extra_blocks=None)
        anchors = AnchorGenerator(sizes=((8,), (16,), (32,), (64,)), aspect_ratios=((1.0,),) * 4)
        model = MaskRCNN(backbone, 4, min_size=64, max_size=96, rpn_anchor_generator=anchors, box_detections_per_img=2)
        model.roi_heads.fg_bg_sampler.batch_size_per_image = 16
        return attach(model.train(), Recipe(name="mine", region=region))

    plain, model = masked(None), masked(method())
    torch.testing.assert_close(run(model, targets)["loss_mask"], run(plain, targets)["loss_mask"])
    with torch.no_grad():
        assert all("masks" in found for found in model.eval()(list(IMAGES)))


@EVERY
@pytest.mark.parametrize("name", ["retinanet", "fcos", "ssd", "yolov2"])
def test_one_stage_detectors_are_refused_and_left_alone(method, name):
    if getattr(method, "one_stage", False) and name in ("retinanet", "fcos"):
        pytest.skip("has a test of its own")
    model = build(name, classes=2)
    with pytest.raises(ValueError, match=r"region \(the region head of a two-stage detector\)"):
        attach(model, Recipe(name="mine", region=method()))
    assert not hasattr(model, "recipe")


def test_what_makes_no_parts_is_refused():
    with pytest.raises(TypeError, match="expected RegionParts but got Sequential"):
        attach(build("faster_rcnn", classes=2), Recipe(name="mine", region=lambda parts: torch.nn.Sequential()))
