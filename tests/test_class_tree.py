"""The hierarchy of classes: groups, what each model learns from, the way down; in both kinds of detector."""

import copy
from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest
import torch

from detbalance import Phase, Recipe, attach, recipes
from detbalance.class_tree import REJECTED, ClassTree, Nodes, grouped
from detbalance.data.synthetic import Dials, make_dataset
from detbalance.detectors import build
from detbalance.heads import ClassHierarchy
from detbalance.losses import EQLv2Loss, KLLoss
from detbalance.phases import Phases
from detbalance.recipe import Stage
from detbalance.region_heads import RegionClassHierarchy
from detbalance.runs import Settings, load_model
from detbalance.training import train

SIZE = (64, 96)
IMAGES = [torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(i)) for i in range(2)]
BOXES = torch.tensor([[10.0, 10, 34, 34], [40, 20, 72, 52], [60, 5, 90, 25], [5, 40, 30, 60]])
TARGETS = [
    {"boxes": BOXES, "labels": torch.tensor([1, 2, 3, 4])},
    {"boxes": BOXES[:0], "labels": torch.zeros(0, dtype=torch.long)},
]
DETECTORS = pytest.mark.parametrize("detector", ["retinanet", "faster_rcnn"])


def hierarchical(detector, *, groups=(2, 3), reject=0.0, **slots):
    """A detector for five classes with a hierarchy, and that hierarchy's module."""
    torch.manual_seed(0)
    if detector == "retinanet":
        slots |= {"head": partial(ClassHierarchy, groups=groups, reject=reject)}
    else:
        slots |= {"region": RegionClassHierarchy(groups=groups, reject=reject)}
    model = attach(build(detector, classes=5, image_size=SIZE).train(), Recipe(name="mine", **slots))
    return model, next(m for m in model.modules() if hasattr(m, "enter_phase"))


def tree_of(part):
    return part if isinstance(part, ClassTree) else part.tree


def run(model, targets=TARGETS):
    torch.manual_seed(1)
    return model(list(IMAGES), copy.deepcopy(targets))


def descended(model, part, level):
    """Down to a level, with features by which classes 1, 4 and 2, 5 are alike, and 3 like none."""
    tree = tree_of(part)
    like = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0.2, 1], [0.9, 0.1, 0], [0.1, 0.9, 0.3]])
    part.enter_phase(0, True)
    tree.add(torch.nn.functional.pad(like, (0, tree.sums.shape[1] - 3)), torch.arange(1, 6))
    for phase in range(1, level + 1):
        part.enter_phase(phase, True)
    for nodes in (m for m in model.modules() if isinstance(m, Nodes)):
        nodes.requires_grad_(True)
    return tree


# ---- the groups ---------------------------------------------------------------------------------------------------


def naive_groups(features, wanted):
    """Merge the two groups whose pairs of classes have the largest mean inner product."""
    unit = [f / max(float(f.norm()), 1e-12) for f in features.double()]
    groups = [[k] for k in range(len(unit))]
    while len(groups) > wanted:
        best = None
        for i in range(len(groups)):
            for j in range(i + 1, len(groups)):
                pairs = [float(unit[a] @ unit[b]) for a in groups[i] for b in groups[j]]
                mean = sum(pairs) / len(pairs)
                if best is None or mean > best[0]:
                    best = mean, i, j
        _, i, j = best
        groups[i] += groups.pop(j)
    return {frozenset(group) for group in groups}


@pytest.mark.parametrize("seed", range(3))
def test_groups_against_loops(seed):
    features = torch.randn(11, 5, generator=torch.Generator().manual_seed(seed))
    found = grouped(features, (2, 4, 7, 11, 20))
    for wanted, level in zip((2, 4, 7, 11, 11), found.tolist()):
        groups = {frozenset(k for k, g in enumerate(level) if g == node) for node in set(level)}
        assert groups == naive_groups(features, wanted)
        assert sorted(set(level), key=level.index) == list(range(wanted))  # numbered by their first class
    for above, below in pairwise(found):
        assert len(set(zip(above.tolist(), below.tolist()))) == len(set(below.tolist()))  # each within one


def test_groups_of_classes_that_were_never_seen_and_of_few():
    assert grouped(torch.zeros(3, 4), (2,)).shape == (1, 3)
    assert grouped(torch.randn(1, 4), (2, 4)).tolist() == [[0], [0]]
    for wrong in ((), (3, 2), (2, 2), (0,)):
        with pytest.raises(ValueError, match="groups"):
            ClassTree(5, 3, wrong, 0.0)
    with pytest.raises(ValueError, match="reject"):
        RegionClassHierarchy(reject=1.0)


def test_descent_against_loops():
    """A class is what its leaf says, unless one of the models above gives no class of its group a score."""
    tree = ClassTree(5, 3, (2, 3), 0.3)
    tree.group.copy_(torch.tensor([[0, 1, 1, 0, 1], [0, 1, 2, 0, 1]]))
    levels = [2 * torch.randn(40, 6, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    made = tree.descend(levels, torch.sigmoid)
    for n in range(40):
        for k in range(5):
            passes = all(
                any(tree.group[level][j] == tree.group[level][k] and levels[level][n, j + 1].sigmoid() >= 0.3
                    for j in range(5))
                for level in range(2)
            )  # fmt: skip
            assert made[n, k + 1] == (levels[2][n, k + 1] if passes else REJECTED)
    assert made[:, 0].equal(levels[2][:, 0])
    assert (made == REJECTED).any()


# ---- in a detector ------------------------------------------------------------------------------------------------


@DETECTORS
def test_before_the_second_phase_it_is_the_detector(detector):
    model, _ = hierarchical(detector)
    torch.manual_seed(0)
    plain = attach(build(detector, classes=5, image_size=SIZE).train(), Recipe(name="baseline"))
    torch.testing.assert_close(run(model), run(plain), rtol=0, atol=0)
    for mine, theirs in zip(model.eval()(IMAGES), plain.eval()(IMAGES)):
        assert all(mine[key].equal(theirs[key]) for key in theirs)


@pytest.mark.parametrize("detector", ["retinanet", "faster_rcnn", "sigmoids"])
def test_a_phase_begins_with_what_the_one_before_detects(detector):
    sigmoids = EQLv2Loss() if detector == "sigmoids" else None
    stage = Stage(cls_loss=sigmoids, score_threshold=0.005)
    model, part = hierarchical("faster_rcnn" if sigmoids else detector, stages=stage)
    for _ in range(2):
        run(model)
    expected = model.eval()(IMAGES)
    assert expected[0]["scores"].numel()
    model.train()
    for level in (1, 2):
        tree = descended(model, part, level)
        assert int(tree.level) == level
        for mine, theirs in zip(model.eval()(IMAGES), expected):
            assert mine["labels"].equal(theirs["labels"])
            torch.testing.assert_close(mine["scores"], theirs["scores"])
        model.train()


@DETECTORS
def test_models_start_from_the_one_above(detector):
    model, part = hierarchical(detector)
    tree = descended(model, part, 1)
    assert tree.group[0].tolist() == [0, 1, 1, 0, 1]
    assert tree.group[1].tolist() == [0, 1, 2, 0, 1]
    nodes = next(m for m in model.modules() if isinstance(m, Nodes))
    with torch.no_grad():
        for number, node in enumerate(nodes[0]):
            for p in node.parameters():
                p.fill_(number + 1.0)
    part.enter_phase(2, False)  # an epoch within the phase
    assert int(tree.level) == 1
    part.enter_phase(2, True)
    assert tree.parents(2) == [0, 1, 1]
    assert [{p.mean().item() for p in node.parameters()} for node in nodes[1]] == [{1.0}, {2.0}, {2.0}]


@DETECTORS
@pytest.mark.parametrize("level", [1, 2])
def test_each_model_learns_from_its_own_objects_and_from_background(detector, level):
    """The gradient of the class loss by hand: with objects of class 1 alone, the models of other groups are moved as if
    these were not there."""
    model, part = hierarchical(detector)
    tree = descended(model, part, level)
    seen, supervised = {}, {}
    owner = model if detector == "retinanet" else model.roi_heads
    owner.treatment.register_forward_pre_hook(lambda m, x: supervised.update(samples=x[0]))
    hook = (
        part.register_forward_hook if detector == "retinanet" else model.roi_heads.box_predictor.register_forward_hook
    )
    hook(lambda m, x, o: seen.update(logits=o["cls_logits"] if detector == "retinanet" else o[0]))
    losses = run(model)
    samples, group = supervised["samples"], tree.group[level - 1]
    assert samples.positive.any()
    assert not samples.positive.all()
    for label, logits in zip(samples.labels.tolist(), samples.logits):
        foreign = [label > 0 and int(group[k]) != int(group[label - 1]) for k in range(5)]
        assert (logits[1:] == REJECTED).tolist() == foreign
    assert samples.labels.unique().tolist() == [0, 1, 2, 3, 4]
    name = "classification" if detector == "retinanet" else "loss_classifier"
    table = torch.autograd.grad(losses[name], seen["logits"], retain_graph=True)[0]
    rows = table.flatten(0, -2)
    if detector == "faster_rcnn":
        for label, row in zip(samples.labels.tolist(), rows):
            foreign = [k for k in range(5) if label > 0 and int(group[k]) != int(group[label - 1])]
            assert not row[[k + 1 for k in foreign]].any()
    assert rows[:, 1:].any(0).all()
    used = torch.autograd.grad(losses[name], list(part_nodes(model, level)), allow_unused=True)
    assert all(g is not None and g.isfinite().all() for g in used)


def part_nodes(model, level):
    return next(m for m in model.modules() if isinstance(m, Nodes))[level - 1].parameters()


def test_logits_of_regions_against_loops():
    """A class by the model of its node, over that model's background; the root's features stay in front."""
    model, part = hierarchical("faster_rcnn")
    tree, head = descended(model, part, 2), model.roi_heads.box_head
    with torch.no_grad():
        for i, p in enumerate(part.nodes.parameters()):
            p += 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(i))
        pooled = torch.randn(7, 64, 5, 5, generator=torch.Generator().manual_seed(0))
        found = head(pooled)
    assert found.shape == (7, 128 + 6)
    for k in range(5):
        node = part.nodes[1][int(tree.group[1][k])]
        scores = node["score"](node["head"](pooled))
        torch.testing.assert_close(found[:, 128 + k + 1], scores[:, k + 1] - scores[:, 0])
    assert not found[:, 128].any()
    assert found[:, :128].equal(head.eval()(pooled)[:, :128])


def test_phases_tell_when_an_epoch_begins():
    model, part = hierarchical("retinanet", phases=(Phase(share=2), Phase(share=2, trains="nodes")))
    phases, told = Phases(model, 4), []
    part.enter_phase = lambda phase, first: told.append((phase, first))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch, begins in ((0, True), (1, True), (2, True), (2, False), (3, True), (3, False)):
        phases.enter(epoch, optimizer, begins=begins)
    assert told == [(0, True), (0, False), (1, True), (1, False)]
    moving = {name for name, p in model.named_parameters() if p.requires_grad}
    assert moving
    assert all(".nodes." in name for name in moving)


@DETECTORS
def test_features_are_the_mean_over_the_objects(detector):
    model, part = hierarchical(detector)
    tree = tree_of(part)
    part.enter_phase(0, True)
    run(model)
    assert tree.seen[4] == 0
    assert (tree.seen[:4] > 0).all()
    assert (tree.sums[:4].abs().sum(1) > 0).all()
    one = tree.sums.clone(), tree.seen.clone()
    run(model)
    torch.testing.assert_close(tree.sums, 2 * one[0])
    part.enter_phase(0, False)  # each epoch anew
    assert not tree.seen.any()
    model.eval()(IMAGES)
    assert not tree.seen.any()


@DETECTORS
def test_levels_train_without_objects_in_half_precision_and_as_copies(detector):
    model, part = hierarchical(detector, reject=0.2)
    descended(model, part, 2)
    losses = run(model, [TARGETS[1]] * 2)
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    with torch.autocast("cpu", torch.bfloat16):
        losses = run(model)
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    other, _ = hierarchical(detector, reject=0.2)
    other.load_state_dict(model.state_dict())
    expected = model.eval()(IMAGES)
    for twin in (other, copy.deepcopy(model)):
        for a, b in zip(twin.eval()(IMAGES), expected):
            assert all(a[key].equal(b[key]) for key in a)


def test_in_a_cascade_with_deviations_and_with_sigmoids():
    for name, stages in (("cascade_rcnn", Stage()), ("faster_rcnn", recipes.cascade("rcnn").stages),
                         ("faster_rcnn", Stage(box_loss=KLLoss(), cls_loss=EQLv2Loss()))):  # fmt: skip
        model, _ = hierarchical(name, stages=stages)
        parts = [m for m in model.modules() if hasattr(m, "enter_phase")]
        run(model)
        for part in parts:
            descended(model, part, 2)
        sum(run(model).values()).backward()
        assert len({id(p) for part in parts for p in part.nodes.parameters()}) == len(parts) * 5 * 6
        assert len(model.eval()(IMAGES)) == 2


def test_what_has_no_nodes_or_no_such_layers_is_refused():
    plain = attach(build("retinanet", classes=2), Recipe(name="a", phases=(Phase(share=1, trains="nodes"),)))
    with pytest.raises(ValueError, match="no nodes that a phase could train"):
        Phases(plain, 2)
    for kind in ("ssd", "yolo"):
        with pytest.raises(ValueError, match="hierarchical_finetuning"):
            recipes.get("hierarchical_finetuning", kind)
    with pytest.raises(ValueError, match="RetinaNet alone"):
        attach(build("fcos", classes=2), recipes.get("hierarchical_finetuning", "dense"))


# ---- in training --------------------------------------------------------------------------------------------------

SETTINGS = Settings(epochs=4, batch_size=4, image_size=SIZE)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "shapes"
    return make_dataset(folder, images=8, dials=Dials(width=96, height=64, classes=5), splits={"train": 1.0})


def weights(folder, name="model.pt"):
    return torch.load(folder / name, weights_only=True)["model"]


class Killed(Exception):
    pass


@pytest.mark.parametrize(("detector", "stops"), [("retinanet", (4, 7)), ("faster_rcnn", (5,))])
def test_training_goes_down_the_tree_and_resumes_bit_for_bit(data, tmp_path, detector, stops):
    """Two steps an epoch; two epochs of the root, one for each level. Killed where a phase ends, and within others."""
    settings = replace(SETTINGS, detector=detector)
    trained = train(data, tmp_path / "whole", recipe="hierarchical_finetuning", settings=settings)
    whole = weights(tmp_path / "whole")
    assert [int(value) for name, value in whole.items() if name.endswith(".level")] == [2]
    for stop in stops:

        def kill(step, steps, losses, stop=stop):
            if step == stop + 1:
                raise Killed

        folder = tmp_path / f"killed{stop}"
        options = {"recipe": "hierarchical_finetuning", "settings": settings, "checkpoint_seconds": 0}
        with pytest.raises(Killed):
            train(data, folder, progress=kill, **options)
        between = weights(folder, "checkpoint.pt")
        train(data, folder, **options)
        last = weights(folder)
        assert all(torch.equal(whole[name], last[name]) for name in whole)

        changed = {name for name in whole if not torch.equal(whole[name], between[name])}
        assert any(".nodes.1." in name for name in changed)
        moving = (".nodes.1.",) if stop == 7 else (".nodes.", ".group", ".level")
        assert all(any(word in name for word in moving) for name in changed)
        assert any(".nodes.0." in name for name in changed) == (stop < 6)
    loaded, _ = load_model(tmp_path / "whole")
    trained = trained.eval().to(memory_format=torch.contiguous_format)
    for mine, theirs in zip(loaded(IMAGES), trained(IMAGES)):
        assert all(mine[key].equal(theirs[key]) for key in mine)


def gather(rank):
    tree = ClassTree(3, 2, (2,), 0.0)
    features, labels = torch.tensor([[1.0, 2], [3, 4], [5, 6]]), torch.tensor([1, 3, 1])
    rows = slice(0, 3) if rank is None else slice(0, 1) if rank == 0 else slice(1, 3)
    tree.add(features[rows], labels[rows])
    return tree.sums, tree.seen


def test_two_processes_gather_what_one_does(two_processes):
    for half in two_processes(gather):
        torch.testing.assert_close(half, gather(None))
