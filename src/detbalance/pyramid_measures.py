"""What the levels of a pyramid are like, for any neck: the three aspects that the review names (section 5.4.1),
abstractness, coarseness and cardinality, and the gradient that reaches each level in training.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from math import nan
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from .adapters.stage import StageLoss
from .probe_sums import SUMS
from .probes import Probe

__all__ = ["Level", "pyramid_levels"]


@dataclass(frozen=True, kw_only=True)
class Level:
    """One level of a pyramid, as it is in training."""

    name: str
    stride: float
    """pixels of the training image that a cell is high"""
    abstractness: float
    """how much of what differs between the objects, seen at this level, is their class: the share of the variance of
    their mean features that the class explains, less what chance would (epsilon squared: 0 is chance, 1 all); nan where
    fewer than two classes, or no class twice, are seen"""
    coarseness: float
    """cells of this level that an object covers, the median of all objects: the fewer, the coarser; nan without any"""
    cardinality: int
    """positives: candidates of this level that were trained to find an object"""
    gradient: float
    """share of this level in the gradient at the outputs of all candidates, positive or not"""
    backbone_gradient: float
    """share of the backbone's map of this name in the gradient of the loss at the neck's inputs; nan if it has none"""


def pyramid_levels(
    model: nn.Module, batches: Iterable[tuple[list[Tensor], list[dict[str, Tensor]]]]
) -> tuple[Level, ...]:
    """Measure each level of a detector's pyramid over some batches, fine to coarse; the model is left as it is.

    Levels of few positives and little gradient starve. In a two-stage detector positives and gradient are those of the
    proposal network, which alone has levels.

    Args:
        model: a detector that `attach` has given a recipe, the baseline's if nothing is to be treated. A copy of it
            is measured, in training mode.
        batches: of images and targets, as in training.

    Raises ValueError for a model without a recipe, without a pyramid, or for no batch.
    """
    seen = _Seen(copy.deepcopy(model).train())
    for images, targets in batches:
        seen.look([*images], [dict(t) for t in targets])
    if not seen.names:
        raise ValueError("expected at least one batch to measure the pyramid on, but got none")
    outputs, inputs = _shares(seen.gradient), dict(zip(seen.below, _shares(list(seen.below.values()))))
    areas, labels = torch.cat(seen.sides).prod(1), torch.cat(seen.labels)
    cells = [height * width for height, width in seen.strides]
    return tuple(
        Level(
            name=name,
            stride=seen.strides[i][0],
            abstractness=_explained(torch.cat(seen.features[i]), labels),
            coarseness=float((areas / cells[i]).median()) if len(areas) else nan,
            cardinality=int(seen.positives[i]),
            gradient=outputs[i],
            backbone_gradient=inputs.get(name, nan),
        )
        for i, name in enumerate(seen.names)
    )


class _Seen:
    """What hooks and a probe gather from the training passes of a model."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.probe = model, Probe(model, every=1)
        backbone = getattr(model, "backbone", None)
        if not hasattr(backbone, "body") or not hasattr(backbone, "fpn"):
            raise ValueError("expected a detector whose backbone has a neck (`backbone.fpn`) upon a `body`")
        stages = [module for module in model.modules() if isinstance(module, StageLoss)]
        self.stage = next((s for s in stages if "objectness" in s.names[0]), stages[0])
        self.stage.observers.append(self._count)
        model.transform.register_forward_hook(self._keep("prepared"))
        backbone.body.register_forward_hook(self._keep("inputs"))
        backbone.register_forward_hook(self._keep("maps"))
        self.kept: dict[str, Any] = {}
        self.names: list[str] = []
        self.sides: list[Tensor] = []
        self.labels: list[Tensor] = []

    def _keep(self, name: str) -> Any:
        return lambda module, inputs, output: self.kept.__setitem__(name, output)

    def _count(self, stage: StageLoss, samples: Any, losses: Any, rows: Any) -> None:
        self.now = torch.bincount(samples.level[samples.positive], minlength=len(self.kept["maps"]))

    def look(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> None:
        """One pass forward and back."""
        losses = self.model(images, targets)
        maps, inputs = self.kept["maps"], self.kept["inputs"]
        if not self.names:
            self.names = [str(name) for name in maps]
            self.features: list[list[Tensor]] = [[] for _ in maps]
            self.positives, self.gradient = [0.0] * len(maps), [0.0] * len(maps)
            self.below = {str(name): 0.0 for name in inputs}
        gradients = torch.autograd.grad(sum(losses.values()), list(inputs.values()), allow_unused=True)
        for name, g in zip(self.below, gradients):
            self.below[name] += 0.0 if g is None else float(g.norm())
        where = "probe.proposals.level" if "objectness" in self.stage.names[0] else "probe.head.level"
        record = self.probe.records.pop()
        table = record[where][SUMS.index("class_gradient")] + record[where][SUMS.index("box_gradient")]
        for i in range(len(maps)):
            self.gradient[i] += float(table[i])
            self.positives[i] += float(self.now[i])
        self._objects(*self.kept["prepared"], list(maps.values()))

    @torch.no_grad()
    def _objects(self, prepared: Any, targets: list[dict[str, Tensor]], maps: list[Tensor]) -> None:
        """The mean of each map in each object."""
        boxes = [t["boxes"].float() for t in targets]
        self.sides.append(torch.cat([b[:, 2:] - b[:, :2] for b in boxes]))
        self.labels.append(torch.cat([t["labels"] for t in targets]))
        height, width = prepared.tensors.shape[-2:]
        self.strides = [(height / m.shape[-2], width / m.shape[-1]) for m in maps]
        for features, m in zip(self.features, maps):
            scale = torch.tensor([m.shape[-1] / width, m.shape[-2] / height] * 2, device=m.device)
            scaled = [b * scale for b in boxes]
            features.append(roi_align(m.float(), scaled, 1, sampling_ratio=4, aligned=True).flatten(1))


def _shares(values: list[float]) -> list[float]:
    total = sum(values)
    return [value / total if total else nan for value in values]


def _explained(features: Tensor, labels: Tensor) -> float:
    """Epsilon squared: (between - (K - 1) within / (N - K)) / total, sums of squares over all channels."""
    _, group = labels.unique(return_inverse=True)
    count = torch.bincount(group)
    objects, classes = len(labels), len(count)
    if classes < 2 or objects <= classes:
        return nan
    features = features.double()
    means = features.new_zeros(classes, features.shape[1]).index_add_(0, group, features) / count[:, None]
    total = float((features - features.mean(0)).square().sum())
    within = float((features - means[group]).square().sum())
    if not total:
        return nan
    return (total - within - (classes - 1) * within / (objects - classes)) / total
