"""A box head for each group of classes that look alike."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..class_tree import ClassTree, Nodes
from ..common import require
from ..taxonomy import Imbalance
from ..types import RegionParts, RegionStep, Samples

__all__ = ["RegionClassHierarchy"]


@dataclass(frozen=True, kw_only=True)
class RegionClassHierarchy:
    """A box head with its classifier for each group of classes that look alike, fine-tuned from those of the group that
    it is part of: rare classes learn with their likes, and no longer in features that the frequent ones have shaped.

    Ouyang et al., in the region head, where the paper has it; see `heads.ClassHierarchy` for the method, its phases of
    training, and how it differs from the paper. Besides: boxes are regressed from the root's features, shared.
    Each model's logits are taken over its own background's, so that the classes of all leaves make one softmax with a
    common background, in detection and in training (where the classes that are not to learn from an object are left out
    of it); the paper's classifiers know nothing of one another. Into a group a box is let by the softmax of the level
    above. With a class loss of one sigmoid a class all this is as in `heads.ClassHierarchy`.

    Shapes: RegionParts -> RegionParts; from the second phase on the head gives (R, D + L C): the root's features, and
    behind them the logits of each level down to the present one.
    Identity: before its second phase it is the old head; with `reject=0` a phase begins with what the one before
    detects.
    Errors: ValueError for a predictor without linear `cls_score` and `bbox_pred`.

    >>> from detbalance.detectors import build
    >>> from detbalance import Recipe, attach
    >>> model = attach(build("faster_rcnn", classes=5), Recipe(name="mine", region=RegionClassHierarchy()))
    >>> [len(level) for level in model.roi_heads.box_head.hierarchy.nodes]
    [2, 4]
    """

    groups: tuple[int, ...] = (2, 4)
    """how many, level by level, the root left out; no more than classes"""
    reject: float = 0.01
    """score that a group's best class must have in the model above"""

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FOREGROUND_FOREGROUND,)
    paper: ClassVar[str] = (
        "Ouyang, Wang, Zhang, Yang, Factors in Finetuning Deep Model for Object Detection with Long-Tail Distribution, "
        "CVPR 2016, arXiv:1601.05150"
    )

    def __post_init__(self) -> None:
        ascending = len(self.groups) > 0 and list(self.groups) == sorted(set(self.groups))
        require(ascending, "groups", "ascending", self.groups)
        require(0 <= self.reject < 1, "reject", "0 or more and below 1", self.reject)

    def __call__(self, parts: RegionParts) -> RegionParts:
        score, boxes = (getattr(parts.predictor, name, None) for name in ("cls_score", "bbox_pred"))
        if not (isinstance(score, nn.Linear) and isinstance(boxes, nn.Linear)):
            raise ValueError(
                f"{self!r}: expected a box_predictor with linear cls_score and bbox_pred but got {parts.predictor!r}"
            )
        head = deepcopy(parts.head)
        head.hierarchy = _RegionTree(parts.head, score, self, parts.softmax)
        head.register_forward_hook(_with_levels)
        predictor = _TreePredictor(parts.predictor, head.hierarchy)
        head.hierarchy._root = (head, predictor.cls_score)
        return replace(parts, head=head, predictor=predictor)


def _with_levels(head: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
    """A hook: the features, and behind them the logits of each level."""
    return torch.cat((output, *head.hierarchy.levels(inputs, output)), 1)


class _RegionTree(ClassTree):
    """The hierarchy with its models, each a box head and a classifier."""

    def __init__(self, head: nn.Module, score: nn.Linear, settings: RegionClassHierarchy, softmax: bool) -> None:
        super().__init__(score.out_features - 1, score.in_features, settings.groups, settings.reject)
        self.nodes = Nodes(nn.ModuleDict({"head": head, "score": score}), self.counts)
        self.softmax = softmax
        self._root: tuple[nn.Module, ...] = ()  # a tuple: it is no part of this
        self._features: Tensor | None = None

    def enter_phase(self, phase: int, first: bool) -> None:
        """An epoch of a phase of training begins, its first one or another."""
        self.enter(phase, first, self._inherit)

    def levels(self, inputs: tuple, features: Float[Tensor, "R D"]) -> list[Float[Tensor, "R C"]]:
        """The logits of each level down to the present one; in training of the present one alone."""
        level = int(self.level)
        if not level and self.training and torch.is_grad_enabled():
            self._features = features.detach()
        return [self._logits(inputs, features, n) for n in range(level if self.training else 1, level + 1) if n]

    def supervise(self, step: RegionStep) -> dict[str, Tensor]:
        """The root gathers features."""
        features, self._features = self._features, None
        if features is not None:
            rows = step.samples.positive.nonzero().squeeze(1)
            self.add(features[rows], step.samples.labels[rows])
        return {}

    def screen(self, samples: Samples) -> Samples:
        """Hides the objects of other groups from each model."""
        if not int(self.level):
            return samples
        rows = samples.positive.nonzero().squeeze(1)
        own = self.without_foreign(samples.logits[rows], samples.labels[rows])
        return replace(samples, logits=samples.logits.index_put((rows,), own))

    def from_root(self, levels: list[Float[Tensor, "R C"]]) -> Float[Tensor, "R C"]:
        """The logits by which boxes are detected."""
        return self.descend(levels, partial(torch.softmax, dim=-1) if self.softmax else torch.sigmoid)

    def _logits(self, inputs: tuple, like: Tensor, level: int) -> Float[Tensor, "R C"]:
        """Of each class by the model of its node, in a softmax over the background of that model."""
        made = like.new_zeros(len(like), len(self.seen) + 1)
        for number, model in enumerate(self.nodes[level - 1]):
            logits, columns = model["score"](model["head"](*inputs)), self.columns(level, number)
            logits = logits - logits[:, :1] if self.softmax else logits
            made = made.to(logits.dtype).index_copy(1, columns, logits[:, columns])
            if not number:
                made = made.index_copy(1, columns.new_zeros(1), logits[:, :1])
        return made

    def _inherit(self, level: int, parents: list[int]) -> None:
        for model, parent in zip(self.nodes[level - 1], parents):
            if level > 1:
                model.load_state_dict(self.nodes[level - 2][parent].state_dict())
                continue
            head, score = (part.state_dict() for part in self._root)
            model["head"].load_state_dict({name: head[name] for name in model["head"].state_dict()})
            model["score"].load_state_dict(score)


class _TreePredictor(nn.Module):
    """The root's predictor, whose layers keep their names; the nodes' logits go past them."""

    def __init__(self, predictor: nn.Module, tree: _RegionTree) -> None:
        super().__init__()
        for name, child in predictor.named_children():
            self.add_module(name, child)
        self._way = type(predictor).forward
        self._tree = (tree,)

    def forward(self, x: Float[Tensor, "R D2"]) -> tuple[Float[Tensor, "R C"], Tensor]:
        """Logits and regression of each region."""
        width, classes = self.cls_score.in_features, self.cls_score.out_features
        levels = x[:, width:].split(classes, 1) if x.shape[1] > width else ()
        logits, regression = self._way(self, x[:, :width])
        if levels:
            logits = levels[-1] if self.training else self._tree[0].from_root([logits, *levels])
        return logits, regression
