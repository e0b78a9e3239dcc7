"""Guided anchoring: where and of what shape, as loops over places; the anchors; RetinaNet and a proposal network."""

import copy
import math
import pickle
from dataclasses import asdict
from functools import partial

import pytest
import torch
from torch import nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.rpn import RPNHead

from detbalance import Recipe, Stage, attach, recipes
from detbalance.anchor_settings import default_anchors
from detbalance.atomic import write_json
from detbalance.data.annotations import Annotations
from detbalance.detectors import build
from detbalance.heads import Guidance, GuidedAnchoring, GuidedProposals
from detbalance.heads._guidance import FeatureAdaption, one_anchor
from detbalance.heads._guided_anchors import GuidedAnchors, _ShapeAssigner
from detbalance.heads._locations import location_targets
from detbalance.priors import set_from_data
from detbalance.probes import Probe
from detbalance.runs import Settings, build_model, load_model
from detbalance.samplers import RandomSampler
from detbalance.types import BACKGROUND, IGNORED

SIZES, STRIDES, BASES = [(8, 12), (4, 6), (2, 3)], [(8, 8), (16, 16), (32, 32)], [16.0, 32.0, 64.0]


def objects(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator, dtype=torch.float64) * torch.tensor([70.0, 50.0])
    extent = (2 + 3 * torch.rand(count, 2, generator=generator, dtype=torch.float64)).exp()
    return {"boxes": torch.cat((corner, corner + extent), 1), "labels": torch.ones(count, dtype=torch.long)}


def batch():
    """Three images; the second has no objects."""
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(3, 64, 96, generator=generator) for _ in range(3)]
    box = torch.tensor([[10.0, 10, 42, 42], [50, 20, 82, 52]])
    some = {"boxes": box, "labels": torch.tensor([1, 3])}
    none = {"boxes": box[:0], "labels": torch.zeros(0, dtype=torch.long)}
    return images, [dict(some), none, dict(some)]


def detector(name="retinanet", recipe=None):
    torch.manual_seed(0)
    kind = "dense" if name == "retinanet" else "rcnn"
    return attach(build(name, classes=3, image_size=(64, 96)), recipe or recipes.guided_anchoring(kind))


# ---- where ----------------------------------------------------------------------------------------------------------


def naive_locations(target, guidance):
    """Place by place, object by object."""
    valid = target.get("valid", [True] * len(target["boxes"]))
    goals = []
    for level, ((height, width), (down, right)) in enumerate(zip(SIZES, STRIDES)):
        for row in range(height):
            for column in range(width):
                goal = BACKGROUND
                for (x1, y1, x2, y2), counts in zip(target["boxes"].tolist(), valid):
                    side = math.sqrt((x2 - x1) * (y2 - y1))
                    own = min(range(3), key=lambda i: abs(math.log(side / BASES[i])))

                    def within(share, box=(x1, y1, x2, y2), place=(column, row)):
                        for low, high, step, at, last in zip(
                            box[:2], box[2:], (right, down), place, (width - 1, height - 1)
                        ):
                            middle, half = (low + high) / 2, share * (high - low) / 2
                            first = min(max(round((middle - half) / step), 0), last)
                            final = min(max(round((middle + half) / step), 0), last)
                            if not first <= at <= final:
                                return False
                        return True

                    if own == level and counts and within(guidance.center):
                        goal = 1
                    elif goal != 1 and abs(own - level) <= 1 and within(guidance.ignore):
                        goal = IGNORED
                goals.append(goal)
    return goals


@pytest.mark.parametrize("count", [0, 1, 4, 25])
@pytest.mark.parametrize("seed", [0, 1])
def test_locations_are_a_loop_over_places(count, seed):
    target, guidance = objects(count, seed), Guidance()
    found = location_targets(target, SIZES, STRIDES, BASES, guidance)
    assert found.tolist() == naive_locations(target, guidance)
    assert (found == 1).any() == (count > 0)


def test_an_invalid_object_is_near_and_nowhere():
    target = objects(6)
    target["valid"] = torch.tensor([True, False, True, False, False, True])
    found = location_targets(target, SIZES, STRIDES, BASES, Guidance())
    assert found.tolist() == naive_locations(target, Guidance())
    target["valid"][:] = False
    assert not (location_targets(target, SIZES, STRIDES, BASES, Guidance()) == 1).any()


def test_every_object_has_a_place_on_the_level_of_its_size():
    for side, level in ((3.0, 0), (22.0, 0), (23.0, 1), (45.0, 1), (46.0, 2), (300.0, 2)):
        target = {"boxes": torch.tensor([[40.0, 30, 40 + side, 30 + side]])}
        of_level = location_targets(target, SIZES, STRIDES, BASES, Guidance()).split([h * w for h, w in SIZES])
        assert [bool((goal == 1).any()) for goal in of_level] == [i == level for i in range(3)]


# ---- the generator --------------------------------------------------------------------------------------------------


class Predicting(nn.Module):
    """A head with maps to order."""

    def __init__(self, maps):
        super().__init__()
        self.predicted = list(maps)


def predictions(images=2, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return [
        tuple(
            (scale * torch.randn(images, channels, *size, generator=generator, dtype=torch.float64)).requires_grad_()
            for channels in (1, 2)
        )
        for size in SIZES
    ]


def picture(images=2):
    return ImageList(torch.zeros(images, 3, 64, 96), [(64, 96)] * images)


def losses_of(maps, targets, guidance=None):
    anchors = GuidedAnchors(Predicting(maps), BASES, guidance or Guidance())
    anchors(picture(len(targets)), [])
    return anchors.losses(targets)


def test_a_shape_of_nothing_is_torchvisions_square():
    maps = [(location, shape.detach() * 0) for location, shape in predictions()]
    mine = GuidedAnchors(Predicting(maps), BASES, Guidance())(picture(), [])
    theirs = AnchorGenerator(tuple((int(b),) for b in BASES), ((1.0,),) * 3)(picture(), [m.float() for m, _ in maps])
    for one, other in zip(mine, theirs):
        torch.testing.assert_close(one.float(), other)


def test_anchors_are_a_loop_over_places():
    maps = predictions(scale=3.0)
    anchors = GuidedAnchors(Predicting(maps), BASES, Guidance(threshold=0.3))
    trained = anchors(picture(), [])
    anchors._of[0].predicted = list(maps)
    found = anchors.eval()(picture(), [])
    limit = math.log(1000 / 16)
    for image in range(2):
        expected, there = [], []
        for (location, shape), (down, right), base in zip(maps, STRIDES, BASES):
            for row in range(location.shape[2]):
                for column in range(location.shape[3]):
                    w, h = (base * math.exp(max(-limit, min(limit, v))) for v in shape[image, :, row, column].tolist())
                    x, y = column * right, row * down
                    expected.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
                    there.append(location[image, 0, row, column].sigmoid().item() >= 0.3)
        expected, there = torch.tensor(expected, dtype=torch.float64), torch.tensor(there)
        torch.testing.assert_close(trained[image], expected)
        torch.testing.assert_close(found[image][there], expected[there])
        assert (found[image][~there, :2] == found[image][~there, 2:]).all()
        assert 0 < there.sum() < len(there)
    assert not trained[0].equal(trained[1])


def iou(a, b):
    w, h = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
    shared = max(w, 0) * max(h, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def naive_losses(maps, targets, guidance):
    """Both losses from the paper, place by place."""

    def smooth(error):
        return error * error / 0.4 if error < 0.2 else error - 0.1

    location, places, shape, learning = 0.0, 0, 0.0, 0
    for image, target in enumerate(targets):
        squares, predicted, logits = [], [], []
        for (where, what), (down, right), base in zip(maps, STRIDES, BASES):
            for row in range(where.shape[2]):
                for column in range(where.shape[3]):
                    squares.append((column * right, row * down, base))
                    predicted.append([base * math.exp(v) for v in what[image, :, row, column].tolist()])
                    logits.append(where[image, 0, row, column].item())
        for goal, logit in zip(naive_locations(target, guidance), logits):
            p = 1 / (1 + math.exp(-logit))
            if goal == 1:
                location, places = location - 0.25 * (1 - p) ** 2 * math.log(p), places + 1
            elif goal == BACKGROUND:
                location -= 0.1 * 0.75 * p**2 * math.log(1 - p)
        truth = target["boxes"].tolist()
        best = [
            [
                max(
                    iou(box, (x - w / 2, y - h / 2, x + w / 2, y + h / 2))
                    for scale in guidance.scales
                    for ratio in guidance.ratios
                    for w, h in [(base * scale / math.sqrt(ratio), base * scale * math.sqrt(ratio))]
                )
                for box in truth
            ]
            for x, y, base in squares
        ]
        favourites = {
            i for g in range(len(truth)) for i, v in enumerate(best) if v[g] == max(b[g] for b in best) and v[g] > 0
        }
        for i, values in enumerate(best):
            if truth and (max(values) >= guidance.positive or i in favourites):
                x1, y1, x2, y2 = truth[values.index(max(values))]
                for mine, true in zip(predicted[i], (x2 - x1, y2 - y1)):
                    shape += smooth(1 - min(mine / true, true / mine))
                learning += 1
    return {"location": location / max(1, places), "shape": 0.1 * shape / max(1, learning)}


@pytest.mark.parametrize("counts", [(3, 0), (0, 0), (1, 5)])
def test_losses_and_gradients_are_those_of_the_loops(counts):
    maps, guidance = predictions(), Guidance()
    targets = [objects(count, seed) for seed, count in enumerate(counts)]
    losses = losses_of(maps, targets)
    expected = naive_losses(maps, targets, guidance)
    for name, value in losses.items():
        assert value.item() == pytest.approx(expected[name], rel=1e-9), name
    flat = [m for pair in maps for m in pair]
    generator = torch.Generator().manual_seed(3)
    steps = [1e-6 * torch.randn(m.shape, generator=generator, dtype=torch.float64) for m in flat]
    sides = []
    for sign in (1, -1):
        moved = [m.detach() + sign * s for m, s in zip(flat, steps)]
        sides.append(naive_losses(list(zip(moved[::2], moved[1::2])), targets, guidance))
    for name, value in losses.items():
        gradients = torch.autograd.grad(value, flat, retain_graph=True, allow_unused=True)
        slope = sum(float((g * s).sum()) for g, s in zip(gradients, steps) if g is not None)
        assert sides[0][name] - sides[1][name] == pytest.approx(2 * slope, rel=1e-4, abs=1e-12), name


def test_the_best_iou_is_a_loop_over_shapes():
    pairs, truth = ((1.0, 0.5), (1.3, 3.0)), objects(6)["boxes"]
    middle, side = objects(20, 1)["boxes"][:, :2], torch.linspace(10, 80, 20, dtype=torch.float64)[:, None]
    found = _ShapeAssigner(pairs=pairs).measure(truth, torch.cat((middle - side / 2, middle + side / 2), 1))
    for g, box in enumerate(truth.tolist()):
        for n, ((x, y), (base,)) in enumerate(zip(middle.tolist(), side.tolist())):
            sizes = [(base * scale / math.sqrt(ratio), base * scale * math.sqrt(ratio)) for scale, ratio in pairs]
            best = max(iou(box, (x - w / 2, y - h / 2, x + w / 2, y + h / 2)) for w, h in sizes)
            assert found[g, n].item() == pytest.approx(best, rel=1e-9)
    assert (found > 0.2).sum() > 10


def test_the_shape_of_the_object_costs_nothing():
    square = {"boxes": torch.tensor([[16.0, 16, 48, 32]])}  # twice as wide as high
    maps = [(m, torch.zeros_like(s)) for m, s in predictions(1)]
    for (_, shape), base in zip(maps, BASES):
        shape[:, 0], shape[:, 1] = math.log(32 / base), math.log(16 / base)
    assert losses_of(maps, [square])["shape"].abs() < 1e-12
    maps[0][1][:] *= -1
    assert losses_of(maps, [square])["shape"] > 0.01


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_losses_are_finite(scale):
    maps = predictions(scale=scale)
    for targets in ([objects(0), objects(0)], [objects(3), objects(40)]):
        total = sum(losses_of(maps, targets).values())
        assert total.isfinite()
        assert all(g.isfinite().all() for g in torch.autograd.grad(total, [m for pair in maps for m in pair]))


def share(rank):
    """The losses and the gradient of one process of two, of one image of three or of the others."""
    rows = slice(0, 1) if rank == 0 else slice(1, 3)
    maps = [tuple(m[rows].detach().requires_grad_() for m in pair) for pair in predictions(3)]
    losses = losses_of(maps, [objects(5, 1), objects(0), objects(2, 3)][rows])
    return {name: value.detach() for name, value in losses.items()}


def test_two_processes_equal_one(two_processes):
    halves = two_processes(share)
    whole = losses_of(predictions(3), [objects(5, 1), objects(0), objects(2, 3)])
    for name, value in whole.items():
        torch.testing.assert_close((halves[0][name] + halves[1][name]) / 2, value.detach())


# ---- the heads ------------------------------------------------------------------------------------------------------


def test_the_adaption_reads_where_the_shape_says_and_sends_it_no_gradient():
    torch.manual_seed(0)
    adaption, x = FeatureAdaption(8, 4), torch.randn(1, 8, 5, 6)
    shape = torch.zeros(1, 2, 5, 6, requires_grad=True)
    plain = nn.functional.conv2d(x, adaption.weight, padding=1).relu()
    torch.testing.assert_close(adaption(x, shape), plain, atol=1e-5, rtol=1e-4)
    moved = adaption(x, shape + 3)
    assert not torch.allclose(moved, plain, atol=1e-2)
    assert torch.autograd.grad(moved.sum(), shape, allow_unused=True) == (None,)


def test_one_anchor_is_the_mean_of_all():
    layer = nn.Conv2d(4, 6, 3, padding=1)
    x = torch.randn(1, 4, 5, 5)
    torch.testing.assert_close(one_anchor(layer, 2)(x), layer(x).view(1, 3, 2, 5, 5).mean(1))


def test_what_is_filtered_scores_nothing_and_is_nowhere():
    torch.manual_seed(0)
    head = GuidedAnchoring(RetinaNetHead(16, 3, 5), guidance=Guidance(threshold=0.5)).eval()
    nn.init.normal_(head.guide.location.weight)
    nn.init.zeros_(head.guide.location.bias)
    maps = [torch.randn(2, 16, *size) for size in SIZES]
    generator = head.anchors(AnchorGenerator(((16, 20), (32, 40), (64, 80)), ((0.5, 1.0, 2.0),) * 3)).eval()
    assert generator.bases == (16.0, 32.0, 64.0)
    logits = head(maps)["cls_logits"]
    boxes = torch.stack(generator(picture(), maps))
    empty = (boxes[..., 2] == boxes[..., 0]) & (boxes[..., 3] == boxes[..., 1])
    assert 0 < empty.sum() < empty.numel()
    assert empty.equal((logits == -1e4).all(-1))
    assert head.train()(maps)["cls_logits"].min() > -1e3


def test_a_proposal_network_where_nothing_is_proposes_nothing():
    model = detector("faster_rcnn")
    images, _ = batch()
    nn.init.constant_(model.rpn.head.guide.location.bias, -30.0)
    assert all(len(found["boxes"]) == 0 for found in model.eval()(images))
    assert len(model.train()(*batch())) == 6  # in training there are anchors everywhere


# ---- in a detector --------------------------------------------------------------------------------------------------

OWN = {"retinanet": {"location", "shape"}, "faster_rcnn": {"loss_location", "loss_shape"}}
DETECTORS = pytest.mark.parametrize("name", OWN)


@DETECTORS
def test_losses_fall(name):
    model = detector(name).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    steps = []
    for _ in range(25):
        losses = model(*batch())
        optimizer.zero_grad()
        sum(losses.values()).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
        optimizer.step()
        steps.append({key: float(value.detach()) for key, value in losses.items()})
    assert OWN[name] < set(steps[0])
    assert all(steps[-1][key] < 0.7 * steps[0][key] for key in OWN[name])
    images, targets = batch()
    assert all(value.isfinite() for value in model(images, [targets[1]] * 3).values())


@DETECTORS
def test_copies_have_anchors_of_their_own(name):
    model = detector(name)
    for p in model.parameters():
        p.data.add_(0.05 * torch.randn_like(p))
    images, _ = batch()
    twins = copy.deepcopy(model).eval(), pickle.loads(pickle.dumps(model)).eval()
    with torch.no_grad():
        expected = model.eval()(images)
        for p in model.parameters():
            p.mul_(0)
        for twin in twins:
            assert all(a["scores"].equal(b["scores"]) for a, b in zip(twin(images), expected))
    assert sum(len(found["scores"]) for found in expected) > 0


@DETECTORS
def test_a_saved_run_is_rebuilt_from_its_recipe(name, tmp_path):
    settings = Settings(image_size=(64, 96), detector=name)
    model = build_model(settings, ("a", "b", "c"), "guided_anchoring").train()
    for p in model.parameters():
        p.data.add_(0.05 * torch.randn_like(p))
    images, _ = batch()
    write_json(tmp_path / "settings.json", {"recipe": "guided_anchoring", "settings": asdict(settings)})
    torch.save({"model": model.state_dict(), "classes": ["a", "b", "c"]}, tmp_path / "model.pt")
    loaded, _ = load_model(tmp_path)
    with torch.no_grad():
        for one, other in zip(model.eval()(images), loaded(images)):
            assert one["boxes"].equal(other["boxes"])


@DETECTORS
def test_half_precision(name):
    model = detector(name).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(*batch())
    assert all(losses[key].dtype == torch.float32 for key in OWN[name])
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@DETECTORS
def test_samplers_see_the_anchors_of_each_image(name):
    seen = []

    class Watching(RandomSampler):
        def __call__(self, candidates, generator=None):
            seen.append(candidates)
            return super().__call__(candidates, generator)

    if name == "retinanet":
        recipe = Recipe(name="x", head=GuidedAnchoring, stages=Stage(sample=Watching(count=64)))
    else:
        recipe = Recipe(name="x", proposal_head=GuidedProposals, proposals=Stage(sample=Watching(count=64)))
    model = detector(name, recipe).train()
    nn.init.normal_((model.head if name == "retinanet" else model.rpn.head).guide.shape.weight)
    model(*batch())
    places = 8 * 12 + 4 * 6 + 2 * 3
    assert [len(c.boxes) for c in seen[:3]] == [places] * 3
    assert seen[0].level.bincount().tolist() == [96, 24, 6]
    assert not seen[0].boxes.equal(seen[1].boxes)


def test_an_eval_model_stays_one():
    model = attach(build("retinanet", classes=3, image_size=(64, 96)).eval(), recipes.guided_anchoring("dense"))
    assert not any(m.training for m in (model.head, model.anchor_generator))
    assert len(model(batch()[0])) == 3


def test_probes_record_the_tasks():
    model = detector().train()
    probe = Probe(model, every=1)
    model(*batch())
    assert set(probe.records[0]["probe.tasks"]) == {"classification", "bbox_regression", "location", "shape"}


def test_the_region_head_gets_fewer_proposals():
    plain = build("faster_rcnn", classes=3, image_size=(64, 96))
    plain.rpn._post_nms_top_n = {"training": 2000, "testing": 150}
    model = attach(plain, recipes.guided_anchoring("rcnn"))
    assert model.rpn._post_nms_top_n == {"training": 300, "testing": 150}
    assert model.roi_heads.box_coder.weights == (20.0, 20.0, 10.0, 10.0)
    assert model.roi_heads.treatment.assign.positive == 0.6


def test_masks_do_not_mind():
    parts = build("faster_rcnn", classes=3)
    options = {"box_roi_pool": parts.roi_heads.box_roi_pool, "box_head": parts.roi_heads.box_head}
    options |= {"box_predictor": parts.roi_heads.box_predictor, "rpn_post_nms_top_n_train": 20}
    mask_predictor = MaskRCNNPredictor(256, 8, 4)
    model = MaskRCNN(
        parts.backbone, min_size=64, rpn_anchor_generator=parts.rpn.anchor_generator, mask_predictor=mask_predictor,
        **options,
    )  # fmt: skip
    attach(model, Recipe(name="x", proposal_head=GuidedProposals))
    images, targets = batch()
    for target in targets:
        target["masks"] = torch.zeros(len(target["boxes"]), 64, 96, dtype=torch.uint8)
    assert {"loss_mask", "loss_location", "loss_shape"} < set(model.train()(images, targets))


# ---- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fcos", "ssd", "yolov2", "faster_rcnn"])
def test_other_detectors_have_no_such_head(name):
    with pytest.raises(ValueError, match=r"head \(RetinaNet alone has it\)"):
        attach(build(name, classes=3, image_size=(64, 96)), Recipe(name="x", head=GuidedAnchoring))


def test_other_kinds_have_no_such_recipe():
    assert recipes.kinds("guided_anchoring") == ("dense", "rcnn")
    for name in ("retinanet", "fcos", "ssd"):
        with pytest.raises(ValueError, match="proposal_head"):
            attach(build(name, classes=3, image_size=(64, 96)), Recipe(name="x", proposal_head=GuidedProposals))
    with pytest.raises(ValueError, match=r"limit \(the proposal network alone"):
        attach(build("faster_rcnn", classes=3), Recipe(name="x", stages=Stage(limit=10)))
    with pytest.raises(ValueError, match="limit"):
        Stage(limit=0)


def test_a_refused_recipe_leaves_the_model_alone():
    model = build("retinanet", classes=3, image_size=(64, 96))
    before = model.head, model.anchor_generator
    recipe = Recipe(name="x", head=GuidedAnchoring, anchors=default_anchors("retinanet"))
    with pytest.raises(ValueError, match="GuidedAnchoring, makes its own"):
        attach(model, recipe)
    assert before == (model.head, model.anchor_generator)
    with pytest.raises(TypeError, match="proposal network's head"):
        GuidedProposals(nn.Identity())
    with pytest.raises(TypeError, match="cls_logits and bbox_pred"):
        attach(build("faster_rcnn", classes=3), Recipe(name="x", proposal_head=lambda old: nn.Identity()))


def test_a_prior_of_the_data_needs_anchors_that_are_known():
    recipe = Recipe(name="x", head=GuidedAnchoring, stages=Stage(prior="data"))
    data = Annotations.from_arrays(classes=["a"], sizes=[(96, 64)], image=[0], label=[1], boxes=[[1, 1, 20, 20]])
    with pytest.raises(ValueError, match="learnt"):
        set_from_data(detector(recipe=recipe), data)


@pytest.mark.parametrize(
    "options",
    [
        {"threshold": 1.0},
        {"center": 0.0},
        {"ignore": 0.1},
        {"positive": 1.5},
        {"shape_weight": -1.0},
        {"background_weight": math.inf},
        {"scales": ()},
        {"ratios": (0.0,)},
        {"groups": 0},
    ],
    ids=lambda options: next(iter(options)),
)
def test_refuses(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Guidance(**options)


def test_settings_reach_the_heads():
    guidance = Guidance(groups=2, threshold=0.1)
    head = partial(GuidedProposals, guidance=guidance)(RPNHead(8, 3))
    assert head.adaption.offset.out_channels == 36
    assert head.anchors(AnchorGenerator(((8,),), ((1.0,),))).guidance is guidance
    assert "threshold=0.1" in repr(head)
