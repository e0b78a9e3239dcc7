"""Two processes (gloo) on halves of a batch: counts are averaged over them, and a run of two ends with one model."""

import json

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from detbalance import attach, recipes
from detbalance.adapters.stage import mean_over_ranks
from detbalance.data.synthetic import Dials, make_dataset
from detbalance.detectors import build
from detbalance.runs import Settings, load_model
from detbalance.training import train


def _count(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save(mean_over_ranks(torch.tensor([3.0, 8.0][rank])), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_available(), reason="torch was built without distributed")
def test_counts_are_averaged_over_processes(tmp_path):
    # Forked: a spawned process would have to import this file by a name that it does not have.
    mp.start_processes(_count, (str(tmp_path),), nprocs=2, start_method="fork")
    assert [float(torch.load(tmp_path / f"{rank}.pt")) for rank in (0, 1)] == [5.5, 5.5]


@pytest.mark.skipif(not dist.is_available(), reason="torch was built without distributed")
def test_training_in_two_processes(tmp_path):
    data = make_dataset(tmp_path / "data", images=8, dials=Dials(width=96, height=64, classes=3), splits={"train": 1.0})
    settings = Settings(epochs=1, batch_size=4, image_size=(64, 96))
    assert train(data, tmp_path / "run", recipe="pisa", settings=settings, device="cpu", processes=2) is None
    model, described = load_model(tmp_path / "run")
    assert described["recipe"] == "pisa"
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    history = json.loads((tmp_path / "run" / "history.json").read_text())["history"]
    assert history[-1]["step"] == 2


@pytest.mark.skipif(not dist.is_available(), reason="torch was built without distributed")
def test_processes_do_not_share_the_memory_of_the_model(tmp_path):
    data = make_dataset(tmp_path / "data", images=8, dials=Dials(width=96, height=64, classes=3), splits={"train": 1.0})
    settings = Settings(epochs=1, batch_size=4, image_size=(64, 96))
    train(data, tmp_path / "run", recipe="gradnorm", settings=settings, device="cpu", processes=2, probe=1)
    state = torch.load(tmp_path / "run" / "model.pt", weights_only=True)["model"]
    assert state["objective.updates"] == 2  # one a step, not one a step and process
    assert (tmp_path / "run" / "probes.npz").exists()


IMAGES = [torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(i)) for i in range(4)]
BOXES = torch.tensor([[10.0, 10, 40, 44], [42, 20, 60, 32], [60, 5, 90, 25]])
TARGETS = [{"boxes": BOXES[:n], "labels": torch.arange(1, n + 1)} for n in (3, 0, 1, 2)]


def _losses(rank):
    """Of a whole detector, on half of the batch or (None) all of it."""
    part = slice(None) if rank is None else slice(0, 2) if rank == 0 else slice(2, 4)
    found = {}
    for name in ("baseline", "eqlv2", "quality_focal"):
        torch.manual_seed(0)
        model = attach(build("retinanet", classes=3, image_size=(64, 96)).train(), recipes.get(name, "dense"))
        for module in model.backbone.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()  # its statistics are of a process's own images
        losses = model(IMAGES[part], [dict(target) for target in TARGETS[part]])
        found[name] = {key: value.detach() for key, value in losses.items()}
    return found


def test_losses_of_two_processes_average_to_those_of_one(two_processes):
    first, second = two_processes(_losses)
    for name, losses in _losses(None).items():
        for key, value in losses.items():
            torch.testing.assert_close((first[name][key] + second[name][key]) / 2, value, msg=f"{name}, {key}")
