"""Residual objectness: an objectness that is refined step by step, each adding to the one before."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from ..common import require
from ._wrapped import start
from .objectness_branch import ObjectnessBranch

__all__ = ["ResidualObjectness"]


class ResidualObjectness(ObjectnessBranch):
    """Tells objects from background by an objectness and a cascade of corrections of it, with plain cross-entropy and
    no sampling: the imbalance is learnt away instead of being weighed away.

    Chen et al.; review section 4.1.3. The first step stands on the class tower, each further one on the features of the
    step before it (3x3 convolution, ReLU), and the logits of all steps are added:

        objectness = sigmoid(o_1 + r_2 + ... + r_steps),   score = objectness * class

    The class branch is trained with cross-entropy on the positives alone, the objectness with cross-entropy on all
    candidates. This is RetinaNet-ResObj as its authors published it later (two steps; their losses are divided by 20
    and 10 times the positives, hence `weight=0.05`, and `cls_weight=0.1` in the recipe). The first version of the paper
    may differ: it speaks of several cascaded modules. Here the corrections start at 0, so that training starts from
    `prior`; the authors start each step from the bias of `prior`.

    Args:
        head: RetinaNet's, or one like it.
        steps: objectness and corrections together, at least 2.
        prior, weight, ratio, classes_on, class_prior: as in `ObjectnessBranch`.

    Shapes: as `ObjectnessBranch`.

    Checked by: with the corrections' weights at 0 it is `ObjectnessBranch`.

    >>> import torch
    >>> from torchvision.models.detection.retinanet import RetinaNetHead
    >>> head = ResidualObjectness(RetinaNetHead(16, 3, 5), prior=0.01)
    >>> len(head.score)
    2
    >>> head([torch.zeros(1, 16, 2, 2)])["objectness"].sigmoid().mean()
    tensor(0.0100, grad_fn=<MeanBackward0>)
    """

    paper: ClassVar[str] = (
        "Chen, Liu, Luo, Peng, Xu, Chen, Residual Objectness for Imbalance Reduction, Pattern Recognition 2022, "
        "arXiv:1908.09075"
    )

    def __init__(
        self,
        head: nn.Module,
        *,
        steps: int = 2,
        prior: float = 0.001,
        weight: float = 0.05,
        ratio: float | None = None,
        classes_on: str = "positives",
        class_prior: float | None = None,
    ) -> None:
        require(isinstance(steps, int) and steps >= 2, "steps", "an integer of 2 or more", steps)
        super().__init__(head, prior=prior, weight=weight, ratio=ratio, classes_on=classes_on, class_prior=class_prior)
        self._steps(steps)
        for i, score in enumerate(self.score):
            start(score, prior if i == 0 else 0.5)
