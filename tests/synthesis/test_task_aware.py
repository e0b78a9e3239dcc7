"""Task-aware synthesis: boxes and labels of the composites, who learns from what and in which direction, training."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torchvision.models.detection import keypointrcnn_resnet50_fpn
from torchvision.ops import box_iou

from detbalance import Recipe, attach, recipes
from detbalance.adapters import kind_of
from detbalance.detectors import build
from detbalance.synthesis import TaskAwareSynthesis

NONE = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}


def batch(size=(64, 96), count=3):
    """Dark images, on which the objects are bright; the last has none."""
    g = torch.Generator().manual_seed(0)
    images = [0.2 * torch.rand(3, *size, generator=g) for _ in range(count)]
    targets = []
    for i, image in enumerate(images[:-1]):
        boxes = torch.tensor([[10.0 + 4 * i, 10, 34 + 4 * i, 30], [50, 34, 70, 60]])
        for k, (x1, y1, x2, y2) in enumerate(boxes.int().tolist()):
            image[k, y1:y2, x1:x2] = 0.9
        targets.append({"boxes": boxes, "labels": torch.tensor([1, 2])})
    return images, [*targets, copy.deepcopy(NONE)]


def nothing(images, targets):
    return {"loss": sum(image.mean() for image in images)}


def detector(name="retinanet", **settings):
    torch.manual_seed(0)
    model = build(name, classes=2, image_size=(64, 96)).train()
    return attach(model, Recipe(name="x", synthesis=TaskAwareSynthesis(**{"share": 1.0, "every": 1, **settings})))


def run(model, seed=1, images=None, targets=None):
    torch.manual_seed(seed)
    given = batch()
    return model(images or given[0], targets or given[1])


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_boxes_are_tight_around_what_was_pasted(seed, masks):
    images, targets = batch()
    if masks:
        for target in targets:
            target["masks"] = torch.zeros(len(target["boxes"]), 64, 96, dtype=torch.uint8)
            for mask, (x1, y1, x2, y2) in zip(target["masks"], target["boxes"].int().tolist()):
                mask[y1:y2, x1:x2] = 1
    before = [image.clone() for image in images]
    torch.manual_seed(seed)
    made, truth, _ = TaskAwareSynthesis(share=1.0)(images, targets, nothing)
    assert all(a.equal(b) for a, b in zip(images, before))  # what was given stays as it was
    assert len(targets[2]["boxes"]) == 0
    assert len(truth[2]["boxes"]) == 1  # only the pasted object
    x1, y1, x2, y2 = truth[2]["boxes"][0].tolist()
    assert 0 <= x1 < x2 <= 96
    assert 0 <= y1 < y2 <= 64
    changed = (made[2] - images[2]).abs().amax(0) > 0.3  # bright on dark; a soft edge
    rows, columns = changed.any(1).nonzero().flatten(), changed.any(0).nonzero().flatten()
    seen = torch.tensor([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    assert (seen - truth[2]["boxes"][0]).abs().max() <= 1
    if masks:
        assert truth[2]["masks"].dtype == torch.uint8
        ys, xs = truth[2]["masks"][0].nonzero().T
        assert [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1] == [x1, y1, x2, y2]


def test_hidden_objects_lose_their_labels():
    """The second image has two objects, of which what is pasted from the first hides one, or half of it, or none."""
    object_, back = torch.full((3, 64, 96), 0.1), torch.full((3, 64, 96), 0.2)
    object_[:, 4:36, 4:36] = 0.9
    one = {"boxes": torch.tensor([[4.0, 4, 36, 36]]), "labels": torch.tensor([1])}
    # Decisions are random with a deviation of exp(-1.5) at least: no chance in this test. Soft edges round corners off.
    synthesis = TaskAwareSynthesis(share=1.0, cut="box")
    synthesis.synthesiser.forward = lambda front, back: (torch.zeros(len(front), 8), torch.full((len(front), 8), 1e-6))
    pasted = torch.tensor([32.0, 16, 64, 48])  # in the middle
    for box, expected in (
        ([40.0, 20, 60, 40], None),
        ([34.0, 40, 62, 60], [34.0, 48, 62, 60]),  # 12 of 20 rows are seen
        ([34.0, 38, 62, 56], None),  # 8 of 18
        ([0.0, 0, 20, 20], [0.0, 0, 20, 20]),
    ):
        two = {"boxes": torch.tensor([box]), "labels": torch.tensor([2])}
        _, truth, _ = synthesis([object_, back], [one, two], nothing)
        *rest, last = truth[1]["boxes"]
        torch.testing.assert_close(last, pasted)
        assert truth[1]["labels"].tolist() == ([1] if expected is None else [2, 1])
        if expected is not None:
            torch.testing.assert_close(rest[0], torch.tensor(expected))


def test_place_and_size_keep_to_their_limits():
    synthesis = TaskAwareSynthesis(share=1.0)
    images, targets = batch((48, 64))
    nn.init.normal_(synthesis.synthesiser.decide.weight, std=30.0)
    for seed in range(10):
        torch.manual_seed(seed)
        made, truth, _ = synthesis(images, targets, nothing)
        boxes = truth[2]["boxes"]
        assert len(boxes) == 1
        assert (boxes >= 0).all()
        assert (boxes <= torch.tensor([64.0, 48, 64, 48])).all()
        assert all(image.isfinite().all() and image.min() >= 0 and image.max() <= 1 for image in made)


def test_colours_of_any_range():
    images, targets = batch()
    shifted = [4 * image - 2 for image in images]
    results = []
    for given in (images, shifted):
        torch.manual_seed(3)
        results.append(TaskAwareSynthesis(share=1.0)(given, targets, nothing))
    assert min(image.min() for image in results[1][0]) >= min(image.min() for image in shifted) - 1e-5
    assert max(image.max() for image in results[1][0]) <= max(image.max() for image in shifted) + 1e-5
    assert len(results[1][1][2]["boxes"]) == 1


@pytest.mark.parametrize("case", ["one image", "no objects", "share of 0", "small objects"])
def test_what_cannot_be_composed_passes(case):
    model = detector(share=0.0 if case == "share of 0" else 1.0)
    images, targets = batch()
    if case == "one image":
        images, targets = images[:1], targets[:1]
    elif case == "no objects":
        targets = [copy.deepcopy(NONE) for _ in images]
    elif case == "small objects":
        for target in targets:
            target["boxes"][:, 2:] = target["boxes"][:, :2] + 5
    torch.manual_seed(0)
    made, truth, losses = model.synthesis(images, targets, nothing)
    assert all(a is b or a.equal(b) for a, b in zip(made, images))
    assert truth == targets
    assert all(loss == 0 for loss in losses.values())
    losses = run(model, images=images, targets=targets)
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
    assert not any(p.grad.any() for p in model.synthesis.parameters())


def test_who_learns_from_what():
    model = detector()
    nn.init.normal_(model.synthesis.synthesiser.decide.weight, std=0.1)
    detection = {"classification", "bbox_regression"}
    for names, learner in (
        ({"synthesiser"}, "synthesis.synthesiser."),
        ({"discriminator"}, "synthesis.discriminator."),
        (detection, ("backbone.", "head.")),
    ):
        model.zero_grad()
        losses = run(model)
        assert set(losses) == detection | {"discriminator", "synthesiser"}
        sum(losses[name] for name in names).backward()
        learning = [n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()]
        assert learning
        assert all(n.startswith(learner) for n in learning)


@pytest.mark.parametrize("aim", ["hardness", "adversarial"])
def test_a_step_of_the_synthesiser_raises_its_aim(aim):
    """The detector's loss, or the probability that the discriminator gives the composites."""
    others = {name: 0.0 for name in ("hardness", "adversarial", "identity") if name != aim}
    model = detector(**others).double()  # a step so small that no box jumps to the next pixel
    synthesis, images = model.synthesis, [image.double() for image in batch()[0]]
    nn.init.normal_(synthesis.synthesiser.decide.weight, std=0.1)
    nn.init.normal_(synthesis.discriminator.score.weight, std=1.0)
    before = {name: p.clone() for name, p in model.named_parameters()}

    def value(losses):
        told = ["discriminator"] if aim == "adversarial" else ["classification", "bbox_regression"]
        return sum(losses[name].item() for name in told)

    first = run(model, images=images)
    loss = first["synthesiser"]
    parameters = list(synthesis.synthesiser.parameters())
    gradients = torch.autograd.grad(loss, parameters)
    size = sum(g.square().sum() for g in gradients)
    assert size > 0
    step = 1e-7 / size
    with torch.no_grad():
        for p, g in zip(parameters, gradients):
            p -= step * g
    after = run(model, images=images)
    assert value(after) > value(first)
    torch.testing.assert_close(loss.item() - after["synthesiser"].item(), 1e-7, rtol=0.1, atol=0)
    theirs = [name for name in before if not name.startswith("synthesis.synthesiser.")]
    assert all(dict(model.named_parameters())[name].equal(before[name]) for name in theirs)


def test_hardness_is_the_log_of_the_detectors_own_loss():
    """What the extra pass tells is what the detector itself says of the composites."""
    plain = detector(hardness=0.0, adversarial=0.0, identity=0.0)
    hard = detector(hardness=0.7, adversarial=0.0, identity=0.0)
    assert run(plain)["synthesiser"] == 0
    losses = run(hard)
    own = losses["classification"] + losses["bbox_regression"]
    torch.testing.assert_close(losses["synthesiser"], -0.7 * own.log())


def test_the_game_against_the_formulas():
    model, seen = detector(hardness=0.0, adversarial=0.6, identity=0.0), []
    discriminator = model.synthesis.discriminator
    nn.init.normal_(discriminator.score.weight, std=1.0)
    discriminator.register_forward_hook(lambda module, inputs, output: seen.append(output.detach().sigmoid()))
    losses = run(model)
    real, pasted, again = seen
    assert pasted.equal(again)
    assert len(real) == len(pasted) == 3
    torch.testing.assert_close(
        losses["discriminator"].detach(), -(real.log() + (1 - pasted).log()).mean(), rtol=1e-4, atol=0
    )
    torch.testing.assert_close(losses["synthesiser"].detach(), -0.6 * pasted.log().mean())


def test_draws_are_held_near_their_start():
    """By the divergence of two normal distributions, the sum over the decisions."""
    model = detector(hardness=0.0, adversarial=0.0, identity=0.5)
    assert run(model)["synthesiser"] == 0
    mean, spread = torch.linspace(-1, 1, 8), torch.linspace(0.5, 2, 8)
    model.synthesis.synthesiser.forward = lambda front, back: (mean.expand(len(front), 8), spread.expand(len(front), 8))
    drawn, start = torch.distributions.Normal(mean, spread), torch.distributions.Normal(torch.zeros(8), torch.ones(8))
    expected = torch.distributions.kl_divergence(drawn, start).sum()
    torch.testing.assert_close(run(model)["synthesiser"].detach(), 0.5 * expected)


def test_the_extra_pass_leaves_no_trace():
    """Batch statistics, counters and observers are those of one pass."""
    model, seen = detector(), []
    model.treatment.observers.append(lambda stage, samples, losses, rows: seen.append(1))
    run(model)
    assert len(seen) == 1
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert all(m.num_batches_tracked == 1 for m in norms)
    assert model.synthesis.steps == 1


def test_it_looks_in_every_nth_step():
    calls = []

    def detect(images, targets):
        calls.append(len(images))
        return nothing(images, targets)

    synthesis = TaskAwareSynthesis(share=1.0, every=3)
    for _ in range(7):
        synthesis(*batch(), detect)
    assert calls == [3, 3, 3]


def test_an_objective_sees_the_tasks_of_detection_alone():
    seen = []

    def objective(losses):
        seen.append(set(losses))
        return losses

    torch.manual_seed(0)
    model = build("retinanet", classes=2, image_size=(64, 96)).train()
    attach(model, Recipe(name="x", synthesis=TaskAwareSynthesis(share=1.0), objective=objective))
    assert "synthesiser" in run(model)
    assert seen == [{"classification", "bbox_regression"}]


@pytest.mark.parametrize("name", ["retinanet", "fcos", "ssd", "faster_rcnn", "yolov2"])
def test_every_detector_trains(name):
    torch.manual_seed(0)
    model = build(name, classes=2, image_size=(64, 96)).train()
    plain = set(model.state_dict())
    attach(model, recipes.get("task_aware_synthesis", kind_of(model)))
    added = set(model.state_dict()) - plain
    assert plain <= set(model.state_dict())
    assert all(key.startswith("synthesis.") for key in added)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.005, momentum=0.9)
    images, targets = batch()
    totals = []
    for step in range(6):
        with torch.autocast("cpu", torch.bfloat16, enabled=step == 5):
            losses = model(list(images), targets=copy.deepcopy(targets))
        own = [value for key, value in losses.items() if key not in ("discriminator", "synthesiser")]
        assert len(losses) == len(own) + 2
        assert all(value.dtype == torch.float32 and value.isfinite() for value in losses.values())
        optimizer.zero_grad()
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        assert all(p.grad is not None for p in model.synthesis.parameters())
        optimizer.step()
        totals.append(sum(own).item())
    assert min(totals[1:]) < totals[0]
    model.eval()
    with torch.no_grad():
        before = model(list(images))
        model.synthesis = nn.Identity()  # nothing of it in detection
        assert all(a["boxes"].equal(b["boxes"]) for a, b in zip(before, model(list(images))))


def test_it_goes_on_bit_for_bit():
    def steps(model, optimizer, count):
        for _ in range(count):
            losses = model(*batch())
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()

    def new():
        model = detector(share=0.6, every=2)
        return model, torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    whole, optimizer = new()
    torch.manual_seed(5)
    steps(whole, optimizer, 3)
    file = io.BytesIO()
    torch.save([whole.state_dict(), optimizer.state_dict(), torch.get_rng_state()], file)
    steps(whole, optimizer, 2)
    file.seek(0)
    state, moments, random = torch.load(file, weights_only=True)
    other, optimizer = new()
    other.load_state_dict(state)
    optimizer.load_state_dict(moments)
    torch.set_rng_state(random)
    steps(other, optimizer, 2)
    mine, theirs = whole.state_dict(), other.state_dict()
    assert all(mine[key].equal(theirs[key]) for key in mine)


def test_it_travels():
    model = detector()
    twins = pickle.loads(pickle.dumps(model)), copy.deepcopy(model)
    mine = run(model)
    for twin in twins:
        theirs = run(twin)
        assert all(mine[key].equal(theirs[key]) for key in mine)
        sum(theirs.values()).backward()
        assert all(p.grad is not None for p in twin.synthesis.parameters())
        assert all(p.grad is None for p in model.parameters())


def test_without_gradient_it_stays_out():
    model = detector()
    with torch.no_grad():
        assert set(run(model)) == {"classification", "bbox_regression"}
    assert model.synthesis.steps == 0


def test_keypoints_are_refused():
    model = keypointrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    with pytest.raises(ValueError, match="keypoints do not follow"):
        attach(model, Recipe(name="x", synthesis=TaskAwareSynthesis()))


@pytest.mark.parametrize(
    "setting", [{"share": 1.5}, {"every": 0}, {"hardness": -1.0}, {"cut": "mask"}, {"hidden": -0.1}, {"width": 0}]
)
def test_settings_are_checked(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        TaskAwareSynthesis(**setting)


def test_what_lies_on_an_object_travels_with_it():
    image, back = torch.full((3, 64, 96), 0.1), torch.full((3, 64, 96), 0.2)
    both = {"boxes": torch.tensor([[8.0, 8, 48, 48], [20, 20, 32, 32]]), "labels": torch.tensor([1, 2])}
    for seed in range(4):
        torch.manual_seed(seed)
        _, truth, _ = TaskAwareSynthesis(share=1.0, cut="box")([image, back], [both, dict(NONE)], nothing)
        labels = truth[1]["labels"].tolist()
        assert labels in ([1, 2], [2])
        if labels == [1, 2]:
            small, large = truth[1]["boxes"][1], truth[1]["boxes"][0]
            assert (small[:2] > large[:2]).all()
            assert (small[2:] < large[2:]).all()
            assert box_iou(small[None], large[None]) < 0.2


def test_two_processes_where_one_has_no_objects(two_processes):
    """Nobody waits for the other, and both hold the same weights after a step."""

    def work(rank):
        model = nn.parallel.DistributedDataParallel(detector())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        images, targets = batch()
        for _ in range(2):
            torch.manual_seed(rank)
            losses = model(images, targets if rank == 0 else [copy.deepcopy(NONE) for _ in images])
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
        kept = {name: p.detach() for name, p in model.module.named_parameters()}
        return {"losses": {name: loss.detach() for name, loss in losses.items()}, "parameters": kept}

    first, second = two_processes(work)
    assert second["losses"]["discriminator"] == 0
    assert first["losses"]["discriminator"] > 0
    assert all(first["parameters"][name].equal(second["parameters"][name]) for name in first["parameters"])
