"""The one plain training loop: a detector, a recipe, a dataset, a run folder. It reads from top to bottom.

On the CPU the same seed gives the same weights bit for bit, and a run that was killed and resumed ends where the
uninterrupted one does: data order, augmentation and learning rate are functions of (seed, epoch, step), and the rest of
the state (weights, optimizer, random generator) is in the checkpoint.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from torch import Tensor, nn
from torch.utils.data import DataLoader

from .atomic import write, write_json
from .data.annotations import Annotations
from .data.images import DetectionImages, collate, flips
from .feedback import Watch
from .image_sampling import ImageOrder
from .phases import Phases
from .priors import set_from_data
from .probes import Probe
from .proposals import weak_proposals
from .recipe import Recipe
from .runs import Settings, build_model, claim, describe, epochs_of, precision_of

__all__ = ["learning_rate", "on_gpu", "place_of", "train"]

PROBES = "probes.npz"


def train(
    data: Annotations,
    folder: Path | str,
    *,
    recipe: Recipe | str = "baseline",
    settings: Settings | None = None,
    device: str = "auto",
    precision: str = "auto",
    processes: int = 1,
    workers: int = 0,
    checkpoint_seconds: float = 60.0,
    resume: bool = True,
    progress: Callable[[int, int, dict[str, float]], None] | None = None,
    images: DetectionImages | None = None,
    probe: int = 0,
) -> nn.Module | None:
    """Train one detector and leave its run folder complete: settings.json, checkpoint.pt, model.pt, history.json.

    Args:
        data: the training images.
        folder: the run's folder; made if absent. A run that stands there unfinished goes on (unless resume=False).
        recipe: a Recipe, or the name of one; `name@16` trains for 16 epochs in place of the settings'.
        settings: see Settings.
        device, processes: as Lightning Fabric's accelerator and devices.
        precision: as Lightning Fabric's; "auto" is bf16-mixed where the processor or GPU computes in bfloat16, which
            takes about two thirds of the time, and 32-true elsewhere. Losses, boxes and weights are float32 in both.
            A run that goes on keeps the precision that it began in.
        workers: processes that load images.
        checkpoint_seconds: time between checkpoints within an epoch, in a run of one process; after every epoch one is
            written in any case.
        progress: called after each step with (step, steps, losses); in a run of several processes the first of them
            prints a line now and then instead.
        images: a dataset made before from the same data, to share its decoded images between runs.
        probe: write what drives the training to probes.npz, from every so many steps (see probes.py); 0 is never. The
            training itself stays the same.

    Returns:
        The trained model, on the CPU (None when several processes were started: read model.pt).

    Raises:
        DataError: for an image that cannot be read; before anything is written.
        ValueError: for a folder that holds a run of other settings.
    """
    settings = settings or Settings()
    if isinstance(recipe, str):
        settings = replace(settings, epochs=epochs_of(recipe, settings.epochs))
    folder = Path(folder)
    if not len(data):
        raise ValueError(f"{data.source or 'the dataset'} has no training images")
    if images is None:
        images = DetectionImages(data, image_size=settings.image_size, transforms=flips(), seed=settings.seed)
        images.check()
    images.seed = settings.seed
    model = build_model(settings, data.classes, recipe, data)
    set_from_data(model, data)
    images.treat(model.recipe.augment)
    phases = Phases(model, settings.epochs)
    if precision == "auto":
        precision = (precision_of(folder) if resume else None) or _best_precision(device)
    described = {**describe(data, model.recipe, settings), "precision": precision}
    claim(folder, described, resume)
    if model.recipe.views is not None:
        proposals = None
        if getattr(model.recipe.views, "needs_proposals", False):
            how = {"device": device, "precision": precision, "workers": workers, "resume": resume, "progress": progress}
            proposals = weak_proposals(data, folder / "proposals", model.recipe.views, settings, **how)
        images.views = model.recipe.views.fit(data, settings.image_size, proposals)
    fabric = Fabric(
        accelerator=device,
        devices=processes,
        **_precision(precision, device),
        strategy=_strategy(processes, model.recipe),
    )
    if processes > 1:
        progress = _print_progress  # another process cannot call back into this one
    run = _Run(model, phases, data, images, folder, settings, workers, checkpoint_seconds, progress, described, probe)
    return fabric.launch(run) if processes > 1 else run(fabric)


class _Run:
    """The loop of one run; a class so that it can be sent to other processes."""

    def __init__(
        self, model, phases, data, images, folder, settings, workers, checkpoint_seconds, progress, described, probe
    ) -> None:
        self.model, self.phases, self.data, self.images, self.folder = model, phases, data, images, folder
        self.settings, self.workers, self.progress = settings, workers, progress
        self.checkpoint_seconds, self.described = checkpoint_seconds, described
        self.every, self.probe = probe, None

    def __call__(self, fabric: Fabric) -> nn.Module | None:
        settings, world = self.settings, fabric.world_size
        if world > 1:
            _unshare(self.model)
        model = self.model.to(memory_format=torch.channels_last)
        phases = self.phases
        optimizer = _optimizer(model, settings, fused=self.described["precision"] != "16-mixed")
        model, optimizer = fabric.setup(model, optimizer)
        bare = model.module
        per_epoch = math.ceil(len(self.data) / settings.batch_size)
        for module in model.modules():
            if hasattr(module, "set_epoch_length"):  # methods that do something once an epoch
                module.set_epoch_length(per_epoch)
        steps = per_epoch * settings.epochs
        torch.manual_seed(settings.seed + 7919 * fabric.global_rank)
        watch = Watch(bare, self.images, fabric, settings.epochs)
        orders = [
            ImageOrder(self.data, sampling, seed=settings.seed, batch_size=settings.batch_size)
            for sampling in self._samplings()
        ]
        state = self._restore(fabric, bare, optimizer, watch)
        step, history, seconds = state["step"], state["history"], state["seconds"]
        board = _board(self.folder, step) if fabric.global_rank == 0 else None
        if self.every and fabric.global_rank == 0:
            self.probe = Probe(bare, every=self.every, classes=self.data.classes, board=board)
            self.probe.restore(self.folder / PROBES, step)
        started = saved = time.monotonic()
        model.train()
        while step < steps:
            epoch, skip = divmod(step, per_epoch)
            if not skip:
                watch.begin(epoch)
            phases.enter(epoch, optimizer, begins=not skip)
            rows = orders[phases.at(epoch)].rows(epoch, watch.known())
            self.images.hear(watch.known())
            for images, targets in self._batches(fabric, rows, epoch, skip, world):
                watch.batch(targets)
                place, length, factor = phases.position(step, per_epoch)
                rate = learning_rate(place, length, settings) * factor * (bare.recipe.learning_rate or 1.0)
                for group in optimizer.param_groups:
                    group["lr"] = rate * group.get("factor", 1.0)
                losses = model(images, targets)
                total = sum(losses.values())
                optimizer.zero_grad()
                fabric.backward(total)
                norm = None
                if settings.clip:
                    norm = fabric.clip_gradients(model, optimizer, max_norm=settings.clip, error_if_nonfinite=False)
                optimizer.step()
                step += 1
                if step % 10 == 0 or step == steps:
                    values = {"total": float(total.detach()), **{k: float(v.detach()) for k, v in losses.items()}}
                    if not math.isfinite(values["total"]):
                        raise FloatingPointError(f"the loss is {values['total']} at step {step} of {steps}: {values}")
                    history.append({"step": step, "lr": rate, "loss": values})
                    if norm is not None:
                        history[-1]["gradient_norm"] = float(norm)
                        # float16's scale is found by trying until nothing overflows; elsewhere an infinite gradient,
                        # clipped, is a training that stands still.
                        if not math.isfinite(norm) and self.described["precision"] != "16-mixed":
                            raise FloatingPointError(
                                f"the gradient's norm is {norm} at step {step} of {steps}, of these losses: {values}"
                            )
                    if board is not None:
                        for name, value in values.items():
                            board.add_scalar(f"loss/{name}", value, step)
                        board.add_scalar("learning rate", rate, step)
                        if norm is not None:
                            board.add_scalar("gradient norm", history[-1]["gradient_norm"], step)
                if self.progress is not None and fabric.global_rank == 0:
                    self.progress(step, steps, history[-1]["loss"] if history else {})
                now = time.monotonic()
                # Processes have clocks of their own: they would not agree when to meet for a checkpoint.
                due = world == 1 and now - saved > self.checkpoint_seconds
                if due or step % per_epoch == 0:
                    self._save(fabric, bare, optimizer, step, history, seconds + now - started, watch)
                    saved = now
        seconds += time.monotonic() - started
        if fabric.global_rank == 0:
            board.close()
            if self.probe is not None:
                self.probe.close()
            state = {"model": bare.state_dict(), "classes": list(self.data.classes)}
            write(self.folder / "model.pt", partial(torch.save, state))
            write_json(self.folder / "history.json", {"seconds": seconds, "history": history})
        bare = bare.to("cpu").eval()
        return bare if world == 1 else None

    def _samplings(self) -> list[Callable | None]:
        """The choice of images of each phase; without one, windows may say how often their images come."""
        views = self.images.views if hasattr(self.images.views, "epoch") else None
        chosen = [self.phases.images(i) for i in range(len(self.phases.phases))]
        return [views if sampling is None else sampling for sampling in chosen]

    def _batches(
        self, fabric: Fabric, rows: np.ndarray, epoch: int, skip: int, world: int
    ) -> Iterator[tuple[list, list]]:
        """The batches of an epoch from number `skip` on; each process takes every world-th image of each batch."""
        settings, turns = self.settings, _turns(rows)
        batches = [
            turns[first : first + settings.batch_size][fabric.global_rank :: world]
            for first in range(0, len(rows), settings.batch_size)
        ][skip:]
        self.images.epoch = epoch
        loader = DataLoader(
            self.images,
            batch_sampler=[b for b in batches if b],
            collate_fn=collate,
            num_workers=self.workers,
            # A loader draws a seed for its workers: not from the global generator, or a resumed run would draw twice.
            generator=torch.Generator().manual_seed(settings.seed),
        )
        for images, targets in loader:
            device = fabric.device
            yield (
                [image.to(device, non_blocking=True).float().div_(255) for image in images],
                [{k: v.to(device, non_blocking=True) for k, v in target.items()} for target in targets],
            )

    def _restore(self, fabric: Fabric, model: nn.Module, optimizer, watch: Watch) -> dict[str, Any]:
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return {"step": 0, "history": [], "seconds": 0.0}
        state = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        watch.restore(state.get("feedback", {}))
        random = state["random"][fabric.global_rank]
        torch.set_rng_state(random["cpu"])
        if "cuda" in random and fabric.device.type == "cuda":
            torch.cuda.set_rng_state(random["cuda"])
        return state

    def _save(
        self, fabric: Fabric, model: nn.Module, optimizer, step: int, history: list, seconds: float, watch: Watch
    ) -> None:
        random: dict[str, Tensor] = {"cpu": torch.get_rng_state()}
        if fabric.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state()
        everyone = [random]
        if fabric.world_size > 1:
            everyone = [None] * fabric.world_size
            torch.distributed.all_gather_object(everyone, random)
        feedback = watch.state()
        if fabric.global_rank == 0:
            if self.probe is not None:
                self.probe.save(self.folder / PROBES)
            state = {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "feedback": feedback,
                "random": everyone,
                "step": step,
                "history": history,
                "seconds": seconds,
            }
            write(self.folder / "checkpoint.pt", partial(torch.save, state))


def _turns(rows: np.ndarray) -> list[int | tuple[int, int]]:
    """The items of an epoch: a row when it comes first, then (row, how often it has come).

    >>> _turns(np.array([4, 2, 4, 4]))
    [4, 2, (4, 1), (4, 2)]
    """
    seen: dict[int, int] = {}
    items: list[int | tuple[int, int]] = []
    for row in rows.tolist():
        nth = seen.get(row, 0)
        items.append((row, nth) if nth else row)
        seen[row] = nth + 1
    return items


@torch.no_grad()
def _unshare(model: nn.Module) -> None:
    """Memory of its own for a model that was sent to this process: on the CPU all processes would write to the same."""
    for tensor in chain(model.parameters(), model.buffers()):
        tensor.data = tensor.data.clone()


def _strategy(processes: int, recipe: Recipe) -> str:
    """Fabric's name of how the processes work together; with phases some weights have no gradient for a while."""
    if processes == 1:
        return "auto"
    return "ddp_spawn_find_unused_parameters_true" if recipe.phases else "ddp_spawn"


class _Autocast(MixedPrecision):
    """Mixed precision that leaves the inputs alone: Lightning would round the ground truth's boxes as well."""

    def convert_input(self, data: Any) -> Any:
        return data


def _precision(name: str, device: str) -> dict[str, Any]:
    """Fabric's arguments for a precision."""
    if not name.endswith("-mixed"):
        return {"precision": name}
    return {"plugins": _Autocast(name, place_of(device))}


def _best_precision(device: str) -> str:
    if on_gpu(device):
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    if device == "mps" or (device == "auto" and torch.backends.mps.is_available()):
        return "32-true"
    able = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.6 cannot tell
    return "bf16-mixed" if able.get("avx512_bf16") or able.get("amx_bf16") else "32-true"


def on_gpu(device: str) -> bool:
    """Does a device of that name mean a GPU here?"""
    return device in ("auto", "cuda", "gpu") and torch.cuda.is_available()


def place_of(device: str) -> str:
    """The torch device of that name here, "cuda" or "cpu": where what was trained there is to detect.

    >>> place_of("cpu")
    'cpu'
    """
    return "cuda" if on_gpu(device) else "cpu"


def _print_progress(step: int, steps: int, losses: dict[str, float]) -> None:
    if losses and (step % 50 == 0 or step == steps):
        print(f"step {step} of {steps}, loss {losses['total']:.3f}", flush=True)


def learning_rate(step: int, steps: int, settings: Settings) -> float:
    """Linear warm-up, then half a cosine down to a hundredth of the rate.

    >>> s = Settings(learning_rate=1.0, warmup=0.5)
    >>> [round(learning_rate(i, 4, s), 3) for i in range(4)]
    [0.5, 1.0, 1.0, 0.505]
    """
    warm = max(1, round(settings.warmup * steps))
    if step < warm:
        return settings.learning_rate * (step + 1) / warm
    done = (step - warm) / max(1, steps - warm)
    return settings.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def _optimizer(model: nn.Module, settings: Settings, *, fused: bool) -> torch.optim.Optimizer:
    """Norms and biases are not decayed, and a module's `learning_rate_factor` is heard. A fused step is faster, but
    cannot have its gradients unscaled and clipped."""
    factors = {p: getattr(m, "learning_rate_factor", 1.0) for m in model.modules() for p in m.parameters(recurse=False)}
    groups = []
    for factor in sorted({1.0, *factors.values()}, reverse=True):
        known = [p for p in model.parameters() if p.requires_grad and factors[p] == factor]
        matrices, rest = ([p for p in known if (p.dim() > 1) == wide] for wide in (True, False))
        groups.append({"params": matrices, "weight_decay": settings.weight_decay, "factor": factor})
        groups.append({"params": rest, "weight_decay": 0.0, "factor": factor})
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=fused)
    return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum, nesterov=True)


def _board(folder: Path, step: int):
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"), purge_step=step)
