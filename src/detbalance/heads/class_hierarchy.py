"""A classifier for each group of classes that look alike."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..class_tree import ClassTree, Nodes
from ..taxonomy import Imbalance
from ._wrapped import WrappedHead, flatten

__all__ = ["ClassHierarchy"]


class ClassHierarchy(WrappedHead):
    """A classification tower for each group of classes that look alike, fine-tuned from the tower of the group that it
    is part of: rare classes learn with their likes, and no longer in features that the frequent ones have shaped.

    Ouyang et al.; review section 4.2.1. Classes are clustered by the inner product of their mean features
    into a hierarchy; a model is trained on all classes, those of the first groups start from it and are fine-tuned each
    on the objects of its own classes and on background, then those of their sub-groups, down to the leaves. In
    detection a box goes from the root to the groups of which a class has a score of at least `reject`, and its leaf
    scores it.

    Phases of training (`Recipe.phases`): the first trains the detector as it is, while the features are gathered; the
    l-th after it trains the models of level l (`trains="nodes"`), all of them together, since each has weights of its
    own; everything else stands still. A phase begins with what the one before detects.

    Differences: a node's model is a whole network in the paper, and the leaves end in a linear SVM for each class; here
    it is the classification tower with its last layer, on a shared backbone and pyramid, with the detector's own class
    loss and shared boxes. Features are the tower's at the places of the positive anchors, in the last epoch of the
    first phase (the paper: the last layer of its pretrained network, at the boxes). All nodes are computed at all
    places, the rejected ones then dropped. From memory of the paper: unit vectors, merging by the mean inner product of
    classes, that objects of other groups are left out, and 1, 4, 7 and 18 groups for 200 classes; its threshold is not
    known.

    Args:
        head: RetinaNet's, or one like it (`classification_head` with `conv` and `cls_logits`, `regression_head`).
        groups: how many, level by level, the root left out; no more than classes.
        reject: score that a group's best class must have in the model above.

    Shapes: as the head's own.

    Checked by: before its second phase it is the old head; with `reject=0` a phase begins with what the one before
    detects.

    >>> from torchvision.models.detection.retinanet import RetinaNetHead
    >>> head = ClassHierarchy(RetinaNetHead(16, 3, 4), groups=(2,))
    >>> _ = head.enter_phase(0, True), head.tree.add(torch.tensor([[1.0] + 15 * [0], 8 * [0, 1.0], [1.0] * 16]),
    ...                                              torch.tensor([1, 2, 3])), head.enter_phase(1, True)
    >>> head.tree.group.tolist()  # classes 2 and 3 look alike
    [[0, 1, 1]]
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FOREGROUND_FOREGROUND,)
    paper: ClassVar[str] = (
        "Ouyang, Wang, Zhang, Yang, Factors in Finetuning Deep Model for Object Detection with Long-Tail Distribution, "
        "CVPR 2016, arXiv:1601.05150"
    )

    def __init__(self, head: nn.Module, *, groups: tuple[int, ...] = (2, 4), reject: float = 0.01) -> None:
        super().__init__(head)
        root = self.classification_head
        self.tree = ClassTree(root.num_classes - 1, root.cls_logits.in_channels, groups, reject)
        self.nodes = Nodes(root, self.tree.counts)

    def enter_phase(self, phase: int, first: bool) -> None:
        """An epoch of a phase of training begins, its first one or another."""
        self.tree.enter(phase, first, self._inherit)

    def forward(self, features: list[Float[Tensor, "B C H W"]]) -> dict[str, Tensor]:
        """The predictions of all levels of the pyramid."""
        boxes, level = self.regression_head(features), int(self.tree.level)
        if not self.training:
            levels = [self.classification_head(features), *(self._logits(features, n) for n in range(1, level + 1))]
            return {"cls_logits": self.tree.descend(levels, torch.sigmoid), "bbox_regression": boxes}
        if level:
            return {"cls_logits": self._logits(features, level), "bbox_regression": boxes}
        root = self.classification_head
        towers = [root.conv(feature) for feature in features]
        logits = torch.cat([flatten(root.cls_logits(tower), root.num_classes) for tower in towers], 1)
        places = torch.cat([tower.detach().flatten(2).mT for tower in towers], 1)
        return {"cls_logits": logits, "bbox_regression": boxes, "places": places}

    def supervise(
        self,
        outputs: dict[str, Tensor],
        matched: Int[Tensor, "B N"],
        labels: Int[Tensor, "B N"],
        norm: Float[Tensor, " B"],
    ) -> tuple[Int[Tensor, "B N"], dict[str, Tensor]]:
        """The root: gathers features. Below: hides the objects of other groups from each model."""
        image, row = (matched >= 0).nonzero(as_tuple=True)
        if "places" in outputs:
            places = outputs["places"]
            self.tree.add(places[image, row // (matched.shape[1] // places.shape[1])], labels[image, row])
        elif int(self.tree.level):
            logits = outputs["cls_logits"]
            own = self.tree.without_foreign(logits[image, row], labels[image, row])
            outputs["cls_logits"] = logits.index_put((image, row), own)
        return matched, {}

    def _logits(self, features: list[Tensor], level: int) -> Float[Tensor, "B N C"]:
        """Of each class by the model of its node; the column of the background is the first one's."""
        made = None
        for number, model in enumerate(self.nodes[level - 1]):
            logits = model(features)
            made = logits if made is None else _with(made, logits, self.tree.columns(level, number))
        return made

    def _inherit(self, level: int, parents: list[int]) -> None:
        above = [self.classification_head] if level == 1 else self.nodes[level - 2]
        for model, parent in zip(self.nodes[level - 1], parents):
            model.load_state_dict(above[parent].state_dict())


def _with(logits: Tensor, other: Tensor, columns: Tensor) -> Tensor:
    return logits.index_copy(-1, columns, other[..., columns])
