"""What objectives with a state share: a place for each task, and sizes of losses and gradients over all processes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from ..common import sum_over_ranks, world_size

PLACES = 16
"""most tasks: state is of fixed size, since it must be there before the optimizer and the first losses are"""


class Tasks(nn.Module):
    """A module with a state for each task. Tasks take places as they are first seen; the checkpoint knows them."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def places(self, names: Iterable[str]) -> list[int]:
        """The place of each task. Raises ValueError for more tasks than there are places."""
        for name in names:
            if name not in self.names:
                self.names.append(name)
        if len(self.names) > PLACES:
            raise ValueError(f"expected at most {PLACES} tasks but got {len(self.names)}: {', '.join(self.names)}")
        return [self.names.index(name) for name in names]

    def get_extra_state(self) -> Tensor:
        """The names as text, in a form that a checkpoint of tensors alone can hold."""
        return torch.tensor(list("\n".join(self.names).encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """The names of a checkpoint."""
        self.names = bytes(state.tolist()).decode().split("\n") if len(state) else []


def present_pairs(pairs: Iterable[tuple[str, str]], losses: dict[str, Tensor]) -> list[tuple[str, str]]:
    """The pairs of names whose losses are both there, in each stage of a cascade (whose names end in _2, _3, ...)."""
    ends = ("", *(f"_{stage}" for stage in range(2, len(losses) + 1)))
    found = [(first + end, second + end) for first, second in pairs for end in ends]
    return [pair for pair in found if all(name in losses for name in pair)]


def values_of(losses: dict[str, Tensor]) -> Tensor:
    """(T,) the present losses of all processes, without gradient."""
    return sum_over_ranks(torch.stack([loss.detach().float() for loss in losses.values()])) / world_size()


def weighed(losses: dict[str, Tensor], weights: Tensor | Sequence[Tensor]) -> dict[str, Tensor]:
    """Each loss times its weight."""
    return {name: loss * w.to(loss.dtype) for (name, loss), w in zip(losses.items(), weights)}


def gradient_norms(losses: dict[str, Tensor], parameters: Sequence[Tensor]) -> Tensor:
    """(T,) the norm of each loss's gradient at the shared parameters, of all processes together."""
    norms = []
    for loss in losses.values():
        found: tuple = (None,) * len(parameters)
        if loss.requires_grad:
            found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        filled = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found)]
        gradient = torch.cat([g.flatten().float() for g in filled])
        norms.append((sum_over_ranks(gradient) / world_size()).norm())
    return torch.stack(norms)


def shared_parameters(parameters: Iterable[Tensor]) -> list[Tensor]:
    """Those that train. Raises ValueError if none does."""
    kept = [p for p in parameters if p.requires_grad]
    if not kept:
        raise ValueError("expected shared parameters that train but got none")
    return kept


def learning(losses: dict[str, Tensor]) -> bool:
    """Is this a step that trains?"""
    return torch.is_grad_enabled() and any(loss.requires_grad for loss in losses.values())
