"""Training in phases: first everything on all images, then a part of the network, or another choice of images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .class_tree import Nodes
from .recipe import Phase, Recipe

__all__ = ["Phases", "classifiers"]


class Phases:
    """The phases of one training, in whole epochs.

    Args:
        model: the detector as it is at the start, with its recipe attached.
        epochs: of the whole training; it is shared out by `Phase.share`, at least one epoch each.

    Raises ValueError for fewer epochs than phases, and for a detector without the part that a phase trains.

    >>> from detbalance.detectors import build
    >>> from detbalance import Recipe, attach
    >>> model = attach(build("retinanet", classes=2), Recipe(name="a", phases=(Phase(share=3), Phase(share=1))))
    >>> Phases(model, 10).starts
    [0, 7]
    """

    def __init__(self, model: nn.Module, epochs: int) -> None:
        recipe: Recipe = model.recipe
        self.phases = recipe.phases or (Phase(share=1.0),)
        self.starts = _starts([phase.share for phase in self.phases], epochs)
        self.ends = [*self.starts[1:], epochs]
        self.model = model
        for phase in self.phases:
            for part in _nodes(model) if phase.trains == "nodes" else ():
                part.requires_grad_(True)
        self._free = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        self._parts = [_part(model, phase.trains) for phase in self.phases]
        # The weights before the first step are a function of the seed: a resumed run finds them again.
        self._fresh = [
            {name: value.clone() for name, value in _state(part).items()} if phase.restart else {}
            for phase, part in zip(self.phases, self._parts)
        ]

    def at(self, epoch: int) -> int:
        """The number of the phase of an epoch."""
        return max(i for i, start in enumerate(self.starts) if start <= epoch)

    def images(self, phase: int):
        """The choice of images of a phase: its own, else the recipe's."""
        own = self.phases[phase].images
        return self.model.recipe.images if own is None else own

    def position(self, step: int, per_epoch: int) -> tuple[int, int, float]:
        """(step within the phase, steps of the phase, factor of its learning rate)."""
        phase = self.at(step // per_epoch)
        first, last = self.starts[phase] * per_epoch, self.ends[phase] * per_epoch
        return step - first, last - first, self.phases[phase].learning_rate

    def enter(self, epoch: int, optimizer: torch.optim.Optimizer, *, begins: bool) -> None:
        """Make the network what the epoch's phase needs. Where the phase `begins` with it (and is not resumed in the
        midst of it), restart what it restarts."""
        number = self.at(epoch)
        part, first = self._parts[number], self.starts[number] == epoch
        if begins:
            for module in self.model.modules():
                if hasattr(module, "enter_phase"):  # methods that change with the phases
                    module.enter_phase(number, first)
        if begins and number and first:
            optimizer.state.clear()  # moments of another problem
            with torch.no_grad():
                for name, value in _state(part).items():
                    if name in self._fresh[number]:
                        value.copy_(self._fresh[number][name])
        if len(self.phases) > 1:
            self._train_only(part)

    def _train_only(self, part: Sequence[nn.Module]) -> None:
        """Gradients for that part alone. What stands still does not move its batch statistics either."""
        moving = {id(parameter) for module in part for parameter in module.parameters()}
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name in self._free and id(parameter) in moving)
        self.model.train()
        for module in self.model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.train(all(id(parameter) in moving for parameter in module.parameters()))


def classifiers(model: nn.Module) -> list[nn.Module]:
    """The last layers of a detector that tell classes apart.

    Raises ValueError where there are none of their own: YOLOv2 predicts all with one layer.

    >>> from detbalance.detectors import build
    >>> [type(layer).__name__ for layer in classifiers(build("faster_rcnn", classes=2))]
    ['Linear']
    """
    found = []
    for name, module in model.named_modules():
        last = name.rpartition(".")[2]
        if last == "cls_score" or (last == "cls_logits" and not name.startswith("rpn.")):
            found.append(module)
        elif last == "classification_head" and hasattr(module, "module_list"):
            found += list(module.module_list)  # SSD: one layer a map
    if not found:
        raise ValueError(f"{type(model).__name__} has no layer for classes alone that a phase could train")
    return found


def _part(model: nn.Module, trains: str) -> list[nn.Module]:
    """What a phase trains."""
    if trains == "all":
        return [model]
    if trains == "classifier":
        return classifiers(model)
    if trains == "nodes":
        return _nodes(model)
    backbone = getattr(model, "backbone", None)
    if backbone is None:
        raise ValueError(f"{type(model).__name__} has no `backbone` that a phase could leave as it is")
    return [child for child in model.children() if child is not backbone]


def _nodes(model: nn.Module) -> list[nn.Module]:
    """The models of the nodes of a hierarchy of classes."""
    found = [module for module in model.modules() if isinstance(module, Nodes)]
    if not found:
        raise ValueError(f"{type(model).__name__} has no nodes that a phase could train; heads.ClassHierarchy has")
    return found


def _state(part: Sequence[nn.Module]) -> dict[str, Tensor]:
    return {f"{i}.{name}": value for i, module in enumerate(part) for name, value in module.named_parameters()}


def _starts(shares: Sequence[float], epochs: int) -> list[int]:
    """The first epoch of each phase: the shares rounded, no phase without an epoch."""
    if epochs < len(shares):
        raise ValueError(f"a recipe of {len(shares)} phases needs as many epochs, and not {epochs}")
    starts, whole, done = [], sum(shares), 0.0
    for i, share in enumerate(shares):
        least = starts[-1] + 1 if starts else 0
        starts.append(min(max(least, int(epochs * done / whole)), epochs - len(shares) + i))
        done += share
    return starts
