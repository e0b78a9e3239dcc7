"""What all methods have in common, checked once: each class that `catalog.methods` finds runs its folder's part.

A method that is added to a folder is checked here without a line in this file.
"""

import copy
import dataclasses
import importlib
import inspect
import itertools
import pickle
import pkgutil
import re
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNetHead

from detbalance import boxes as box_ops
from detbalance.catalog import FOLDERS, exported, folder_of, methods, treating
from detbalance.detectors import build as build_detector
from detbalance.taxonomy import Imbalance
from detbalance.types import BACKGROUND, IGNORED, Candidates, RegionParts, Samples

TOLD_BY_THE_DETECTOR = {
    "in_channels": [8, 16, 24],
    "out_channels": 16,
    "num_classes": 4,
    "levels": 2,
    "head": RetinaNetHead(16, 3, 4),
    "counts": (0, 5, 1, 100),
}
"""arguments that may lack a default: nobody but the data or the detector can know them"""
DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


def build(method, **options):
    """An instance with its defaults."""
    for name, parameter in inspect.signature(method).parameters.items():
        if parameter.default is parameter.empty and parameter.kind not in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        ):
            assert name in TOLD_BY_THE_DETECTOR, f"{method.__name__} cannot be built without {name}"
            options.setdefault(name, copy.deepcopy(TOLD_BY_THE_DETECTOR[name]))  # a head keeps the parts of the old one
    return method(**options)


def every(folder=None, accept=lambda method: True):
    """Parametrize over the methods of a folder (None: of all)."""
    found = [m for m in methods() if folder in (None, folder_of(m)) and accept(m)]
    return pytest.mark.parametrize("method", found, ids=lambda m: m.__name__)


def finite(*tensors):
    return all(t.isfinite().all() for t in tensors)


# ---- every method -------------------------------------------------------------------------------------------------


def test_there_are_methods():
    assert len(methods()) == len(set(methods())) > 20
    assert all(method in methods() for problem in Imbalance for method in treating(problem))


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_method_is_exported(folder):
    package, missing = exported(folder), []
    for file in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{file.name}")
        for name, member in vars(module).items():
            mine = inspect.isclass(member) and member.__module__ == module.__name__ and not name.startswith("_")
            if mine and hasattr(member, "addresses") and hasattr(member, "paper") and name not in package.__all__:
                missing.append(f"from .{file.name} import {name}    # and {name!r} in __all__")
    assert not missing, f"{folder}/__init__.py lacks:\n" + "\n".join(missing)


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_is_exported_is_there(folder):
    package = exported(folder)
    assert len(package.__all__) == len(set(package.__all__))
    assert all(hasattr(package, name) for name in package.__all__)


@every()
def test_names_its_problem_and_its_paper(method):
    assert isinstance(method.addresses, tuple)
    assert all(isinstance(problem, Imbalance) for problem in method.addresses)
    assert method.addresses or "addresses no problem" in " ".join(method.__doc__.split())
    assert re.search(r"arXiv:\d{4}\.\d{4,5}|\b[A-Z][\w ]+ (19|20)\d\d\b", method.paper), method.paper


@every()
def test_docstring(method):
    doc = inspect.cleandoc(method.__doc__)
    assert re.search(r"^Shapes?: ", doc, re.M), "no line that begins with 'Shapes: '"
    assert ">>> " in doc, "no doctest"


@every()
def test_copies_and_pickles(method):
    original = build(method)
    for twin in (copy.deepcopy(original), pickle.loads(pickle.dumps(original))):
        assert type(twin) is method
        if isinstance(original, nn.Module):
            mine, theirs = original.state_dict(), twin.state_dict()
            assert mine.keys() == theirs.keys()
            assert all(mine[k].equal(theirs[k]) for k in mine)
        else:
            assert twin == original
            assert hash(twin) == hash(original)


@every(accept=dataclasses.is_dataclass)
def test_is_frozen_and_reads_back(method):
    one = build(method)
    scope = {name: getattr(exported(folder), name) for folder in FOLDERS for name in exported(folder).__all__}
    assert eval(repr(one), scope) == one
    for field in dataclasses.fields(one):
        assert field.kw_only
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(one, field.name, None)


@every(accept=lambda m: not dataclasses.is_dataclass(m))
def test_what_is_no_dataclass_is_a_module(method):
    assert issubclass(method, nn.Module)
    assert method.__name__ in repr(build(method))


# ---- assigners ----------------------------------------------------------------------------------------------------


def anchors(device="cpu", dtype=torch.float32, count=None):
    """Anchors of two levels on a grid, three about each place; the level of each; scores and predicted boxes."""
    boxes, levels = [], []
    for level, stride in enumerate((8, 16)):
        y, x = torch.meshgrid(torch.arange(64 // stride), torch.arange(96 // stride), indexing="ij")
        center = stride * (torch.stack((x, y), -1).reshape(-1, 1, 2) + 0.5)
        half = stride * torch.tensor([[1.0, 1.5], [1.3, 1.3], [1.5, 1.0]])
        boxes.append(torch.cat((center - half, center + half), -1).reshape(-1, 4))
        levels.append(torch.full((len(boxes[-1]),), level))
    boxes, levels = torch.cat(boxes)[:count], torch.cat(levels)[:count]
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(len(boxes), 4, generator=g).sigmoid()
    moved = boxes + torch.randn(boxes.shape, generator=g)
    boxes, levels, scores, moved = (t.to(device) for t in (boxes, levels, scores, moved))
    return boxes.to(dtype), levels, (scores.to(dtype), moved.to(dtype))


def objects(count, device="cpu", dtype=torch.float32):
    """Random objects of one image."""
    g = torch.Generator().manual_seed(count)
    corner = torch.rand(count, 2, generator=g) * torch.tensor([70.0, 40.0])
    boxes = torch.cat((corner, corner + 8 + 30 * torch.rand(count, 2, generator=g)), 1)
    return {"boxes": boxes.to(device, dtype), "labels": torch.randint(1, 4, (count,), generator=g).to(device)}


def assign(assigner, boxes, target, levels, predictions):
    """As the adapters call it."""
    looks = getattr(assigner, "needs_predictions", False)
    return assigner(boxes, target, levels, predictions if looks else None)


@every("assigners")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("count", [0, 1, 7, 40])
def test_assigner_gives_valid_rows(method, count, device):
    for dtype, candidates in itertools.product(DTYPES, (None, 1, 2, 0)):
        boxes, levels, predictions = anchors(device, dtype, candidates)
        matched = assign(build(method), boxes, objects(count, device, dtype), levels, predictions)
        assert matched.shape == (len(boxes),)
        assert matched.dtype == torch.int64
        assert matched.device == boxes.device
        assert ((matched >= IGNORED) & (matched < max(count, BACKGROUND + 1))).all()
        if candidates is None:
            assert (matched >= 0).any() == (count > 0), f"{count} objects, {dtype}"


@every("assigners")
def test_assigner_does_not_mind_the_order_of_objects(method):
    boxes, levels, predictions = anchors()
    target, order = objects(9), torch.tensor([3, 1, 8, 0, 4, 2, 7, 6, 5])
    shuffled = {name: value[order] for name, value in target.items()}
    matched = assign(build(method), boxes, shuffled, levels, predictions)
    expected = assign(build(method), boxes, target, levels, predictions)
    assert torch.where(matched >= 0, order[matched.clamp(min=0)], matched).equal(expected)


@every("assigners")
def test_assigner_takes_one_column_and_boxes_without_area(method):
    boxes, levels, (scores, moved) = anchors()
    target = objects(5)
    flat = {"boxes": torch.cat((target["boxes"], target["boxes"][:, [0, 1, 0, 1]])), "labels": torch.ones(10).long()}
    for p in (scores[:, :1], torch.zeros(len(boxes), 1), torch.ones(len(boxes), 4)):
        matched = assign(build(method), boxes, flat, levels, (p, moved))
        assert ((matched >= IGNORED) & (matched < 10)).all()


@every("assigners", lambda m: getattr(m, "needs_predictions", False))
def test_assigner_says_that_it_needs_predictions(method):
    boxes, levels, _ = anchors()
    with pytest.raises(ValueError, match=f"{method.__name__} goes by the present predictions"):
        build(method)(boxes, objects(2), levels, None)


@every("assigners")
def test_assigner_leaves_its_inputs_alone(method):
    boxes, levels, predictions = anchors()
    target = objects(7)
    given = (boxes, levels, *predictions, *target.values())
    before = [t.clone() for t in given]
    first = assign(build(method), boxes, target, levels, predictions)
    assert assign(build(method), boxes, target, levels, predictions).equal(first)
    assert all(a.equal(b) for a, b in zip(given, before))


# ---- samplers -----------------------------------------------------------------------------------------------------

SPARSE = ((0, 60, 9), (20, 0, 9), (0, 0, 9), (0, 0, 0), (1, 1, 0), (20, 60, 9), (90, 900, 30))


def candidates(positives, negatives, ignored, device="cpu"):
    """Candidates of one image in random order, with everything that a sampler may ask for."""
    g = torch.Generator().manual_seed(positives)
    n = positives + negatives + ignored
    kinds = (
        torch.randint(5, (positives,), generator=g),
        torch.full((negatives,), BACKGROUND),
        torch.full((ignored,), IGNORED),
    )
    matched = torch.cat(kinds)[torch.randperm(n, generator=g)]
    corner = 90 * torch.rand(n, 2, generator=g)
    boxes = torch.cat((corner, corner + 5 + 40 * torch.rand(n, 2, generator=g)), 1)
    iou = torch.rand(n, generator=g)
    labels = torch.where(matched >= 0, matched % 3 + 1, 0)
    scores = torch.randn(n, 4, generator=g).softmax(1)
    loss, level = iou.flip(0).to(device), torch.arange(n) % 3
    boxes, matched, iou, labels, scores, level = (x.to(device) for x in (boxes, matched, iou, labels, scores, level))
    objectness, remembered = 1 - scores[:, 0], boxes[::7] + 2
    return Candidates(boxes, matched, iou, labels, scores, lambda: loss, boxes + 1, level, objectness, remembered)


@every("samplers")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kinds", SPARSE, ids=str)
def test_sampler_gives_valid_rows(method, kinds, device):
    c = candidates(*kinds, device)
    rows = build(method)(c)
    assert rows.dtype == torch.int64
    assert rows.dim() == 1
    assert rows.device == c.boxes.device
    assert rows.tolist() == sorted(set(rows.tolist()))  # ascending, none twice
    assert set(rows.tolist()) <= set((c.matched != IGNORED).nonzero().flatten().tolist())


@every("samplers")
def test_sampler_is_decided_by_its_generator(method):
    c, sampler = candidates(90, 900, 30), build(method)
    first = sampler(c, torch.Generator().manual_seed(1))
    before = torch.get_rng_state()
    assert sampler(c, torch.Generator().manual_seed(1)).equal(first)
    assert torch.get_rng_state().equal(before)


@every("samplers")
def test_sampler_leaves_the_candidates_alone(method):
    c = candidates(20, 60, 9)
    names = [f.name for f in dataclasses.fields(c) if f.name != "loss"]
    before = {name: getattr(c, name).clone() for name in names}
    build(method)(c)
    assert all(getattr(c, name).equal(before[name]) for name in names)


# ---- weights ------------------------------------------------------------------------------------------------------


def samples(labels, *, softmax, columns=4, dtype=torch.float32, scale=2.0, device="cpu"):
    """Samples of a batch of three images, with everything that a weight may look at."""
    s, g = len(labels), torch.Generator().manual_seed(0)
    labels = torch.tensor(labels, dtype=torch.long).clamp(max=max(1, columns - 1))
    number = torch.arange(s)
    center = 20 + 30 * torch.rand(s, 2, generator=g)
    boxes = torch.cat((center - 10, center + 10), 1)
    truth = boxes + torch.randn(s, 4, generator=g)
    logits = (scale * torch.randn(s, columns, generator=g)).to(device, dtype).requires_grad_()
    deltas = (0.1 * torch.randn(s, 4, generator=g)).to(device, dtype).requires_grad_()
    matched = torch.where(labels > 0, number % 4, BACKGROUND)
    loss = torch.rand(s, generator=g).to(device)
    rest = (
        labels,
        boxes,
        box_ops.encode(truth, boxes),
        truth,
        torch.rand(s, generator=g),
        number % 3,
        number % 2,
        matched,
    )
    labels, boxes, codes, truth, iou, image, level, matched = (x.to(device) for x in rest)
    norm = torch.full_like(iou, 1 / max(1, s))
    return Samples(
        logits, labels, deltas, codes, boxes, truth, iou, image, level, norm, softmax, matched, None, lambda: loss
    )


LABELS = {"mixed": [0, 1, 2, 0, 3, 0, 1, 1, 0, 2], "none": [0] * 7, "all": [1, 2, 3, 1, 1], "empty": [], "one": [1]}


@every("weights")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("head", [(True, 4), (False, 4), (False, 1)], ids=["softmax", "sigmoid", "objectness"])
@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_weights_are_finite_factors(method, labels, head, device):
    softmax, columns = head
    for dtype, scale in itertools.product(DTYPES, (2.0, 1e4)):
        s = samples(labels, softmax=softmax, columns=columns, dtype=dtype, scale=scale, device=device)
        weigh = build(method)
        weights = (weigh.to(device) if isinstance(weigh, nn.Module) else weigh)(s)
        assert weights.shape == (len(labels),)
        assert weights.dtype in (torch.float32, torch.float64)
        assert weights.device == s.boxes.device
        assert finite(weights), f"{dtype}, logits of {scale}"
        assert (weights >= 0).all()
        if weights.requires_grad:
            (weights * torch.arange(len(labels), device=device)).sum().backward()
            assert all(x.grad is None or finite(x.grad) for x in (s.logits, s.deltas)), f"{dtype}, logits of {scale}"


@every("weights")
def test_weights_say_what_they_multiply(method):
    assert getattr(build(method), "applies_to", "class") in ("class", "box", "both")


# ---- losses -------------------------------------------------------------------------------------------------------


def is_class_loss(method):
    return hasattr(method, "target_kind")


def is_box_loss(method):
    return hasattr(method, "space")


def kinds_of_head(method):
    """The loss for a head of sigmoids and for a softmax, where it can do both."""
    if "softmax" in inspect.signature(method).parameters:
        return [build(method, softmax=flag) for flag in (False, True)]
    return [build(method)]


def fresh(loss):
    """A twin, so that running statistics do not travel from call to call."""
    return copy.deepcopy(loss)


def targets(labels, columns, loss):
    """The table of targets that the detector's side makes for a loss."""
    softmax = getattr(loss, "softmax", False)
    target = torch.zeros(len(labels), columns)
    for row, label in enumerate(labels):
        if softmax or label:
            target[row, min(label, columns - 1)] = 1.0
    if loss.target_kind == "iou":
        target *= torch.linspace(0.5, 1, max(1, len(labels)))[: len(labels), None]
    return target


@every("losses", is_class_loss)
@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("logit", ["scores", "right", "wrong", "zero"])
def test_class_loss_is_finite(method, labels, logit):
    for loss, columns, dtype in itertools.product(kinds_of_head(method), (4, 1), DTYPES):
        if columns == 1 and (getattr(loss, "softmax", False) or "counts" in inspect.signature(method).parameters):
            continue
        target = targets(labels, columns, loss)
        sign = 2 * target.bool().float() - 1
        noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(0))
        values = {"scores": 2 * noise, "right": 1e4 * sign, "wrong": -1e4 * sign, "zero": 0 * noise}[logit]
        logits = values.to(dtype).requires_grad_()
        result = fresh(loss)(logits, target.to(dtype))
        assert result.shape in (target.shape, target.shape[:1], torch.Size())
        assert result.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        result.sum().backward()
        assert finite(result, logits.grad), f"{loss}, {columns} columns, {dtype}"


@every("losses", is_class_loss)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_class_loss_computes_in_float32(method, dtype):
    for narrow, wide in zip(kinds_of_head(method), kinds_of_head(method)):
        target = targets(LABELS["mixed"], 4, narrow).to(dtype)
        logits = torch.randn(target.shape, generator=torch.Generator().manual_seed(0)).to(dtype)
        torch.testing.assert_close(narrow(logits, target), wide(logits.float(), target.float()))


@every("losses", is_class_loss)
def test_class_loss_prefers_the_truth(method):
    """From wrong to right the loss falls, and a step against the gradient lowers it."""
    for loss in kinds_of_head(method):
        target = targets(LABELS["mixed"], 4, loss)
        sign = 2 * target.bool().float() - 1
        wrong, right = (fresh(loss)(k * sign, target).sum() for k in (-2.0, 2.0))
        assert wrong > right
        logits = (-0.5 * sign).requires_grad_()
        value = fresh(loss)(logits, target).sum()
        value.backward()
        if value > 0:
            assert (logits.grad * sign).sum() < 0


BOXES = {
    "near": [[0.0, 0, 10, 10], [5, 5, 9, 12], [3, 4, 20, 30]],
    "zero area": [[1.0, 1, 1, 1], [0, 0, 0, 5], [3, 3, 9, 3]],
    "far": [[0.0, 0, 1, 1], [1e4, 1e4, 1.5e4, 2e4], [-1e4, -1e4, -9e3, -9e3]],
    "huge": [[-2e4, -2e4, 2e4, 2e4], [0, 0, 2e4, 1], [0, 0, 1, 2e4]],
}
CODES = {
    "near": [[0.1, -0.2, 0.3, 0.0], [0.0, 0.0, 0.0, 0.0], [1.0, -1.0, 0.5, -0.5]],
    "zero area": [[0.0, 0.0, -50.0, -50.0], [0.0, 0.0, -9.0, 0.0], [0.0, 0.0, 0.0, -9.0]],
    "far": [[1e3, 1e3, 0.0, 0.0], [-1e4, 0.0, 0.0, 0.0], [0.0, 1e4, 0.0, 0.0]],
    "huge": [[0.0, 0.0, 8.0, 8.0], [0.0, 0.0, 1e3, 1e3], [0.0, 0.0, 50.0, -50.0]],
}


@every("losses", is_box_loss)
@pytest.mark.parametrize("truth", BOXES)
@pytest.mark.parametrize("guess", [*BOXES, "identical", "none"])
def test_box_loss_is_finite(method, guess, truth):
    table = {"code": CODES, "xyxy": BOXES}[method.space]
    for dtype in DTYPES:
        target = torch.tensor(table[truth], dtype=dtype)
        predicted = target.clone() if guess == "identical" else torch.tensor(table.get(guess, []), dtype=dtype)
        if guess == "none":
            predicted, target = target[:0].clone(), target[:0]
        predicted.requires_grad_()
        result = build(method)(predicted, target)
        assert result.shape == (len(target),)
        assert result.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        result.sum().backward()
        assert finite(result, predicted.grad), dtype


@every("losses", is_box_loss)
def test_box_loss_is_least_at_the_truth(method):
    loss = build(method)
    target = torch.tensor({"code": CODES, "xyxy": BOXES}[loss.space]["near"])
    shift = 0.3 * torch.tensor([1.0, -1, 1, 1])
    assert (fresh(loss)(target, target) < fresh(loss)(target + shift, target)).all()


@every("losses", lambda m: not is_class_loss(m) and not is_box_loss(m))
@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("softmax", [False, True])
def test_joint_loss_is_finite(method, labels, softmax):
    s = samples(labels, softmax=softmax)
    losses = build(method)(s)
    assert losses
    assert all(value.shape == () and finite(value) for value in losses.values())
    sum(losses.values()).backward()
    assert finite(s.logits.grad)


# ---- necks --------------------------------------------------------------------------------------------------------


@every("necks")
@pytest.mark.parametrize(
    "sizes", [((32, 32), (16, 16), (8, 8)), ((13, 21), (7, 11), (4, 6)), ((3, 1), (2, 1), (1, 1))], ids=str
)
def test_neck_keeps_its_contract(method, sizes):
    neck = build(method).train()
    channels = TOLD_BY_THE_DETECTOR["in_channels"]
    maps = OrderedDict(
        (str(i), torch.randn(2, c, *size).requires_grad_()) for i, (c, size) in enumerate(zip(channels, sizes))
    )
    out = neck(maps)
    assert isinstance(out, OrderedDict)
    assert list(out)[: len(sizes)] == list(maps)
    for name, (height, width) in zip(out, sizes):
        assert out[name].shape == (2, TOLD_BY_THE_DETECTOR["out_channels"], height, width)
    sum(m.square().sum() for m in out.values()).backward()
    assert all(m.grad is not None and finite(m.grad) and m.grad.abs().sum() > 0 for m in maps.values())
    assert all(p.grad is not None and finite(p.grad) for p in neck.parameters())


# ---- heads --------------------------------------------------------------------------------------------------------


def anchors_of(head):
    """The detector's anchor generator, or what the head puts in its place."""
    generator = AnchorGenerator(((16,), (32,)), ((0.5, 1.0, 2.0),) * 2)
    return head.anchors(generator).train(head.training) if hasattr(head, "anchors") else generator


def predictions_of(head, sizes=((4, 6), (2, 3))):
    """The predictions for two images, and what each anchor was assigned: one image has nothing."""
    maps = [torch.randn(2, 16, *size, generator=torch.Generator().manual_seed(0)) for size in sizes]
    outputs = head([m.requires_grad_() for m in maps])
    per_place = anchors_of(head).num_anchors_per_location()
    anchors = sum(count * height * width for count, (height, width) in zip(per_place, sizes))
    matched = torch.full((2, anchors), BACKGROUND)
    matched[0, ::5], matched[0, 1::7] = 0, IGNORED
    return maps, outputs, matched


@every("heads")
def test_head_keeps_its_contract(method):
    """In evaluation the same two tables as the old head, and always the old head's parameters by their names."""
    old = copy.deepcopy(TOLD_BY_THE_DETECTOR["head"])
    head = build(method)
    assert set(old.state_dict()) <= set(head.state_dict())
    for training in (True, False):
        _, outputs, matched = predictions_of(head.train(training))
        assert outputs["cls_logits"].shape == (*matched.shape, 4)
        assert outputs["bbox_regression"].shape == (*matched.shape, 4)
        assert finite(*outputs.values())
    assert set(outputs) == {"cls_logits", "bbox_regression"}


@every("heads")
def test_head_has_an_anchor_for_each_prediction(method):
    head = build(method)
    images = ImageList(torch.zeros(2, 3, 32, 48), [(32, 48)] * 2)
    for training in (True, False):
        maps, outputs, _ = predictions_of(head.train(training))
        boxes = anchors_of(head)(images, maps)
        assert len(boxes) == 2
        assert all(b.shape == outputs["bbox_regression"].shape[1:] and b.dtype == torch.float32 for b in boxes)
        assert not any(b.requires_grad for b in boxes)


@every("heads")
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_head_supervises(method, scale):
    head = build(method).train()
    maps, outputs, matched = predictions_of(head)
    for rows in (matched, torch.full_like(matched, BACKGROUND), torch.full_like(matched, IGNORED), matched * 0):
        labels = (rows >= 0).long()
        scaled = {name: scale * value for name, value in outputs.items()}
        screened, losses = head.supervise(scaled, rows.clone(), labels, torch.tensor([0.1, 0.5]))
        assert screened.shape == rows.shape
        assert screened[rows >= 0].equal(rows[rows >= 0])  # an object is never hidden
        assert (screened[rows == IGNORED] == IGNORED).all()
        assert all(value.shape == () and finite(value) for value in losses.values())
        if losses:
            gradients = torch.autograd.grad(sum(losses.values()), maps, retain_graph=True)
            assert finite(*gradients)


# ---- region heads -------------------------------------------------------------------------------------------------


def region_parts():
    """Of a small two-stage detector."""
    model = build_detector("faster_rcnn", classes=3, image_size=(64, 96))
    heads = model.roi_heads
    return RegionParts(heads.box_roi_pool, heads.box_head, heads.box_predictor, 64, model.backbone.fpn)


@every("region_heads")
@pytest.mark.parametrize("counts", [(5, 2), (0, 3), (0, 0)], ids=str)
def test_region_head_keeps_its_contract(method, counts):
    """Pool, head and predictor in a row give the two tables of the old head, whose parameters keep their names."""
    old = region_parts()
    new = build(method)(copy.deepcopy(old))
    assert isinstance(new, RegionParts)
    for part in ("pool", "head", "predictor"):
        assert set(getattr(old, part).state_dict()) <= set(getattr(new, part).state_dict())
    features = {name: torch.randn(2, 64, 32 >> i, 48 >> i) for i, name in enumerate("123")}
    boxes = [objects(count)["boxes"] for count in counts]
    for training in (True, False):
        for part in (new.pool, new.head, new.predictor):
            part.train(training)
        logits, regression = new.predictor(new.head(new.pool(features, boxes, [(256, 384), (256, 384)])))
        assert logits.shape == (sum(counts), 4)
        assert regression.shape == (sum(counts), 16)
        assert finite(logits, regression)


# ---- objectives ---------------------------------------------------------------------------------------------------


@every("objectives")
@pytest.mark.parametrize("values", [(0.7, 0.2), (0.0, 0.0), (1e-30, 1e4), (1e4, 0.0)], ids=str)
def test_objective_keeps_the_names(method, values):
    x = torch.ones(2, requires_grad=True)
    names = ("classification", "bbox_regression")
    losses = {name: value * x[i] for i, (name, value) in enumerate(zip(names, values))}
    losses["other"] = x.sum()
    weighed = build(method)(losses)
    assert set(names) | {"other"} <= set(weighed)
    assert all(value.shape == () and finite(value) for value in weighed.values())
    sum(weighed.values()).backward()
    assert finite(x.grad)
