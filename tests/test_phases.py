"""Training in phases: who trains when, at which rate, on which images; a kill in the second phase changes nothing."""

from dataclasses import replace

import pytest
import torch

from detbalance import Phase, Recipe, attach, recipes
from detbalance.data.synthetic import Dials, make_dataset
from detbalance.detectors import DETECTORS, build
from detbalance.image_sampling import ClassAwareSampling, UnderSampling
from detbalance.phases import Phases, classifiers
from detbalance.runs import Settings
from detbalance.training import train

SETTINGS = Settings(epochs=4, batch_size=4, image_size=(64, 96))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "shapes"
    return make_dataset(folder, images=8, dials=Dials(width=96, height=64, classes=3), splits={"train": 1.0})


def phased(*phases, detector="retinanet", **options):
    torch.manual_seed(0)
    return attach(build(detector, classes=3, image_size=(64, 96)), Recipe(name="a", phases=phases, **options))


def weights(folder):
    return torch.load(folder / "model.pt", weights_only=True)["model"]


@pytest.mark.parametrize(
    ("shares", "epochs", "starts"),
    [((1,), 5, [0]), ((3, 1), 10, [0, 7]), ((3, 1), 2, [0, 1]), ((1, 1, 1), 3, [0, 1, 2]), ((100, 1, 1), 4, [0, 2, 3]),
     ((1, 1, 100), 4, [0, 1, 2])],
)  # fmt: skip
def test_every_phase_has_an_epoch(shares, epochs, starts):
    assert Phases(phased(*(Phase(share=share) for share in shares)), epochs).starts == starts


def test_refuses():
    with pytest.raises(ValueError, match="3 phases needs as many epochs, and not 2"):
        Phases(phased(*[Phase(share=1)] * 3), 2)
    with pytest.raises(ValueError, match="expected trains"):
        Phase(share=1, trains="neck")
    with pytest.raises(ValueError, match="expected share above 0 but got 0"):
        Phase(share=0)
    with pytest.raises(ValueError, match="no layer for classes alone"):
        Phases(phased(Phase(share=1, trains="classifier"), detector="yolov2"), 2)
    with pytest.raises(ValueError, match="predicts all with one layer"):
        recipes.get("decoupled", "yolo")


@pytest.mark.parametrize("detector", [name for name in DETECTORS if name != "yolov2"])
def test_classifiers_tell_classes_apart(detector):
    """Another number of classes changes the shapes of these layers, and of no others but YOLOv2's."""
    few, many = (build(detector, classes=n, image_size=(64, 96)) for n in (2, 5))
    changed = {n for n, p in few.named_parameters() if p.shape != many.get_parameter(n).shape and "bbox_pred" not in n}
    layers = {id(p) for layer in classifiers(few) for p in layer.parameters()}
    assert {n for n, p in few.named_parameters() if id(p) in layers} == changed


def test_a_phase_trains_its_part_alone():
    model = phased(Phase(share=1), Phase(share=1, trains="heads"), Phase(share=1, trains="classifier"))
    frozen = next(model.backbone.parameters())
    frozen.requires_grad_(False)  # by the detector's own will
    phases = Phases(model, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    moving = []
    for epoch in range(3):
        phases.enter(epoch, optimizer, begins=True)
        moving.append({n for n, p in model.named_parameters() if p.requires_grad})
        still = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d) and not m.training]
        assert bool(still) == (epoch > 0)
    assert not frozen.requires_grad
    assert moving[0] > moving[1] > moving[2]
    assert not any(name.startswith("backbone") for name in moving[1])
    assert all("cls_logits" in name for name in moving[2])


def test_each_phase_has_a_schedule_of_its_own():
    phases = Phases(phased(Phase(share=3), Phase(share=1, learning_rate=0.1)), 4)
    assert [phases.position(step, 10) for step in (0, 29, 30, 39)] == [
        (0, 30, 1.0),
        (29, 30, 1.0),
        (0, 10, 0.1),
        (9, 10, 0.1),
    ]


def test_images_are_the_phase_s_or_the_recipe_s():
    first = Phase(share=1), Phase(share=1, images=ClassAwareSampling())
    phases = Phases(phased(*first, images=UnderSampling()), 2)
    assert [phases.images(i) for i in range(2)] == [UnderSampling(), ClassAwareSampling()]


@pytest.mark.parametrize("begins", [True, False])
def test_restarts_once(begins):
    """Where the phase begins the classifier is what it was at first; in the midst of it, it stays."""
    model = phased(Phase(share=1), Phase(share=1, trains="classifier", restart=True))
    phases, (layer,) = Phases(model, 4), classifiers(model)
    fresh = layer.weight.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    layer.weight.sum().backward()
    optimizer.step()
    phases.enter(2, optimizer, begins=begins)
    assert torch.equal(layer.weight, fresh) == begins
    assert bool(optimizer.state) != begins


def test_only_the_classifier_moves_in_the_second_phase(data, tmp_path):
    recipe = Recipe(name="a", phases=(Phase(share=1), Phase(share=1, trains="classifier")))
    between = {}

    def progress(step, steps, losses):
        if step == 3:  # two steps an epoch: the checkpoint is that of the first epoch's end
            between.update(torch.load(tmp_path / "checkpoint.pt", weights_only=True)["model"])

    train(data, tmp_path, recipe=recipe, settings=replace(SETTINGS, epochs=2), progress=progress)
    last = weights(tmp_path)
    changed = {name for name, value in last.items() if not torch.equal(value, between[name])}
    assert changed == {"head.classification_head.cls_logits.weight", "head.classification_head.cls_logits.bias"}


def test_killed_in_the_second_phase_and_resumed(data, tmp_path):
    settings = replace(SETTINGS, epochs=3)
    recipe = recipes.get("decoupled", "dense")
    train(data, tmp_path / "whole", recipe=recipe, settings=settings)

    for stop in (4, 5):  # at the boundary of the phases, and within the second one

        class Killed(Exception):
            pass

        def kill(step, steps, losses, stop=stop):
            if step == stop + 1:
                raise Killed

        folder = tmp_path / f"killed{stop}"
        with pytest.raises(Killed):
            train(data, folder, recipe=recipe, settings=settings, progress=kill, checkpoint_seconds=0)
        train(data, folder, recipe=recipe, settings=settings)
        first, other = weights(tmp_path / "whole"), weights(folder)
        assert all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("name", ["decoupled", "balanced_finetuning"])
@pytest.mark.parametrize("detector", ["faster_rcnn", "ssd"])
def test_recipes_train(data, tmp_path, name, detector):
    model = train(data, tmp_path, recipe=name, settings=replace(SETTINGS, epochs=2, detector=detector))
    assert all(value.isfinite().all() for value in model.state_dict().values())
