"""compare: finished runs are kept, failed ones reported, and the report stands."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from detbalance import Recipe, Stage, compare
from detbalance.comparison import Comparison
from detbalance.data.synthetic import Dials, make_dataset
from detbalance.losses import FocalLoss
from detbalance.runs import Settings, load_model

SETTINGS = Settings(epochs=1, batch_size=4, image_size=(64, 96))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "shapes"
    return make_dataset(folder, images=20, dials=Dials(width=96, height=64, classes=3))


class _Broken:
    softmax = False

    def __call__(self, logits, target):
        return logits * torch.nan

    def __repr__(self):
        return "_Broken()"


def test_failed_runs_do_not_stop_the_others(data, tmp_path):
    broken = Recipe(name="broken", stages=Stage(cls_loss=_Broken()))
    result = compare(data, ["baseline", broken, "isr_p"], seeds=2, settings=SETTINGS, folder=tmp_path, draws=20)
    recipes = result.results["recipes"]
    assert [run["status"] for run in recipes["broken"]["runs"]] == ["failed", "failed"]
    assert "loss" in recipes["broken"]["runs"][0]["error"]
    assert [run["status"] for run in recipes["isr_p"]["runs"]] == ["done", "done"]
    assert recipes["baseline"]["metrics"]["AP"]["difference"] is None
    gap = recipes["isr_p"]["metrics"]["AP"]["difference"]
    assert gap["low"] <= gap["mean"] <= gap["high"]
    assert json.loads((tmp_path / "results.json").read_text()) == result.results
    page = (tmp_path / "report.html").read_text()
    assert "isr_p" in page
    assert "_Broken()" in page
    assert not list(tmp_path.rglob("*.part"))


def test_no_figure_is_cut_in_a_narrow_terminal():
    """A long name is broken over lines instead; of gains of two digits, and intervals of two signs."""
    gap = {"mean": 0.119, "low": -0.108, "high": 0.341}
    metrics = {m: {"mean": 0.605, "spread": 0.012, "difference": gap} for m in ("AP", "AP50", "AP75", "AP90")}
    name = "rank_sort+repeat_factor+copy_paste+instance_switching"
    recipe = {"metrics": metrics, "runs": [{"status": "done", "train_seconds": 1234.5}]}
    results = {"name": "shapes", "detector": "retinanet", "size": "nano", "seeds": [0], "recipes": {name: recipe}}
    console = Console(width=80, file=io.StringIO())
    console.print(Comparison(results, Path()).table())
    lines = console.file.getvalue().splitlines()
    assert "…" not in console.file.getvalue()
    assert "60.5 ± 1.2 +11.9 [-10.8, +34.1] 60.5 60.5 60.5 1234" in " ".join(lines[4].split())
    assert "".join(line.split()[0] for line in lines[4:] if line.strip()) == name


def test_recipes_of_another_length(data, tmp_path):
    """`name@2` trains twice as long as the others, and its run can be taken up again."""
    totals = {}
    result = compare(
        data,
        ["baseline", "baseline@2"],
        seeds=1,
        settings=SETTINGS,
        folder=tmp_path,
        draws=10,
        progress=lambda name, seed, step, total, losses: totals.update({name: total}),
    )
    assert totals["baseline@2"] == 2 * totals["baseline"]
    assert result.results["recipes"]["baseline@2"]["runs"][0]["status"] == "done"
    model, described = load_model(tmp_path / "baseline@2" / "seed0")
    assert described["settings"]["epochs"] == 2
    assert model.recipe.name == "baseline@2"


def test_finished_runs_are_not_repeated(data, tmp_path):
    steps = []

    def progress(name, seed, step, total, losses):
        steps.append((name, seed))

    options = {"settings": SETTINGS, "folder": tmp_path, "draws": 10, "progress": progress}
    first = compare(data, ["baseline", "focal"], seeds=1, **options)
    assert set(steps) == {("baseline", 0), ("focal", 0)}
    steps.clear()
    again = compare(data, ["baseline", "focal"], seeds=1, **options)
    assert not steps
    assert again.results["recipes"]["focal"]["runs"] == first.results["recipes"]["focal"]["runs"]
    more = compare(data, ["baseline", "focal"], seeds=2, **options)
    assert set(steps) == {("baseline", 1), ("focal", 1)}
    assert len(more.results["recipes"]["focal"]["metrics"]["AP"]["values"]) == 2
    steps.clear()
    changed = compare(data, [Recipe(name="focal", stages=Stage(cls_loss=FocalLoss(gamma=1.0)))], seeds=1, **options)
    assert set(steps) == {("focal", 0)}
    assert "gamma=1.0" in changed.results["recipes"]["focal"]["repr"]


def test_runs_of_another_precision_are_told(data, tmp_path):
    """Half of a comparison made on one machine and half on another is seen as such."""
    options = {"seeds": 1, "settings": SETTINGS, "folder": tmp_path, "draws": 10, "precision": "32-true"}
    assert compare(data, ["baseline", "focal"], **options).results["precision"] == ["32-true"]
    path = tmp_path / "focal" / "seed0" / "settings.json"
    path.write_text(path.read_text().replace('"32-true"', '"bf16-mixed"'))
    mixed = compare(data, ["baseline", "focal"], **options)
    assert mixed.results["precision"] == ["32-true", "bf16-mixed"]
    assert "32-true and bf16-mixed" in (tmp_path / "report.html").read_text()
    (tmp_path / "focal" / "seed0" / "evaluation.json").unlink()
    anew = compare(data, ["baseline", "focal"], **options)
    assert anew.results["recipes"]["focal"]["runs"][0]["status"] == "done"
    assert anew.results["precision"] == ["32-true"]


def test_same_seed_gives_the_same_figures(data, tmp_path):
    """Runs do not depend on which ran before them in the same process."""
    both = compare(data, ["baseline", "pisa"], seeds=1, settings=SETTINGS, folder=tmp_path / "a", draws=10)
    alone = compare(data, ["pisa"], seeds=1, settings=SETTINGS, folder=tmp_path / "b", draws=10)
    first, second = (r.results["recipes"]["pisa"]["runs"][0] for r in (both, alone))
    assert first["curves"] == second["curves"]
    assert first["metrics"] == second["metrics"]


def test_what_cannot_be_compared_is_refused(data, tmp_path):
    with pytest.raises(ValueError, match="more than once"):
        compare(data, ["focal", "focal"], seeds=1, settings=SETTINGS, folder=tmp_path)
    with pytest.raises(ValueError, match="no recipe 'nonsense'"):
        compare(data, ["nonsense"], seeds=1, settings=SETTINGS, folder=tmp_path)
    with pytest.raises(ValueError, match="two-stage"):
        compare(data, ["isr_n"], seeds=1, settings=SETTINGS, folder=tmp_path)
    with pytest.raises(ValueError, match="seed"):
        compare(data, ["focal"], seeds=[], settings=SETTINGS, folder=tmp_path)
    assert not list(tmp_path.iterdir())
    assert replace(SETTINGS, seed=3).seed == 3
