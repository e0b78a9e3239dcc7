"""Light image pyramids: the papers read tap by tap, and every kind of detector with each of them."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.detection import FasterRCNN

from detbalance import Recipe, attach, recipes
from detbalance.backbones import EFIP, MSCF
from detbalance.backbones._enriched import Enriched
from detbalance.detectors import build
from detbalance.necks import PANet

METHODS = (EFIP, MSCF)
SIZE = (64, 96)
IMAGES = [torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(i)) for i in range(2)]
BOXES = torch.tensor([[4.0, 4, 14, 14], [20, 8, 40, 28], [30, 4, 90, 60]])
TARGETS = [
    {"boxes": BOXES, "labels": torch.tensor([1, 2, 3])},
    {"boxes": BOXES[:0], "labels": torch.zeros(0, dtype=torch.long)},
]


class Maps(nn.Module):
    """A backbone of three maps whose sizes are not always half of the one before."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3, c, 3, padding=1) for c in (16, 24, 8))

    def forward(self, x):
        sizes = ((13, 9), (7, 5), (3, 3)) if x.shape[-1] < 100 else ((64, 64), (32, 32), (15, 15))
        return {str(i): F.adaptive_avg_pool2d(layer(x), s) for i, (layer, s) in enumerate(zip(self.layers, sizes))}


def built(method, **options):
    torch.manual_seed(0)
    backbone = method(**options)(Maps()).double()
    for p in backbone.enriched.parameters():
        if p.dim() == 1:
            nn.init.normal_(p, 1, 0.3)
    return backbone


@pytest.mark.parametrize("recipe", ["efip", "mscf"])
def test_the_enriched_backbone_exports(recipe):
    backbone = attach(build("retinanet", classes=3), recipes.get(recipe, "dense")).backbone.eval()
    x = torch.rand(1, 3, 64, 96)
    exported = torch.export.export(backbone, (x,)).module()(x)
    for name, y in backbone(x).items():
        torch.testing.assert_close(exported[name], y)


# ---- the papers, tap by tap -----------------------------------------------------------------------------------------


def naive(block, x):
    """A convolution of 1x1 or 3x3, group norm over groups of channels, ReLU if there is one."""
    layer, norm, *relu = block
    weight, kernel, step, spread = layer.weight, layer.kernel_size[0], layer.stride[0], layer.dilation[0]
    edge = kernel // 2 * spread
    padded = F.pad(x, (edge,) * 4)
    height, width = ((n + step - 1) // step for n in x.shape[-2:])
    total = 0
    for i in range(kernel):
        for j in range(kernel):
            rows, columns = (torch.arange(n) * step + k * spread for n, k in ((height, i), (width, j)))
            total = total + torch.einsum("nchw,dc->ndhw", padded[:, :, rows][..., columns], weight[:, :, i, j])
    total = normalised(norm, total)
    return total.clamp(min=0) if relu else total


def normalised(norm, x):
    groups = []
    for part in x.split(x.shape[1] // norm.num_groups, 1):
        mean = part.mean((1, 2, 3), keepdim=True)
        groups.append((part - mean) / ((part - mean).square().mean((1, 2, 3), keepdim=True) + norm.eps).sqrt())
    return torch.cat(groups, 1) * norm.weight[:, None, None] + norm.bias[:, None, None]


def shrunk(image, size):
    """The largest value of the part of the image that each place of the map stands for."""
    out = image.new_zeros(*image.shape[:2], *size)
    for y in range(size[0]):
        for x in range(size[1]):
            top, bottom = y * image.shape[2] // size[0], -(-(y + 1) * image.shape[2] // size[0])
            left, right = x * image.shape[3] // size[1], -(-(x + 1) * image.shape[3] // size[1])
            out[:, :, y, x] = image[:, :, top:bottom, left:right].amax((2, 3))
    return out


def stretched(x, size):
    """Nearest neighbour."""
    rows = torch.tensor([y * x.shape[2] // size[0] for y in range(size[0])])
    columns = torch.tensor([c * x.shape[3] // size[1] for c in range(size[1])])
    return x[:, :, rows][..., columns]


def expected(method, backbone, image, maps):
    module, before, found = backbone.enriched, None, []
    for level, x in enumerate(maps):
        image = shrunk(image, x.shape[-2:])
        down = None if before is None else stretched(naive(module.downs[level - 1], before), x.shape[-2:])
        seen = normalised(module.norms[level], x)
        if method is EFIP:
            light = image
            for block in module.light[level]:
                light = naive(block, light)
            mixed = seen * light + (0 if down is None else down)
        elif level == 0:
            small = naive(module.first[1], naive(module.first[0], image))
            context = torch.cat([naive(b[1], naive(b[0], small)) for b in module.branches], 1)
            mixed = seen * naive(module.last, context)
        else:
            mixed = seen * down
        before = naive(module.merges[level], mixed.clamp(min=0))
        found.append(before)
    return found


@pytest.mark.parametrize("method", METHODS)
def test_the_paper_tap_by_tap(method):
    backbone = built(method)
    image = torch.rand(2, 3, 52, 36, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    plain = list(backbone.forward(image).values())  # without the hook
    wanted = expected(method, backbone, image, plain)
    found = list(backbone(image).values())
    for mine, theirs in zip(found, wanted):
        torch.testing.assert_close(mine, theirs)
    parameters = list(backbone.parameters())
    loss = sum((x * torch.arange(x.numel()).view_as(x).cos()).sum() for x in found)
    twin = sum((x * torch.arange(x.numel()).view_as(x).cos()).sum() for x in wanted)
    for mine, theirs in zip(torch.autograd.grad(loss, parameters), torch.autograd.grad(twin, parameters)):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("method", METHODS)
def test_coarse_levels_beyond_the_number_stay(method):
    few = built(method, levels=2)
    image = torch.rand(1, 3, 52, 36, dtype=torch.float64)
    maps = few(image)
    assert list(maps) == ["0", "1", "2"]
    assert maps["2"].equal(F.adaptive_avg_pool2d(few.layers[2](image), (3, 3)))
    assert len(few.enriched.merges) == 2
    assert len(built(method, levels=9).enriched.merges) == 3


def test_the_context_reaches_as_far_as_its_dilations():
    """The field of the finest level's context: 3x3, and three branches of 3x3."""
    for dilations, reach in (((1,), 2), ((1, 2, 4), 5)):
        module = MSCF(dilations=dilations)(Maps()).double().enriched
        for layer in module.modules():
            if isinstance(layer, nn.GroupNorm):
                layer.forward = lambda x: x  # it sees the whole map
            elif isinstance(layer, nn.Conv2d):
                layer.weight.data.abs_()  # nothing dies in a ReLU
        image = torch.ones(1, 3, 21, 21, dtype=torch.float64, requires_grad=True)
        module.context(image)[0, :, 10, 10].square().sum().backward()
        touched = image.grad.abs().sum((0, 1)).nonzero()
        assert touched.min() >= 10 - reach
        assert (10 - reach in touched) == (10 + reach in touched)
        assert touched.max() <= 10 + reach


# ---- in a detector --------------------------------------------------------------------------------------------------


def detector(name, method, **options):
    torch.manual_seed(0)
    model = build(name, classes=3, image_size=SIZE)
    return attach(model, Recipe(name="enriched", backbone=method(), **options))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["retinanet", "fcos", "ssd", "faster_rcnn"])
def test_it_trains_and_every_parameter_learns(name, method):
    model = detector(name, method).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    totals = []
    for _ in range(6):
        total = sum(model(IMAGES, TARGETS).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(float(total.detach()))
    assert totals[-1] < totals[0]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert all(p.grad.any() for p in model.backbone.enriched.parameters())
    assert all(loss.isfinite() for loss in model(IMAGES[1:], TARGETS[1:]).values())
    assert len(model.eval()(IMAGES)) == 2


@pytest.mark.parametrize("method", METHODS)
def test_weights_keep_their_names_and_copies_are_whole(method):
    torch.manual_seed(0)
    plain = build("retinanet", classes=3, image_size=SIZE)
    before = copy.deepcopy(plain.state_dict())
    model = attach(plain, Recipe(name="x", backbone=method(), neck=PANet)).eval()
    state = model.state_dict()
    kept = {name for name in before if name in state}
    assert all(state[name].equal(before[name]) for name in kept)
    assert {n for n in before if n.startswith(("backbone.body", "head"))} <= kept
    assert any(name.startswith("backbone.enriched.") for name in set(state) - kept)
    wanted = model(IMAGES)
    torch.manual_seed(5)
    other = attach(build("retinanet", classes=3, image_size=SIZE), Recipe(name="x", backbone=method(), neck=PANet))
    other.load_state_dict(state)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), other.eval()):
        assert isinstance(twin.backbone.enriched, Enriched)
        assert twin.backbone.enriched is not model.backbone.enriched
        for mine, theirs in zip(twin(IMAGES), wanted):
            assert all(mine[key].equal(theirs[key]) for key in theirs)


@pytest.mark.parametrize("method", METHODS)
def test_under_autocast_the_maps_are_of_one_type(method):
    model = detector("faster_rcnn", method).train()
    with torch.autocast("cpu", torch.bfloat16):
        maps = model.backbone(torch.rand(1, 3, *SIZE)).values()
        losses = model(IMAGES, TARGETS)
    assert {m.dtype for m in maps} == {torch.bfloat16}
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())


class OneMap(nn.Module):
    out_channels = 8

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 8, 3, 16, 1)

    def forward(self, x):
        return self.layer(x)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("why", ["dict of maps.*gives a Tensor", "of layers"])
def test_a_backbone_without_levels_is_refused_and_left_alone(why, method):
    model = FasterRCNN(OneMap(), 4) if "dict" in why else build("yolov2", classes=3, image_size=SIZE)
    with pytest.raises(ValueError, match=why):
        attach(model, Recipe(name="x", backbone=method()))
    assert not hasattr(model, "recipe")
    assert not hasattr(model.backbone, "enriched")


def test_settings_and_kinds():
    for wrong in ({"levels": 0}, {"dilations": ()}, {"dilations": (0, 1)}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            MSCF(**wrong)
    with pytest.raises(ValueError, match="levels"):
        EFIP(levels=0)
    for name in ("efip", "mscf"):
        assert recipes.kinds(name) == ("dense", "ssd", "rcnn")
        with pytest.raises(ValueError, match="YOLOv2"):
            recipes.get(name, "yolo")
