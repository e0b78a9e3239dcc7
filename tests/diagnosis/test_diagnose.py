"""The whole diagnosis: on any dataset, as JSON, against another, without torch."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

import detbalance
from detbalance.data.annotations import Annotations
from detbalance.diagnosis import Severity, diagnose
from detbalance.diagnosis.anchors import RETINANET, YOLOV3
from detbalance.diagnosis.columns import Columns
from detbalance.diagnosis.severity import THRESHOLDS, judge, merged
from detbalance.taxonomy import Imbalance

DATA = Path(__file__).resolve().parents[2] / "../shared/data"
SETS = ["bccd", "chess/train.json", "coco_val2014_100", "deeppcb", "facemask", "taco/taco_unofficial.json"]


def numbers(value):
    if isinstance(value, dict):
        return [n for v in value.values() for n in numbers(v)]
    if isinstance(value, list):
        return [n for v in value for n in numbers(v)]
    return [value] if isinstance(value, float) else []


def check(found):
    """What holds for every diagnosis."""
    for problem in Imbalance:
        headlines = [f for f in found.findings if f.imbalance == problem and f.headline]
        assert len(headlines) == 1
        assert found[problem] is headlines[0]
        assert (headlines[0].value is None) == bool(headlines[0].needs)
    keys = [f.key for f in found.findings]
    assert len(set(keys)) == len(keys)
    for finding in found.findings:
        assert finding.summary
        assert finding.measure
        assert finding.key in THRESHOLDS
        assert found[finding.key] is finding
        if finding.value is None:
            assert finding.severity is None
            continue
        assert 0 <= finding.value <= 1
        assert finding.severity is not None
        if finding.interval is not None:
            assert 0 <= finding.interval[0] <= finding.value + 1e-9
            assert finding.value - 1e-9 <= finding.interval[1] <= 1
        for table in finding.tables:
            assert all(len(row) == len(table.columns) for row in table.rows), (finding.key, table.title)
            assert table.chart != "heatmap" or table.columns == ("x", "y", "value")
    read = json.loads(found.to_json(), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert all(math.isfinite(n) for n in numbers(read))
    return read


@pytest.mark.parametrize("name", SETS)
def test_real_datasets(name):
    if not (DATA / name).exists():
        pytest.skip(f"the shared datasets are not here: {name}")
    found = diagnose(DATA / name, bootstrap=20)
    check(found)
    if name == "deeppcb":
        assert found["classes"].severity == Severity.NONE
    if name == "taco/taco_unofficial.json":
        assert found.problems


def plain(images, image=(), label=(), boxes=(), classes=("a", "b"), size=(64, 48), **rest):
    return Annotations.from_arrays(
        classes=list(classes), sizes=[size] * images, image=image, label=label, boxes=boxes, **rest
    )


@pytest.mark.parametrize(
    "data",
    [
        plain(0),
        plain(3),
        plain(0, classes=()),
        plain(1, [0], [1], [[0, 0, 1, 1]]),
        plain(1, [0], [1], [[0, 0, 1, 1]], classes=["a"]),
        plain(2, [0, 0], [1, 2], [[0, 0, 9, 9]] * 2, size=(0, 0)),
        plain(2, [0, 1], [1, 2], [[0, 0, 9, 9]] * 2, crowd=[True, True]),
        plain(2, [0, 1], [1, 1], [[-50, -50, 90, 90], [200, 200, 300, 300]]),
        plain(1, [0] * 3, [1, 1, 2], [[0, 0, 1e6, 1e6], [0, 0, 1e-3, 1e-3], [5, 5, 5.5, 40]]),
        plain(1, [0], [1], [[0, 0, 1, 1]], size=(1, 100_000)),
    ],
    ids=["no images", "no boxes", "no classes", "one", "one class", "no sizes", "crowds", "outside", "huge", "thin"],
)
@pytest.mark.parametrize("bootstrap", [0, 5])
def test_odd_datasets(data, bootstrap):
    check(diagnose(data, bootstrap=bootstrap))


def test_order_of_images_and_uniform_size_change_nothing(make):
    data = make(images=15, boxes=90)
    shuffled = np.random.default_rng(1).permutation(len(data))
    place = np.argsort(shuffled)
    other = Annotations.from_arrays(
        classes=data.classes,
        sizes=data.sizes[shuffled],
        image=place[data.image],
        label=data.label,
        boxes=data.boxes,
        area=data.area,
        crowd=data.crowd,
    )
    first, second = diagnose(data, bootstrap=0), diagnose(other, bootstrap=0)
    for finding in first.findings:
        if finding.value is not None:
            within = 0.03 if finding.key == "batch_classes" else 1e-9  # simulated
            assert second[finding.key].value == pytest.approx(finding.value, abs=within), finding.key
    twice = diagnose(replace(data, sizes=2 * data.sizes, boxes=2 * data.boxes, area=4 * data.area), bootstrap=0)
    for finding in first.findings:
        if finding.value is not None and finding.key not in ("size_bins",):  # a size in pixels
            within = 0.03 if finding.key == "batch_classes" else 0.02  # resizing rounds to whole pixels
            assert twice[finding.key].value == pytest.approx(finding.value, abs=within), finding.key


def test_the_same_seed_gives_the_same_numbers(make):
    assert diagnose(make(), bootstrap=10).to_json() == diagnose(make(), bootstrap=10).to_json()
    assert (
        diagnose(make(), bootstrap=10, seed=1)["classes"].interval != diagnose(make(), bootstrap=10)["classes"].interval
    )


def test_json_has_the_documented_form(make, tmp_path):
    found = diagnose(make(), against=make(1), bootstrap=5)
    read = check(found)
    assert list(read) == [
        "schema", "version", "dataset", "settings", "worst", "findings", "prescription", "problems", "against"
    ]  # fmt: skip
    assert read["schema"] == "detbalance.diagnosis/1"
    assert list(read["findings"][0]) == [
        "key", "imbalance", "family", "headline", "value", "interval", "severity", "measure", "summary", "needs",
        "affected", "tables",
    ]  # fmt: skip
    assert list(read["prescription"]) == ["remedies", "untreated", "command"]
    assert read["worst"] == found.worst.name.lower()
    assert read["against"]["against"] is None
    path = found.save(tmp_path / "d.json")
    assert json.loads(path.read_text()) == read
    assert found.save(tmp_path / "d.html").read_text().lstrip().lower().startswith("<!doctype html")
    with pytest.raises(ValueError, match=r"html or \.json"):
        found.save(tmp_path / "d.pdf")


def test_nothing_that_is_not_a_number_reaches_json(make):
    found = diagnose(make(), bootstrap=0)
    odd = replace(found, dataset={"a": float("nan"), "b": np.float32("inf"), "c": np.int64(3), "d": (np.bool_(True),)})
    assert json.loads(odd.to_json())["dataset"] == {"a": None, "b": None, "c": 3, "d": [True]}


def test_worst_is_the_worst_headline(make):
    found = diagnose(make(), bootstrap=0)
    assert found.worst == max(f.severity for f in found.findings if f.headline and f.severity is not None)
    lenient = diagnose(make(), bootstrap=0, thresholds=dict.fromkeys(THRESHOLDS, (2, 3, 4)))
    assert lenient.worst == Severity.NONE
    assert not lenient.prescription.remedies
    strict = diagnose(make(), bootstrap=0, thresholds={"centres": (0, 0, 0)})
    assert strict[Imbalance.LOCATION].severity == Severity.EXTREME


def test_two_datasets_of_one_source_do_not_differ_by_more_than_chance(make):
    data = make(images=200, boxes=1000)
    half = np.random.default_rng(0).permutation(200) < 100
    found = diagnose(data.subset(half), against=data.subset(~half), bootstrap=100)
    check(found)
    shifts = [f for f in found.findings if f.key.startswith("shift_")]
    assert len(shifts) == 5
    assert sum(f.severity == Severity.NONE for f in shifts) >= 4
    assert found.against["classes"].value == diagnose(data.subset(~half), bootstrap=100)["classes"].value


def test_what_chance_explains_is_not_judged(make):
    data = make(images=12, boxes=30)
    half = np.arange(12) % 2 == 0
    found = diagnose(data.subset(half), against=data.subset(~half), bootstrap=200)
    judged = 0
    for finding in (f for f in found.findings if f.key.startswith("shift_")):
        chance = finding.tables[0].rows[1][1]
        if finding.value <= chance:
            assert finding.severity == Severity.NONE
            judged += judge(finding.key, finding.value) > Severity.NONE
    assert judged, "the two halves lie too close for this test to show anything"


def test_shifts_are_scipys_distances(make):
    data, other = make(boxes=300), make(1, boxes=200, classes=5)
    found = diagnose(data, against=other, bootstrap=0)
    first, second = Columns(data), Columns(other)
    for key, values in {
        "shift_size": [np.sqrt(side.relative.prod(1)) for side in (first, second)],
        "shift_x": [side.centre[:, 0] for side in (first, second)],
        "shift_y": [side.centre[:, 1] for side in (first, second)],
    }.items():
        assert found[key].value == pytest.approx(wasserstein_distance(*values), abs=2 / 256)
    shares = [np.bincount(side.kind, minlength=5) / len(side.kind) for side in (first, second)]
    assert found["shift_classes"].value == pytest.approx(np.abs(shares[0] - shares[1]).sum() / 2)


def test_findings_stand_in_the_order_of_the_taxonomy(make):
    found = diagnose(make(), against=make(1), bootstrap=0).findings
    place = [list(Imbalance).index(f.imbalance) for f in found]
    assert place == sorted(place)
    first = {f.imbalance: f for f in reversed(found)}
    assert all(f.headline for f in first.values())


def test_a_dataset_does_not_differ_from_itself_and_strangers_do(make):
    data = make()
    found = diagnose(data, against=data, bootstrap=10)
    assert all(f.value == 0 for f in found.findings if f.key.startswith("shift_"))
    other = replace(data, classes=tuple("wxyz"), boxes=np.tile([0.0, 0, 1, 99], (len(data.boxes), 1)))
    found = diagnose(data, against=other, bootstrap=10)
    assert found["shift_classes"].value == pytest.approx(1)
    assert found["shift_classes"].severity == Severity.EXTREME
    assert found["shift_aspect"].severity >= Severity.STRONG


def test_targets_replace_what_counts_as_balanced(make):
    data = make()
    counts = {name: int(n) for name, n in zip(data.classes, data.counts)}
    found = diagnose(data, targets={"classes": counts, "foreground": 3.0}, bootstrap=0)
    usual = diagnose(data, bootstrap=0)
    assert found["classes"].value == pytest.approx(0, abs=1e-9)
    assert found["foreground"].value < usual["foreground"].value
    assert found.settings["targets"] == ["classes", "foreground"]


@pytest.mark.parametrize(
    "options",
    [
        {"targets": {"nonsense": 1}},
        {"targets": {"foreground": 0}},
        {"targets": {"size_bins": [1, 2]}},
        {"targets": {"centres": np.zeros((8, 8))}},
        {"targets": {"object_size": [1.5]}},
        {"targets": {"level_positives": [1, 2]}},
        {"thresholds": {"nonsense": (0, 0, 0)}},
        {"thresholds": {"classes": (0.5, 0.2, 0.9)}},
        {"thresholds": {"classes": (0.5,)}},
        {"thresholds": {"classes": "abc"}},
        {"anchors": "yolov9"},
        {"bootstrap": -1},
    ],
)
def test_options_that_make_no_sense_are_refused(make, options):
    with pytest.raises(ValueError, match="expected"):
        diagnose(make(), **options)


def test_anchors_by_name_and_by_preset(make):
    data = make()
    assert (
        diagnose(data, anchors="yolov3", bootstrap=0).to_json() == diagnose(data, anchors=YOLOV3, bootstrap=0).to_json()
    )
    assert diagnose(data, bootstrap=0).settings["anchors"] == RETINANET.name
    with pytest.raises(KeyError, match="classes"):
        diagnose(data, bootstrap=0)["nonsense"]


def test_severities():
    assert [judge("classes", v) for v in (None, 0.0, 0.2, 0.5, 0.65, 1.0)] == [None, 0, 1, 2, 3, 3]
    assert judge("unknown", 0.5) is None
    assert merged({"classes": (0, 0.1, 1)})["classes"] == (0, 0.1, 1)
    assert merged(None) == THRESHOLDS
    assert all(0 < mild < strong < extreme < 1 for mild, strong, extreme in THRESHOLDS.values())


USE = """
import sys, time
start = time.perf_counter()
import detbalance
detbalance.diagnose(sys.argv[1]).to_json()
heavy = [m for m in ("torch", "torchvision", "plotly", "hotcoco", "scipy.stats") if m in sys.modules]
print(heavy, time.perf_counter() - start)
"""


def test_a_small_set_needs_no_torch_and_little_time():
    if not (DATA / "bccd").exists():
        pytest.skip("the shared datasets are not here: bccd")
    done = subprocess.run([sys.executable, "-c", USE, str(DATA / "bccd")], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[] ")
    assert float(done.stdout.split()[1]) < 20  # two seconds when the machine does nothing else


def test_public_name():
    assert detbalance.diagnose is diagnose
