"""Probes: what drives a training. They look at every n-th step, change nothing, and leave a file for the diagnosis.

In a loop of one's own:

    probe = Probe(model)                  # before the loop; the model has a recipe attached (the baseline will do)
    ...
    probe.save("probes.npz")              # after it; then `diagnose(data, log="probes.npz")`
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from . import probe_sums as sums
from .adapters.stage import StageLoss
from .atomic import write

__all__ = ["SCHEMA", "Probe"]

SCHEMA = "detbalance.probes/1"
"""name of the file's form; the number rises when a column changes its meaning or goes"""
_KEPT = ("iou_before", "iou_after", "box_error", "box_gradient", "probe.positive_step")
_NO_TASK = "regularisation"


class Probe:
    """Measures what drives the training of a detector, every `every`-th step, in at most one more pass back through its
    heads: the shares of loss and gradient, what regression does to the positives, and the tasks' gradients.

    The gradient of a candidate is the norm of what all losses, weighted as they train, send to its own logits or box
    code; that of a task is its norm at the maps that the backbone hands to the heads. Nothing is drawn at random and no
    gradient is left behind: the training goes on bit for bit as without. Over several processes each sees its own.

    Args:
        model: a detector that `attach` has given a recipe, the baseline's if nothing is to be treated.
        every: steps from one record to the next, the first step included.
        classes: names of the classes, for the report.
        board: a TensorBoard SummaryWriter, if the figures are wanted there, too.

    Raises ValueError for a model without a recipe, or `every` below 1.
    """

    def __init__(self, model: nn.Module, *, every: int = 50, classes: Sequence[str] = (), board: Any = None) -> None:
        stages = [module for module in model.modules() if isinstance(module, StageLoss)]
        if not stages:
            raise ValueError("expected a model with a recipe: attach(model, recipes.baseline(kind)) does nothing else")
        if every < 1:
            raise ValueError(f"expected every of at least 1 but got {every}")
        self.every, self.classes, self.board, self.steps = every, tuple(classes), board, 0
        self.records: list[dict[str, np.ndarray]] = []
        self._on = False
        self._seen: list[tuple] = []
        self._features: list[Tensor] = []
        self._sizes: list[tuple[int, int]] = []
        self._last = stages[-1]
        for stage in stages:
            stage.observers.append(self._observe)
        self._stages = stages
        self._hooks = [
            model.register_forward_pre_hook(self._before),
            model.transform.register_forward_hook(self._see_sizes),
            model.backbone.register_forward_hook(self._see_features),
            model.register_forward_hook(self._after),  # after the objective's
        ]

    def close(self) -> None:
        """Take the probe out of the model."""
        for hook in self._hooks:
            hook.remove()
        for stage in self._stages:
            if self._observe in stage.observers:
                stage.observers.remove(self._observe)

    def save(self, path: str | Path) -> Path:
        """Write the records whole or not at all."""
        return write(path, lambda file: np.savez_compressed(file, **self.columns()))

    def columns(self) -> dict[str, np.ndarray]:
        """The records as columns; see docs/diagnosis.md."""
        names = self.records[0] if self.records else {}
        join = {name: np.concatenate if name in _KEPT else np.stack for name in names}
        columns = {name: join[name]([record[name] for record in self.records]) for name in names}
        return {"probe.schema": np.array(SCHEMA), "probe.classes": np.array(self.classes, dtype="U"), **columns}

    def restore(self, path: str | Path, steps: int) -> None:
        """Go on from a file of an interrupted training that had made so many steps; records after them are dropped."""
        self.steps = steps
        if not Path(path).exists():
            return
        with np.load(path, allow_pickle=False) as file:
            columns = {name: file[name] for name in file.files if name not in ("probe.schema", "probe.classes")}
        for row, step in enumerate(columns.get("probe.step", ())):
            if step < steps:
                own = columns["probe.positive_step"] == step
                self.records.append({k: v[own] if k in _KEPT else v[row] for k, v in columns.items()})

    def _before(self, model: nn.Module, inputs: tuple) -> None:
        self._on = model.training and torch.is_grad_enabled() and self.steps % self.every == 0
        self._seen.clear()

    def _see_sizes(self, transform: nn.Module, inputs: tuple, output: Any) -> None:
        if self._on:
            self._sizes = [tuple(size) for size in output[0].image_sizes]

    def _see_features(self, backbone: nn.Module, inputs: tuple, output: Any) -> None:
        if self._on and torch.is_grad_enabled():  # a method's look without gradient is no step
            maps = [output] if isinstance(output, Tensor) else output.values()
            self._features = [m for m in maps if m.requires_grad]

    def _observe(self, *seen: Any) -> None:
        if self._on:
            self._seen.append(seen)

    def _after(self, model: nn.Module, inputs: tuple, output: Any) -> None:
        if not (model.training and torch.is_grad_enabled()):
            return
        if self._on:
            tasks = {name: loss for name, loss in output.items() if name != _NO_TASK}
            with torch.autocast(next(iter(tasks.values())).device.type, enabled=False):
                record = self._measure(tasks)
            numbers = [values for values in record.values() if values.dtype.kind != "U"]
            if all(np.isfinite(values).all() for values in numbers):  # a step that overflowed tells nothing
                self.records.append(record)
                self._show(record)
        self._on, self._features = False, []
        self._seen.clear()
        self.steps += 1

    def _measure(self, tasks: dict[str, Tensor]) -> dict[str, np.ndarray]:
        norms, cosine = sums.task_gradients(tasks, self._features)
        names = [name.removeprefix("loss_") for name in tasks]
        record: dict[str, Any] = {"probe.step": np.array(self.steps), "probe.tasks": np.array(names)}
        record["probe.cosine"] = cosine.astype(np.float32)
        for name, loss, norm in zip(names, tasks.values(), norms):
            record[f"loss_{name}"], record[f"gradient_{name}"] = np.array(loss.item()), np.array(norm)
        for number, seen in enumerate(self._seen):
            record |= self._head(number, tasks, *seen)
        return record

    def _head(self, number: int, tasks: dict[str, Tensor], stage: StageLoss, samples, losses, rows) -> dict[str, Any]:
        """The records of one head; `number` tells the heads of a cascade apart."""
        own = [losses.get(name) for name in stage.names]
        wanted = [samples.logits, samples.deltas, *own]
        known = [w for w in wanted if w is not None and w.requires_grad]
        found = iter(torch.autograd.grad(sum(tasks.values()), known, retain_graph=True, allow_unused=True))
        *gradients, first, second = [next(found) if w is not None and w.requires_grad else None for w in wanted]
        factors = [1.0 if f is None else f for f in (first, second)]  # what the objective made of the losses
        values = sums.row_sums(stage.names, samples, rows, gradients, factors)
        name = "proposals" if "objectness" in stage.names[0] else f"head{number}" if self._is_cascade() else "head"
        record = {f"probe.{name}.{kind}": table for kind, table in sums.groups(samples, values).items()}
        record[f"probe.{name}.places"] = sums.places(samples, values, self._sizes)
        record = {k: v.float().cpu().numpy() for k, v in record.items()}
        return record | (self._boxes(samples, gradients[1]) if stage is self._last else {})

    def _is_cascade(self) -> bool:
        return sum("objectness" not in stage.names[0] for stage in self._stages) > 1

    def _boxes(self, samples, gradient: Tensor | None) -> dict[str, np.ndarray]:
        """What regression does in the last head: the shares over all positives, and some of them one by one."""
        table = {name: column.float().cpu().numpy() for name, column in sums.positives(samples, gradient).items()}
        before, after, number = table["iou_before"], table["iou_after"], len(table["iou_before"])
        outlier = np.abs(table["box_error"]).max(1, initial=0) >= 1
        owned = table["box_gradient"][outlier].sum() / max(table["box_gradient"].sum(), 1e-30)
        shares = {
            "positives": number,
            "degraded": (after < before).sum() / max(number, 1),
            "lost": (after < sums.LOST).sum() / max(number, 1),
            "outliers": outlier.sum() / max(number, 1),
            "outlier_gradient": owned,
        }
        kept = np.linspace(0, number - 1, min(number, sums.KEPT)).astype(np.int64)
        table = {name: column[kept] for name, column in table.items()}
        table["probe.positive_step"] = np.full(len(kept), self.steps)
        return table | {f"probe.{name}": np.array(value, np.float32) for name, value in shares.items()}

    def _show(self, record: dict[str, np.ndarray]) -> None:
        if self.board is None:
            return
        add = partial(self.board.add_scalar, global_step=self.steps)
        for name, value in record.items():
            if name.startswith("gradient_"):
                add(f"probe/{name}", float(value))
        for name in ("degraded", "lost", "outlier_gradient"):
            if f"probe.{name}" in record:
                add(f"probe/{name}", float(record[f"probe.{name}"]))
        for name in (n for n in record if n.endswith(".side")):
            gradient = record[name][4:].sum(0)
            add(f"{name.replace('.', '/')}/foreground share of the gradient", gradient[1] / max(gradient.sum(), 1e-30))
        names, cosine = record["probe.tasks"], record["probe.cosine"]
        for i in range(len(names)):
            for j in range(i):
                add(f"probe/cosine of {names[j]} and {names[i]}", float(cosine[i, j]))
        if len(record.get("iou_after", ())):
            self.board.add_histogram("probe/IoU after regression", record["iou_after"], self.steps)
