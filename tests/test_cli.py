"""The command line, as a newcomer meets it: what it prints, what it leaves, and one clear paragraph for bad input."""

import json
import shutil

import pytest

from detbalance import attach, cli, diagnose, read, recipes
from detbalance.adapters import kind_of
from detbalance.data.synthetic import Dials, make_dataset
from detbalance.detectors import DETECTORS, build
from detbalance.runs import Settings

SMALL = ["--image-size", "64x96", "--epochs", "1", "--batch-size", "4"]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "shapes"
    make_dataset(folder, images=20, dials=Dials(width=96, height=64, classes=3))
    return folder


@pytest.fixture
def data(original, tmp_path):
    return shutil.copytree(original, tmp_path / "shapes")


@pytest.fixture
def detbalance(monkeypatch, capsys, tmp_path):
    """Run a command in a folder of its own -> (exit status, stdout, stderr)."""

    def run(*arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", ["detbalance", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "140")
        try:
            cli.main()
            status = 0
        except SystemExit as stop:
            status = stop.code or 0
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def edit(data, change):
    path = data / "train.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def test_train_then_evaluate(detbalance, data, tmp_path):
    status, out, err = detbalance("train", data, "--recipe", "pisa", "--out", "run", *SMALL)
    assert (status, err) == (0, "")
    assert "AP" in out
    status, out, _ = detbalance("evaluate", "run", "--json", "figures.json")
    assert status == 0
    figures = json.loads((tmp_path / "figures.json").read_text())["metrics"]
    assert figures == json.loads((tmp_path / "run" / "evaluation.json").read_text())["evaluation"]["metrics"]
    assert detbalance("evaluate", "run", "--slices", "40x56")[0] == 0
    assert (tmp_path / "run" / "predictions-40x56-0.25.json").exists()


def test_train_with_probes_then_diagnose(detbalance, data, tmp_path):
    train = ("train", data, "--out", "run", "--probe", *SMALL)
    status, out, err = detbalance(*train)
    assert (status, err) == (0, "")
    assert "what drove it: detbalance diagnose" in out
    status, out, err = detbalance(
        "diagnose", data, "--split", "train", "--log", "run/probes.npz", "--json", "found.json"
    )
    assert (status, err) == (0, "")
    keys = {f["key"]: f["value"] for f in json.loads((tmp_path / "found.json").read_text())["findings"]}
    assert keys["driven_foreground"] is not None
    assert keys["outliers"] is not None
    (tmp_path / "run" / "probes.npz").unlink()
    assert "no probes: this run was finished before" in detbalance(*train)[1]


def test_run_tells_the_whole_story(detbalance, data, tmp_path):
    status, out, _ = detbalance("run", data, "--seeds", 1, "--out", "out", *SMALL)
    assert status == 0
    assert "foreground-background" in out
    assert "comparing: baseline, " in out
    page = (tmp_path / "out" / "report.html").read_text()
    assert "foreground-background" in page
    recipes = json.loads((tmp_path / "out" / "results.json").read_text())["recipes"]
    drove = [{entry["key"] for entry in recipe["drove"]} for recipe in recipes.values()]
    assert all({"driven_foreground", "outliers", "tasks"} <= keys for keys in drove)
    parts = [page.index(f'id="{name}"') for name in ("meters", "verdict", "drove", "problem-objective")]
    assert parts == sorted(parts)  # what was measured before, what helped, what drove it, all numbers
    assert "What drove the head" in page


def test_compare_with_a_recipe_of_ones_own(detbalance, data, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from detbalance import Recipe, Stage\nfrom detbalance.losses import FocalLoss\n"
        "def soft(kind):\n    return Recipe(name='soft', stages=Stage(cls_loss=FocalLoss(gamma=1.0)))\n"
    )
    status, out, err = detbalance("compare", data, "--recipes", "baseline,mine.py:soft", "--seeds", 1, *SMALL)
    assert (status, err) == (0, "")
    assert "soft" in out
    assert (tmp_path / "runs" / "shapes-retinanet-nano" / "report.html").exists()


def test_make_data(detbalance, tmp_path):
    status, out, _ = detbalance("make-data", "made", "--images", 6, "--class-skew", 5, "--width", 96, "--height", 64)
    assert status == 0
    assert "6 images" in out
    assert json.loads((tmp_path / "made" / "train.json").read_text())["images"]


def test_anchors(detbalance, data, tmp_path):
    command = ("anchors", data, "--image-size", "64x96", "--generations", 1, "--sample", 4)
    status, out, err = detbalance(*command, "--out", "mine.json")
    assert (status, err) == (0, "")
    assert "designed" in out
    assert "AnchorGenerator(sizes=((" in out
    assert json.loads((tmp_path / "mine.json").read_text())["anchors"]["detector"] == "retinanet"
    status, _, err = detbalance("anchors", data, "--detector", "fcos")
    assert status == 2
    assert "expected a detector with anchors" in err


def test_loss_landscape(detbalance, tmp_path):
    command = ("loss-landscape", "L2Loss", "BalancedL1Loss(gamma=2.0)", "--points", 5)
    simulation = ("--simulate", "--starts", 1, "--iterations", 3)
    status, out, err = detbalance(*command, *simulation, "--html", "page.html", "--png", "picture.png")
    assert (status, err) == (0, "")
    assert "L2Loss: error" in out
    assert "BalancedL1Loss(gamma=2.0)" in (tmp_path / "page.html").read_text()
    assert (tmp_path / "picture.png").read_bytes()[:4] == b"\x89PNG"
    status, _, err = detbalance("loss-landscape", "FocaLoss")
    assert status == 2
    assert "did you mean FocalLoss?" in err
    status, _, err = detbalance("loss-landscape", "FocalLoss", "--simulate")
    assert status == 2
    assert "--simulate needs a box loss" in err


def test_methods(detbalance):
    status, out, _ = detbalance("methods")
    assert status == 0
    assert "spatial imbalance" in out
    assert "BalancedL1Loss" in out
    assert "Libra R-CNN (Pang et al. 2019): balanced" in out  # the whole sentence
    status, out, _ = detbalance("methods", "BalancedL1Loss")
    assert "alpha" in out
    assert "libra" in out
    status, out, _ = detbalance("methods", "pisa")
    assert "PrimeSampleWeights" in out
    status, _, err = detbalance("methods", "Nonsense")
    assert status == 2
    assert "FocalLoss" in err


def missing_image(data):
    path = sorted((data / "images").iterdir())[2]
    path.unlink()
    return path.name


def truncated_image(data):
    path = sorted((data / "images").iterdir())[2]
    path.write_bytes(path.read_bytes()[:600])
    return path.name


def unknown_category(data):
    edit(data, lambda r: r["annotations"][3].update(category_id=77))
    return "77"


def nan_box(data):
    path = data / "train.json"
    record = json.loads(path.read_text())
    record["annotations"][3]["bbox"][2] = 123456.5
    path.write_text(json.dumps(record).replace("123456.5", "NaN"))
    return "train.json"


def negative_box(data):
    edit(data, lambda r: r["annotations"][3].update(bbox=[5, 5, -3, 4]))
    return "train.json"


def empty_file(data):
    (data / "train.json").write_text("")
    return "train.json"


def no_known_form(data):
    for name in ("train.json", "test.json"):
        (data / name).unlink()
    return data.name


@pytest.mark.parametrize(
    "damage", [missing_image, truncated_image, unknown_category, nan_box, negative_box, empty_file, no_known_form]
)
@pytest.mark.parametrize("command", ["train", "compare"])
def test_bad_input(detbalance, data, tmp_path, damage, command):
    """Exit status 2, one paragraph that names the culprit, no trace, nothing written."""
    culprit = damage(data)
    status, out, err = detbalance(command, data, *SMALL)
    assert status == 2
    assert culprit in err
    assert "Traceback" not in err + out
    assert err.startswith("detbalance: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_arguments_that_make_no_sense(detbalance, data):
    for arguments in (
        ("train", data, "--recipe", "nonsense"),
        ("train", data, "--image-size", "wide"),
        ("train", data, "--detector", "yolo"),
        ("compare", data, "--recipes", "focal,focal"),
        ("evaluate", "nowhere", data),
        ("diagnose", "nowhere"),
        ("train", "nowhere"),
    ):
        status, out, err = detbalance(*arguments)
        assert status == 2, arguments
        assert err
        assert "Traceback" not in err + out


def test_every_detector_can_be_named():
    assert {detector.value for detector in cli.Detector} == set(DETECTORS)


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("remedies", ["found", "none found"])
def test_what_is_prescribed_goes_into_the_detector(original, detector, remedies):
    found = diagnose(read(original), anchors=cli._ANCHORS.get(detector, detector))
    if remedies == "none found":
        found = diagnose(read(original).subset([]), anchors=cli._ANCHORS.get(detector, detector))
    chosen = cli._prescribed(found, Settings(detector=detector))
    assert chosen[0] == "baseline"
    assert len(chosen) > 1
    for name in chosen:
        model = build(detector, classes=3, image_size=(64, 96))
        attach(model, recipes.get(name, kind_of(model)))


def test_debug_shows_the_trace(detbalance, monkeypatch):
    monkeypatch.delenv("DETBALANCE_DEBUG", raising=False)
    with pytest.raises(ValueError, match="nowhere"):
        detbalance("--debug", "diagnose", "nowhere")
    monkeypatch.delenv("DETBALANCE_DEBUG")
