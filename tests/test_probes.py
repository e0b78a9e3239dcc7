"""Probes against a computation by brute force, candidate by candidate; and that they change nothing."""

import numpy as np
import pytest
import torch

from detbalance import Recipe, attach, recipes
from detbalance.adapters import kind_of
from detbalance.adapters.stage import StageLoss
from detbalance.detectors import build
from detbalance.objectives import FixedWeights
from detbalance.probe_sums import GRID, SUMS
from detbalance.probes import SCHEMA, Probe

DETECTORS = ("retinanet", "faster_rcnn")
WEIGHTS = {"bbox_regression": 3.0, "loss_box_reg": 3.0, "loss_objectness": 0.5}


def batch(seed=0):
    g = torch.Generator().manual_seed(seed)
    images = [torch.rand(3, 48, 64, generator=g) for _ in range(2)]
    boxes = torch.tensor([[4.0, 4, 30, 28], [30, 10, 60, 44], [10, 20, 24, 30]])
    some = {"boxes": boxes, "labels": torch.tensor([1, 2, 2])}
    none = {"boxes": boxes[:0], "labels": torch.zeros(0, dtype=torch.long)}
    return images, [some, none]


def model_of(detector, recipe=None):
    torch.manual_seed(0)
    model = build(detector, classes=2, image_size=(48, 64)).train()
    return attach(model, recipe or recipes.baseline(kind_of(model)))


def objective():
    return Recipe(name="weighed", objective=FixedWeights(weights=WEIGHTS))


def one_by_one(seen, tasks):
    """(S, 6) the sums of each candidate: its own loss, differentiated with respect to all logits and codes."""
    stage, samples, _, rows = seen
    label, name = samples.labels.tolist(), dict(zip(("class", "box"), stage.names))
    factor = {k: WEIGHTS.get(n, 1.0) for k, n in name.items()}
    (values, weights), (box, box_weights) = rows[name["class"]], rows[name["box"]]
    table, at = torch.zeros(len(label), len(SUMS), dtype=torch.float64), 0
    for i, k in enumerate(label):
        loss = factor["class"] * values[i] * weights[i]
        (gradient,) = torch.autograd.grad(loss, samples.logits, retain_graph=True)
        table[i, 0], table[i, 1], table[i, 2] = 1, factor["class"] * weights[i], loss.detach()
        table[i, 4] = gradient.norm()
        if k:
            loss = factor["box"] * box[at] * box_weights[at]
            (gradient,) = torch.autograd.grad(loss, samples.deltas, retain_graph=True)
            table[i, 3], table[i, 5] = loss.detach(), gradient.norm()
            at += 1
    assert float(table[:, 2].sum()) == pytest.approx(float(tasks[name["class"]].detach()), rel=1e-4)
    assert float(table[:, 3].sum()) == pytest.approx(float(tasks[name["box"]].detach()), rel=1e-4)
    return table


def bins_of(samples, i):
    """The groups of one candidate."""
    label, box = int(samples.labels[i]), samples.truth[i].tolist()
    side = ((box[2] - box[0]) * (box[3] - box[1])) ** 0.5 if label else 0
    x, y = float(samples.boxes[i, ::2].mean()), float(samples.boxes[i, 1::2].mean())
    return {
        "side": int(label > 0),
        "class": label,
        "size": 0 if not label else 1 if side < 32 else 2 if side < 96 else 3,
        "iou": min(int(samples.iou[i] * 10), 9),
        "level": int(samples.level[i]),
    }, (int(label > 0), min(max(int(GRID * y / 48), 0), GRID - 1), min(max(int(GRID * x / 64), 0), GRID - 1))


@pytest.mark.parametrize("detector", DETECTORS)
def test_sums_by_brute_force(detector):
    model, seen = model_of(detector, objective()), []
    for stage in (m for m in model.modules() if isinstance(m, StageLoss)):
        stage.observers.append(lambda *what: seen.append(what))
    probe = Probe(model, every=1)
    tasks = model(*batch())
    (record,) = probe.records
    assert len(seen) == (1 if detector == "retinanet" else 2)
    for what in seen:
        head = "probe.proposals." if "objectness" in what[0].names[0] else "probe.head."
        table, samples = one_by_one(what, tasks).numpy(), what[1]
        expected = {
            name: np.zeros_like(record[head + name], np.float64) for name in ("side", "class", "size", "iou", "level")
        }
        grid = np.zeros((2, 2, GRID, GRID))
        for i, row in enumerate(table):
            kinds, (side, y, x) = bins_of(samples, i)
            for name, place in kinds.items():
                expected[name][:, place] += row
            grid[side, :, y, x] += row[:2]
        for name, value in expected.items():
            np.testing.assert_allclose(record[head + name], value, rtol=2e-4, atol=1e-7, err_msg=name)
        np.testing.assert_allclose(record[head + "places"], grid, rtol=2e-4, atol=1e-7)


@pytest.mark.parametrize("detector", DETECTORS)
def test_task_gradients_by_one_pass_each(detector):
    model, maps = model_of(detector, objective()), []
    model.backbone.register_forward_hook(lambda m, x, out: maps.append(list(out.values())))
    probe = Probe(model, every=1)
    torch.manual_seed(3)
    tasks = model(*batch())
    flat = []
    for name in tasks:
        torch.manual_seed(3)  # the same samples in a fresh pass
        again = model(*batch())[name]
        for m in maps[-1]:
            m.retain_grad()
        again.backward()
        flat.append(torch.cat([(torch.zeros_like(m) if m.grad is None else m.grad).flatten() for m in maps[-1]]))
    record = probe.records[0]
    for i, (name, a) in enumerate(zip(tasks, flat)):
        assert record[f"loss_{name.removeprefix('loss_')}"] == pytest.approx(float(tasks[name].detach()), rel=1e-6)
        assert record[f"gradient_{name.removeprefix('loss_')}"] == pytest.approx(float(a.norm()), rel=1e-4)
        for j, b in enumerate(flat):
            cosine = float(a @ b / (a.norm() * b.norm()))
            assert record["probe.cosine"][i, j] == pytest.approx(cosine, abs=1e-4)


@pytest.mark.parametrize("detector", DETECTORS)
def test_positives_before_and_after_regression(detector):
    model, seen = model_of(detector), []
    last = [m for m in model.modules() if isinstance(m, StageLoss)][-1]
    last.observers.append(lambda *what: seen.append(what))
    probe = Probe(model, every=1)
    model(*batch())
    ((record,), samples) = probe.records, seen[0][1]
    rows = [i for i, k in enumerate(samples.labels.tolist()) if k]
    assert len(rows) > 3
    predicted = samples.predicted().detach().tolist()

    def iou(a, b):
        w, h = (max(0.0, min(a[2 + d], b[2 + d]) - max(a[d], b[d])) for d in (0, 1))
        area = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
        return w * h / (sum(area) - w * h)

    truth = samples.truth.tolist()
    before = [iou(samples.boxes[i].tolist(), truth[i]) for i in rows]
    after = [iou(predicted[i], truth[i]) for i in rows]
    np.testing.assert_allclose(record["iou_before"], before, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(record["iou_after"], after, rtol=1e-4, atol=1e-5)
    assert record["probe.positives"] == len(rows)
    assert record["probe.lost"] == pytest.approx(sum(a < 0.5 for a in after) / len(rows))
    assert record["probe.degraded"] == pytest.approx(sum(a < b for a, b in zip(after, before)) / len(rows))
    for error, i in zip(record["box_error"], rows):
        p, t = predicted[i], truth[i]
        wide, high = t[2] - t[0], t[3] - t[1]
        expected = [
            10 * ((p[0] + p[2]) / 2 - (t[0] + t[2]) / 2) / wide,
            10 * ((p[1] + p[3]) / 2 - (t[1] + t[3]) / 2) / high,
            5 * np.log((p[2] - p[0]) / wide),
            5 * np.log((p[3] - p[1]) / high),
        ]
        np.testing.assert_allclose(error, expected, rtol=1e-3, atol=1e-3)
    box, weights = seen[0][3][last.names[1]]
    gradient = [
        float(torch.autograd.grad(box[at] * weights[at], samples.deltas, retain_graph=True)[0].norm())
        for at in range(len(rows))
    ]
    np.testing.assert_allclose(record["box_gradient"], gradient, rtol=1e-4)
    outlier = [max(abs(e) for e in error) >= 1 for error in record["box_error"].tolist()]
    assert 0 < sum(outlier)
    assert record["probe.outliers"] == pytest.approx(sum(outlier) / len(rows))
    owned = sum(g for g, out in zip(gradient, outlier) if out) / sum(gradient)
    assert record["probe.outlier_gradient"] == pytest.approx(owned, rel=1e-4)


@pytest.mark.parametrize("detector", ["retinanet", "fcos", "ssd", "yolov2", "faster_rcnn", "cascade_rcnn"])
def test_the_training_is_the_same_with_and_without(detector):
    found = []
    for probed in (False, True):
        model = model_of(detector)
        probe = Probe(model, every=2) if probed else None
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        torch.manual_seed(1)
        for seed in range(3):
            optimizer.zero_grad()
            sum(model(*batch(seed)).values()).backward()
            optimizer.step()
        found.append(model.state_dict())
    assert all(found[0][k].equal(found[1][k]) for k in found[0])
    assert [int(r["probe.step"]) for r in probe.records] == [0, 2]
    model.eval()(batch()[0])
    assert probe.steps == 3  # only training counts
    probe.close()
    model.train()(*batch())
    assert probe.steps == 3


def test_saved_and_restored(tmp_path):
    model = model_of("retinanet")
    probe = Probe(model, every=1, classes=("cat", "dog"))
    for seed in range(4):
        model(*batch(seed))
    whole = probe.columns()
    probe.save(tmp_path / "probes.npz")
    probe.close()
    again = Probe(model, every=1, classes=("cat", "dog"))
    again.restore(tmp_path / "probes.npz", 2)
    assert [int(r["probe.step"]) for r in again.records] == [0, 1]
    for seed in (2, 3):
        model(*batch(seed))
    mine = again.columns()
    assert mine.keys() == whole.keys()
    assert str(mine["probe.schema"]) == SCHEMA
    for name, column in whole.items():
        assert mine[name].shape == column.shape, name
        assert mine[name].dtype == column.dtype, name
    assert mine["probe.step"].tolist() == [0, 1, 2, 3]
    fresh = Probe(model)
    fresh.restore(tmp_path / "absent.npz", 7)
    assert (fresh.steps, fresh.records) == (7, [])


def test_images_without_objects():
    model = model_of("faster_rcnn")
    probe = Probe(model, every=1)
    images, (_, none) = batch()
    model(images, [none, none])
    (record,) = probe.records
    assert record["probe.head.side"][:, 1].tolist() == [0] * len(SUMS)
    assert len(record["iou_before"]) == record["probe.positives"] == 0
    probe.columns()


def test_refuses():
    with pytest.raises(ValueError, match="a model with a recipe"):
        Probe(build("retinanet", classes=2))
    with pytest.raises(ValueError, match="every"):
        Probe(model_of("retinanet"), every=0)
