"""A comparison and a diagnosis as they come out of the other parts, made up; the browser test uses them too."""

from __future__ import annotations

import base64
import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageDraw

from detbalance.data.annotations import Annotations, Problem
from detbalance.diagnosis.finding import Finding, Severity, Table
from detbalance.diagnosis.prescribe import Prescription, Remedy, Untreated
from detbalance.report.page import clean
from detbalance.taxonomy import Imbalance

HOSTILE = "<script>alert(1)</script>"
CLASSES = ("RBC", "WBC", "Platelets", HOSTILE)
SEEDS = (0, 1, 2)
RECIPES = {"baseline": 0.0, "libra": 0.021, "pisa": 0.004}
"""recipe -> what it adds to AP"""


def entry(base: float, gain: float, noise: np.random.Generator, name: str, **rest) -> dict:
    """A metric over the seeds, with the paired interval."""
    values = (base + gain + noise.normal(0, 0.004, len(SEEDS))).clip(0, 1)
    mean = gain + float(noise.normal(0, 0.001))
    difference = None if name == "baseline" else {"mean": mean, "low": mean - 0.012, "high": mean + 0.011}
    metric = {"mean": values.mean(), "spread": values.std(), "values": values.tolist(), "difference": difference}
    return metric | rest


def fake_recipe(name: str, gain: float) -> dict:
    noise = np.random.default_rng(len(name))
    step = list(range(0, 900, 3))
    runs = []
    for seed in SEEDS:
        loss = 2.2 * np.exp(-np.array(step) / 260) + 0.55 + noise.normal(0, 0.05, len(step))
        curves = {"step": step, "loss": {"total": loss, "classification": loss * 0.6, "bbox_regression": loss * 0.4}}
        curves["lr"] = (0.002 * np.sin(np.linspace(0.05, np.pi, len(step)))).tolist()
        run = {"seed": seed, "folder": f"runs/{name}-{seed}", "status": "done", "seconds": 64.2, "train_seconds": 55.1}
        runs.append(run | {"metrics": {"AP": 0.523 + gain, "AP50": 0.81, "AP75": 0.58}, "curves": curves})
    if name == "pisa":
        error = "RuntimeError: loss became <nan> at step 120\n  of epoch 3"
        runs[2] = {"seed": 2, "folder": "runs/pisa-2", "status": "failed", "error": error, "seconds": 12.0}
    bases = {"AP": 0.523, "AP50": 0.81, "AP75": 0.58, "AP_small": 0.21, "AP_medium": 0.5, "AP_large": 0.64}
    bases |= {"AP_rare": 0.37, "AP_common": 0.52, "AP_frequent": 0.61, "oLRP": 0.55}
    classes = zip(CLASSES, (0.5, 0.69, 0.38, 0.1), (4155, 372, 361, 9), ("frequent", "common", "common", "rare"))
    tide = {"Cls": 0.01, "Loc": 0.08, "Both": 0.004, "Dupe": 0.002, "Bkg": 0.05, "Miss": 0.06, "FP": 0.12, "FN": 0.1}
    edges, thresholds = np.linspace(0, 1, 11), np.linspace(0.05, 0.95, 19)
    return {
        "repr": f"Recipe(name={name!r}, stages=Stage(cls_loss=FocalLoss(gamma=2.0, alpha=0.25)))",
        "runs": runs,
        "metrics": {k: entry(v, gain, noise, name) for k, v in bases.items()},
        "by_class": {c: entry(b, 2 * gain, noise, name, train_boxes=n, group=g) for c, b, n, g in classes},
        "by_size": {s: entry(b, gain, noise, name) for s, b in (("small", 0.21), ("medium", 0.5), ("large", 0.64))},
        "tide": {k: entry(v, -gain / 3, noise, name) for k, v in tide.items()},
        "score_by_iou": {
            "iou": edges.tolist(),
            "score": (0.1 + 0.7 * edges[1:] ** 2 + gain).tolist(),
            "count": [50] * 10,
        },
        "false_positives": {"threshold": thresholds, "per_image": 30 * np.exp(-6 * thresholds) * (1 - 4 * gain)},
    }


def picture(width: int = 320, height: int = 240, seed: int = 0) -> tuple[Image.Image, list[list[float]]]:
    """A picture of discs, and their boxes."""
    draw = np.random.default_rng(seed)
    image = Image.new("RGB", (width, height), (236, 225, 214))
    pen, boxes = ImageDraw.Draw(image), []
    for _ in range(9):
        x, y, r = draw.uniform(0, width - 60), draw.uniform(0, height - 60), draw.uniform(15, 55)
        boxes.append([x, y, min(x + r, width), min(y + r, height)])
        pen.ellipse(boxes[-1], fill=tuple(int(v) for v in draw.uniform((150, 60, 80), (220, 120, 190))))
    return image, boxes


def fake_example(seed: int) -> dict:
    image, boxes = picture(seed=seed)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    draw = np.random.default_rng(seed)
    truth = [[*b, CLASSES[i % 3]] for i, b in enumerate(boxes)]

    def detected() -> list:
        hits = [[*(np.array(t[:4]) + draw.normal(0, 3, 4)), t[4], draw.uniform(0.3, 0.99)] for t in truth[:8]]
        return [*hits, [10.0, 10.0, 60.0, 50.0, HOSTILE, 0.62]]

    source = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
    detections = {name: detected() for name in RECIPES}
    sizes = {"width": 320, "height": 240}
    return {"file": f"BloodImage_{seed:05d}.jpg", **sizes, "image": source, "truth": truth, "detections": detections}


def fake_results() -> dict:
    """Three recipes by three seeds on blood cells; one run failed."""
    results = {
        "name": "bccd: baseline, libra, pisa",
        "dataset": {"source": "data/bccd", "form": "voc", "fingerprint": "0123456789abcdef", "classes": list(CLASSES)}
        | {"train": {"images": 292, "boxes": 3906}, "test": {"images": 72, "boxes": 977}},
        "detector": "retinanet",
        "size": "nano",
        "image_size": [192, 256],
        "settings": {"optimizer": "adamw", "learning_rate": 0.002, "weights": None},
        "epochs": 15,
        "seeds": list(SEEDS),
        "baseline": "baseline",
        "versions": {"detbalance": "0.1.0", "torch": "2.15.0", "torchvision": "0.29.2"},
        "created": "2026-01-31 12:00",
        "recipes": {name: fake_recipe(name, gain) for name, gain in RECIPES.items()},
        "examples": [fake_example(seed) for seed in range(6)],
    }
    return clean(results)


def fake_tables() -> dict[Imbalance, tuple[Table, ...]]:
    x = np.linspace(0.05, 0.95, 10).round(2).tolist()
    area = np.geomspace(1e-5, 1, 21).tolist()
    rows = tuple((c, n, m) for c, n, m in zip(CLASSES, (4155, 372, 361, 9), (343, 340, 218, 0)))
    density = tuple((a, b, float(np.exp(-8 * ((a - 0.5) ** 2 + (b - 0.6) ** 2)))) for a in x for b in x)
    pairs = tuple((a, b, 1 + 10 * (i + j) ** 3) for i, a in enumerate(CLASSES) for j, b in enumerate(CLASSES))
    curve = tuple((a, float(np.exp(-((np.log10(a) + 2) ** 2)))) for a in area)
    return {
        Imbalance.FOREGROUND_BACKGROUND: (
            Table(
                "Candidates an image",
                ("kind", "candidates"),
                (("positive", 120), ("ignored", 60), ("negative", 163000)),
                "bar",
                True,
            ),
        ),
        Imbalance.FOREGROUND_FOREGROUND: (
            Table("Boxes and images of each class", ("class", "boxes", "images"), rows, "bar", True, "RBC owns 85 %."),
            Table("Classes in one image", ("class", "with class", "images"), pairs, "heatmap", True),
        ),
        Imbalance.OBJECT_SCALE: (Table("Relative area", ("area / image", "density"), curve, "line"),),
        Imbalance.LOCATION: (Table("Where centres lie", ("x", "y", "density"), density, "heatmap"),),
    }


def fake_diagnosis(root=None, against: bool = False) -> SimpleNamespace:
    """Four problems measured, four not; with image files where a folder is given."""
    values = {
        Imbalance.FOREGROUND_BACKGROUND: (
            0.96,
            Severity.EXTREME,
            "For each positive candidate there are 1,350 of background.",
        ),
        Imbalance.FOREGROUND_FOREGROUND: (0.71, Severity.STRONG, "RBC owns 85 % of the boxes; the rarest class has 9."),
        Imbalance.OBJECT_SCALE: (0.32, Severity.MILD, "Most objects fill 1 to 5 % of the image."),
        Imbalance.LOCATION: (0.05, Severity.NONE, "Objects lie nearly anywhere."),
    }
    findings = []
    for problem in Imbalance:
        if problem not in values:
            needs = "Needs predictions: detbalance evaluate RUN --predictions, then diagnose with --predictions FILE"
            findings.append(Finding(problem, None, None, "", needs=needs, headline=True))
            continue
        value, severity, summary = values[problem]
        tables = fake_tables()[problem]
        head = Finding(problem, value, severity, summary, tables, interval=(value - 0.03, min(1, value + 0.02)))
        measure = f"{problem.value}: 1 - normalised entropy"
        affected = CLASSES[2:] if problem == Imbalance.FOREGROUND_FOREGROUND else ()
        findings.append(
            Finding(**vars(head) | {"headline": True, "measure": measure, "affected": affected}),
        )
        findings.append(Finding(problem, 0.4, None, "Another index of the same.", measure="Gini coefficient"))
    prescription = Prescription(
        (
            Remedy(
                recipe="focal",
                addresses=(Imbalance.FOREGROUND_BACKGROUND,),
                severity=Severity.EXTREME,
                reason="Background owns 99.9 % of the candidates; the focal loss turns the easy ones down.",
                gain="3.2 AP (RetinaNet, COCO)",
                source="Lin et al., arXiv 1708.02002",
                cost="none to speak of",
                detectors="dense",
                built_in=True,
                command="",
            ),
            Remedy(
                recipe="pisa",
                addresses=(Imbalance.FOREGROUND_BACKGROUND, Imbalance.IOU_DISTRIBUTION),
                severity=Severity.EXTREME,
                reason="Negatives are weighed by their rank.",
                gain="1.3 AP (RetinaNet, COCO)",
                source="Cao et al., arXiv 1904.04821",
                cost="ranking the samples at every step",
                detectors="dense",
                built_in=False,
                command="detbalance compare data/bccd --recipes baseline,pisa --seeds 3",
            ),
        ),
        (Untreated(Imbalance.FOREGROUND_FOREGROUND, "classes", Severity.STRONG, "Collect more Platelets."),),
        "detbalance compare data/bccd --recipes baseline,pisa --seeds 3",
    )
    dirt = (
        Problem(
            "zero-size box", "excluded", 3, "A box without area cannot be matched.", (f"a.xml: object 3: {HOSTILE}",)
        ),
        Problem("image without boxes", "noted", 12, "Kept: it shows background."),
    )
    facts = {"source": "data/bccd", "form": "voc", "fingerprint": "0123456789abcdef", "images": 364, "boxes": 4888}
    facts |= {"classes": 4, "boxes_per_image": 13.43, "images_without_boxes": 0, "median_image_size": [640.0, 480.0]}
    other = fake_diagnosis() if against else None
    if other:
        other.dataset["source"] = "data/bccd-test"
    return SimpleNamespace(
        data=fake_data(root),
        findings=tuple(findings),
        dataset=facts,
        problems=dirt,
        prescription=prescription,
        against=other,
    )


def fake_data(root=None, images: int = 6) -> Annotations:
    """Annotations of drawn pictures; the files are written where a folder is given."""
    boxes, rows = [], []
    for i in range(images):
        image, found = picture(seed=i)
        boxes += found
        rows += [i] * len(found)
        if root is not None:
            image.save(root / f"{i}.jpg")
    return Annotations.from_arrays(
        classes=CLASSES,
        sizes=[(320, 240)] * images,
        image=rows,
        label=[1 + (0 if i % 5 else i // 5 % 4) for i in range(len(rows))],
        boxes=boxes,
        file_names=[f"{i}.jpg" for i in range(images)],
        root=root,
    )


@pytest.fixture
def results() -> dict:
    return fake_results()


@pytest.fixture
def diagnosis(tmp_path) -> SimpleNamespace:
    return fake_diagnosis(tmp_path)


@pytest.fixture(name="fake_data")
def fake_data_fixture():
    return fake_data
