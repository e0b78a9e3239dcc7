"""Synthesis in a detector: in training the batch passes it first, and it may ask the detector what it makes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .stage import StageLoss

__all__ = ["attach_synthesis"]

_LOSSES = "_losses_of_synthesis"


def attach_synthesis(model: nn.Module, synthesis: Callable) -> None:
    """Let it make the images and targets of training from now on, and its losses join the model's."""
    if isinstance(synthesis, nn.Module):
        model.synthesis = synthesis  # its parameters go into the optimizer, its state into the checkpoint
    model.register_forward_pre_hook(partial(_compose, synthesis), with_kwargs=True)
    model.register_forward_hook(_join)


def _compose(synthesis: Callable, model: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
    given = {**dict(zip(("images", "targets"), args)), **kwargs}
    if not model.training or not torch.is_grad_enabled() or given.get("targets") is None:
        return None
    *batch, losses = synthesis(given["images"], given["targets"], partial(_detect, model))
    model.__dict__[_LOSSES] = losses
    return tuple(batch), {}


def _join(model: nn.Module, inputs: tuple, output: Any) -> Any:
    losses = model.__dict__.pop(_LOSSES, None)
    return output if losses is None else {**output, **losses}


def _detect(model: nn.Module, images: list[Tensor], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The detector's losses, with gradient in the images alone; nothing that it counts or remembers moves."""
    still = {f"model.{name}": p.detach() for name, p in model.named_parameters()}
    kept = {f"model.{name}": b.detach().clone() for name, b in model.named_buffers()}
    with _unobserved(model):
        return torch.func.functional_call(_Bare(model), {**still, **kept}, (images, targets))


class _Bare(nn.Module):
    """The model without what hangs on its call: synthesis itself, the objective, probes."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        return self.model.forward(images, targets)


@contextmanager
def _unobserved(model: nn.Module) -> Iterator[None]:
    """Whoever watches the losses sees those of training alone."""
    watched = [(stage, stage.observers) for stage in model.modules() if isinstance(stage, StageLoss)]
    try:
        for stage, _ in watched:
            stage.observers = []
        yield
    finally:
        for stage, observers in watched:
            stage.observers = observers
