"""`train --probe`: the same weights as without, a file that survives a stop, and a diagnosis that reads it."""

import numpy as np
import pytest
import torch

from detbalance.data.synthetic import Dials, make_dataset
from detbalance.diagnosis import diagnose, training_findings
from detbalance.runs import Settings
from detbalance.taxonomy import Imbalance
from detbalance.training import train

SETTINGS = Settings(epochs=2, batch_size=4, image_size=(64, 96))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "shapes"
    return make_dataset(folder, images=8, dials=Dials(width=96, height=64, classes=3), splits={"train": 1.0})


def weights(folder):
    return torch.load(folder / "model.pt", weights_only=True)["model"]


def columns(folder):
    with np.load(folder / "probes.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def test_probed_stopped_and_resumed(data, tmp_path):
    def stop(step, steps, losses):
        if step == 3:
            raise KeyboardInterrupt

    train(data, tmp_path / "plain", settings=SETTINGS)
    train(data, tmp_path / "probed", settings=SETTINGS, probe=1)
    with pytest.raises(KeyboardInterrupt):
        train(
            data,
            tmp_path / "broken",
            settings=SETTINGS,
            probe=1,
            progress=stop,
            checkpoint_seconds=0,
        )
    train(data, tmp_path / "broken", settings=SETTINGS, probe=1)
    plain, probed, broken = (weights(tmp_path / name) for name in ("plain", "probed", "broken"))
    assert all(plain[k].equal(probed[k]) and plain[k].equal(broken[k]) for k in plain)
    whole, parts = columns(tmp_path / "probed"), columns(tmp_path / "broken")
    assert whole.keys() == parts.keys()
    assert whole["probe.step"].tolist() == list(range(4))
    for name in whole:
        np.testing.assert_array_equal(whole[name], parts[name], err_msg=name)
    assert not (tmp_path / "plain" / "probes.npz").exists()


@pytest.mark.parametrize("detector", ["retinanet", "faster_rcnn"])
def test_diagnosis_reads_the_probes_of_a_training(data, tmp_path, detector):
    settings = Settings(detector=detector, epochs=1, batch_size=4, image_size=(64, 96))
    train(data, tmp_path / "run", settings=settings, probe=2)
    found = diagnose(data, log=tmp_path / "run" / "probes.npz", bootstrap=0)
    for problem in (Imbalance.REGRESSION_LOSS, Imbalance.IOU_DISTRIBUTION, Imbalance.OBJECTIVE):
        assert found[problem].value is not None
        assert found[problem].severity is not None
    for key in ("degraded", "driven_foreground", "driven_classes", "driven_sizes", "driven_places", "conflict"):
        assert 0 <= found[key].value <= 1
        assert found[key].severity is not None
    assert {row[0] for row in found["driven_classes"].tables[0].rows} == set(data.classes)
    titles = [table.title for finding in found.findings for table in finding.tables]
    for title in ("Mean loss and gradient of the tasks", "IoU before (x) and after regression (y)"):
        assert title in titles
    page = found.save(tmp_path / "page.html").read_text()
    assert "What drove the head: classes" in page
    alone = training_findings(tmp_path / "run" / "probes.npz")
    later = diagnose(data, bootstrap=0).with_log(tmp_path / "run" / "probes.npz")
    assert [f.key for f in later.findings] == [f.key for f in found.findings]
    for finding in alone:
        assert finding.value == found[finding.key].value == later[finding.key].value
        assert finding.severity == found[finding.key].severity
    found.to_json()
