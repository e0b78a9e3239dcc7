"""Classes grouped by how alike they look: a tree from all of them down to small groups, and a model for each node.

What `heads.ClassHierarchy` and `region_heads.RegionClassHierarchy` share (Ouyang et al., CVPR 2016).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from .common import require, sum_over_ranks, widen

__all__ = ["REJECTED", "ClassTree", "Nodes", "grouped"]

REJECTED = -1e4
"""logit of a class that is none, whatever else is known"""


def grouped(features: Float[Tensor, "K D"], groups: Sequence[int]) -> Int[Tensor, "L K"]:
    """The group of each class at each level, for so many groups a level; each lies within one of the level above.

    Sim(a, b) = <u_a, u_b>, the inner product of the unit vectors along two classes' features; of all groups the two
    that are most alike, by the mean over their pairs of classes, become one. Groups are numbered by their first class.

    >>> features = torch.tensor([[1.0, 0.1], [0.0, 1.0], [1.0, 0.0], [0.1, 1.0], [-1.0, 0.0]])
    >>> grouped(features, (2, 3)).tolist()  # 1 and 3 alike, 2 and 4, and 5 like none
    [[0, 0, 0, 0, 1], [0, 1, 0, 1, 2]]
    """
    unit = F.normalize(features.double(), dim=1)
    count, alike = len(unit), unit @ unit.T
    alike.fill_diagonal_(-torch.inf)
    group, size, levels = torch.arange(count), torch.ones(count, dtype=torch.float64), {}
    for number in range(count, min([*groups, count]) - 1, -1):
        levels[number] = torch.unique(group, return_inverse=True)[1]  # by first class: a group has its smallest number
        if number > 1:
            first, second = sorted(divmod(int(alike.argmax()), count))
            total = size[first] + size[second]
            row = (size[first] * alike[first] + size[second] * alike[second]) / total
            row[first] = -torch.inf
            alike[first], alike[:, first], size[first] = row, row, total
            alike[second], alike[:, second] = -torch.inf, -torch.inf
            group[group == second] = first
    return torch.stack([levels[min(number, count)] for number in groups])


class Nodes(nn.ModuleList):
    """The models of the nodes, level by level, each a copy of the root's. They do not train until a phase trains them
    (`Phase(trains="nodes")`), and take no part in a training without such phases."""

    def __init__(self, model: nn.Module, counts: Sequence[int]) -> None:
        super().__init__(nn.ModuleList(deepcopy(model) for _ in range(count)) for count in counts)
        self.requires_grad_(False)


class ClassTree(nn.Module):
    """The groups of classes, found from their mean features, and the level down to which there are models by now. All
    of it goes with the checkpoint.

    Args:
        classes: K.
        width: of the features.
        groups: how many, level by level, the root left out.
        reject: a box goes down to a group only where its parent's model gives one of its classes this score.
    """

    group: Int[Tensor, "L K"]
    level: Int[Tensor, ""]
    sums: Float[Tensor, "K D"]
    seen: Float[Tensor, " K"]

    def __init__(self, classes: int, width: int, groups: Sequence[int], reject: float) -> None:
        super().__init__()
        require(bool(groups) and list(groups) == sorted(set(groups)) and groups[0] >= 1, "groups", "ascending", groups)
        require(0 <= reject < 1, "reject", "0 or more and below 1", reject)
        self.counts, self.reject = tuple(min(number, classes) for number in groups), reject
        self.register_buffer("group", torch.zeros(len(groups), classes, dtype=torch.int64))
        self.register_buffer("level", torch.zeros((), dtype=torch.int64))
        self.register_buffer("sums", torch.zeros(classes, width))
        self.register_buffer("seen", torch.zeros(classes))

    @torch.no_grad()
    def add(self, features: Float[Tensor, "P D"], labels: Int[Tensor, " P"]) -> None:
        """Features of objects, of classes 1..K. Every process must call it, with or without objects."""
        with torch.autocast(features.device.type, enabled=False):
            onehot = F.one_hot(labels - 1, len(self.seen)).to(self.sums.dtype)
            both = torch.cat((onehot.T @ features.to(self.sums.dtype), onehot.sum(0)[:, None]), 1)
            both = sum_over_ranks(both)
        self.sums += both[:, :-1]
        self.seen += both[:, -1]

    def enter(self, phase: int, first: bool, inherit: Callable[[int, list[int]], None]) -> None:
        """An epoch of a phase begins, the first one or another. Phase 0 is the root's, phase l that of level l.

        Features are gathered anew in each epoch of the root; at the first epoch of the next phase the groups are found.
        `inherit(level, parents)` starts the models of a level from those of the nodes above.
        """
        if phase == 0:
            self.sums.zero_()
            self.seen.zero_()
        elif first and phase <= len(self.counts):
            if phase == 1:
                means = self.sums / self.seen.clamp(min=1)[:, None]
                self.group.copy_(grouped(means.cpu(), self.counts))
            self.level.fill_(phase)
            inherit(phase, self.parents(phase))

    def parents(self, level: int) -> list[int]:
        """Of each node of a level, the node above; 0 is the root where that is level 0."""
        if level == 1:
            return [0] * self.counts[0]
        mine, above = self.group[level - 1].tolist(), self.group[level - 2].tolist()
        return [above[mine.index(node)] for node in range(self.counts[level - 1])]

    def columns(self, level: int, node: int) -> Int[Tensor, " k"]:
        """The columns of the logits (0 is the background's) of a node's classes."""
        return (self.group[level - 1] == node).nonzero().squeeze(1) + 1

    def without_foreign(self, logits: Float[Tensor, "P C"], labels: Int[Tensor, " P"]) -> Float[Tensor, "P C"]:
        """The logits of objects of classes 1..K, but for those of the models that do not learn from them: of the groups
        in which the object is not."""
        of = self.group[int(self.level) - 1]
        foreign = of[labels - 1][:, None] != of
        return logits.masked_fill(F.pad(foreign, (1, 0)), REJECTED)

    def descend(
        self, levels: Sequence[Float[Tensor, "*N C"]], scores: Callable[[Tensor], Tensor]
    ) -> Float[Tensor, "*N C"]:
        """The logits of the leaves; REJECTED in the classes of a group that its parent's model has not let in.

        `levels` are the logits of the root and of each level; `scores(logits)` the probabilities.
        """
        logits = levels[-1]
        for level, above in enumerate(levels[:-1], 1):
            found = scores(widen(above))
            for node in range(self.counts[level - 1]):
                columns = self.columns(level, node)
                best = found[..., columns].amax(-1, keepdim=True)
                rejected: Bool[Tensor, "*N 1"] = best < self.reject
                logits = logits.masked_fill(_marked(rejected, columns, logits), REJECTED)
        return logits

    def extra_repr(self) -> str:
        """The settings."""
        return f"groups={self.counts}, reject={self.reject}"


def _marked(rows: Tensor, columns: Tensor, like: Tensor) -> Tensor:
    """(N, C) the rows' marks in those columns."""
    mark = torch.zeros(like.shape[-1], dtype=torch.bool, device=like.device)
    mark[columns] = True
    return rows & mark
