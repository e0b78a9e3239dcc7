"""MetaAnchor: the last layers made from the prior box that they are for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator

from ..common import require
from ..taxonomy import Imbalance
from ._guidance import one_anchor
from ._wrapped import WrappedHead, flatten

__all__ = ["MetaAnchor", "MetaAnchors"]


class MetaAnchor(WrappedHead):
    """Makes the function of each anchor, the weights of the last layers, from the anchor's shape: anchors become a
    matter of choice and not of training, and other shapes, or more of them, can be laid in detection.

    Yang et al., in RetinaNet; review, section 6.3. For a prior box b = (log h / H, log w / W), H = W the side of its
    level's square, the weights of the last layer of classes and of boxes are (equations 4 to 6)

        theta_b = theta* + W2 ReLU(W1 b),    or with `data_dependent`    theta* + W2 ReLU(W11 b + W12 r(x))

    with theta* shared by all shapes, and r(x) the mean of the level's features, so that each image has functions of its
    own. The shapes, `scales` of the square times `ratios`, are attributes: set others before detection. The side of the
    square is the detector's smallest anchor on the level. From memory: the size of the hidden layer, and that r is the
    mean. The hidden layer is divided by the root of its size, which changes no function but how fast W2 is learnt.
    theta* starts as the mean of the detector's own layers over its anchors, W2 small.

    Args:
        head: RetinaNet's, or one like it.
        scales, ratios: of the prior boxes; ratios are height / width.
        detection_scales, detection_ratios: those in detection; None: as in training.
        hidden: size of the hidden layer; W2 has so many columns of each layer's size.
        data_dependent: equation 6 in place of 5.

    Shapes: a list of (B, C, H, W) maps -> `cls_logits` (B, N, K), `bbox_regression` (B, N, 4).

    Checked by: the square itself has the function theta*.

    >>> from torchvision.models.detection.retinanet import RetinaNetHead
    >>> head = MetaAnchor(RetinaNetHead(16, 3, 5), detection_ratios=(0.25, 0.5, 1.0, 2.0, 4.0))
    >>> maps = [torch.zeros(1, 16, 2, 2)]
    >>> head(maps)["cls_logits"].shape, head.eval()(maps)["cls_logits"].shape
    (torch.Size([1, 36, 5]), torch.Size([1, 60, 5]))
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.LOCATION, Imbalance.OBJECT_SCALE)
    paper: ClassVar[str] = (
        "Yang, Zhang, Li, Zhang, Sun, MetaAnchor: Learning to Detect Objects with Customized Anchors, NeurIPS 2018, "
        "arXiv:1807.00980, equations 4 to 6"
    )

    def __init__(
        self,
        head: nn.Module,
        *,
        scales: tuple[float, ...] = (1.0, 2 ** (1 / 3), 2 ** (2 / 3)),
        ratios: tuple[float, ...] = (0.5, 1.0, 2.0),
        detection_scales: tuple[float, ...] | None = None,
        detection_ratios: tuple[float, ...] | None = None,
        hidden: int = 128,
        data_dependent: bool = False,
    ) -> None:
        super().__init__(head)
        require(isinstance(hidden, int) and hidden >= 1, "hidden", "an integer of 1 or more", hidden)
        self.scales, self.ratios = scales, ratios
        self.detection_scales, self.detection_ratios = detection_scales, detection_ratios
        self.hidden, self.data_dependent = hidden, data_dependent
        for training in (True, False):
            self._shapes(training)  # raises for shapes that are none
        classes, boxes = self.classification_head, self.regression_head
        classes.cls_logits = MetaLayer(classes.cls_logits, classes.num_classes, hidden, data_dependent)
        boxes.bbox_reg = MetaLayer(boxes.bbox_reg, 4, hidden, data_dependent)

    def shapes(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Scales and ratios of the prior boxes, in training or in detection, as the head is now.

        Raises ValueError for none, or such as are not above 0.
        """
        return self._shapes(self.training)

    def _shapes(self, training: bool) -> tuple[tuple[float, ...], tuple[float, ...]]:
        found = []
        for name in ("scales", "ratios"):
            if not training and getattr(self, f"detection_{name}") is not None:
                name = f"detection_{name}"
            values = tuple(getattr(self, name))
            require(len(values) > 0 and all(0 < v < math.inf for v in values), name, "one or more, above 0", values)
            found.append(values)
        return found[0], found[1]

    def priors(self) -> Float[Tensor, "A 2"]:
        """(log h / H, log w / W) of the prior boxes, in torchvision's order."""
        scales, ratios = (torch.tensor(values).log() for values in self.shapes())
        half = ratios[:, None] / 2
        return torch.stack((scales + half, scales - half), 2).flatten(0, 1)

    def anchors(self, generator: nn.Module) -> MetaAnchors:
        """What takes the place of the detector's anchor generator."""
        return MetaAnchors(self, [min(sizes) for sizes in generator.sizes])

    def forward(self, features: list[Float[Tensor, "B C H W"]]) -> dict[str, Tensor]:
        """The predictions of all levels."""
        classes, boxes = self.classification_head, self.regression_head
        priors = self.priors().to(classes.cls_logits.weight)
        logits = classes.cls_logits([classes.conv(feature) for feature in features], priors)
        deltas = boxes.bbox_reg([boxes.conv(feature) for feature in features], priors)
        return {
            "cls_logits": torch.cat([flatten(m, classes.num_classes) for m in logits], 1),
            "bbox_regression": torch.cat([flatten(m, 4) for m in deltas], 1),
        }

    def extra_repr(self) -> str:
        """The settings."""
        names = ("scales", "ratios", "detection_scales", "detection_ratios", "hidden", "data_dependent")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)


class MetaLayer(nn.Module):
    """A convolution whose weights are a function of the prior box.

    Args:
        layer: the convolution of all anchors whose mean is theta*.
        columns: outputs of one anchor.
        hidden, data_dependent: as in `MetaAnchor`.

    Shapes: a list of (B, C, H, W) maps, (A, 2) priors -> a list of (B, A columns, H, W).
    """

    def __init__(self, layer: nn.Conv2d, columns: int, hidden: int, data_dependent: bool) -> None:
        super().__init__()
        shared = one_anchor(layer, columns)
        self.weight, self.bias, self.padding = shared.weight, shared.bias, layer.padding
        self.first = nn.Linear(2, hidden, bias=False)
        self.of_features = nn.Linear(layer.in_channels, hidden, bias=False) if data_dependent else None
        self.second = nn.Linear(hidden, self.weight.numel() + columns, bias=False)
        nn.init.normal_(self.second.weight, std=0.01)

    def functions(self, priors: Float[Tensor, "A 2"], x: Float[Tensor, "B C H W"] | None = None) -> Float[Tensor, "*n"]:
        """(A, columns (weights + 1)) or, given features, (B, A, ...): the weights of each prior box, then the bias."""
        inner = self.first(priors)
        if x is not None:
            inner = inner + self.of_features(x.mean((2, 3)))[:, None]
        shared = torch.cat((self.weight.flatten(), self.bias))
        # By the root of its size, or a step of Adam would move the sum of so many weights far beyond theta*.
        return shared + self.second(inner.relu() / math.sqrt(inner.shape[-1]))

    def forward(self, maps: list[Float[Tensor, "B C H W"]], priors: Float[Tensor, "A 2"]) -> list[Tensor]:
        if self.of_features is None:
            weight, bias = self._parted(self.functions(priors))
            return [F.conv2d(x, weight, bias, padding=self.padding) for x in maps]
        found = []
        for x in maps:
            weight, bias = self._parted(self.functions(priors, x))
            out = F.conv2d(x.reshape(1, -1, *x.shape[-2:]), weight, bias, padding=self.padding, groups=len(x))
            found.append(out.reshape(len(x), -1, *x.shape[-2:]))
        return found

    def _parted(self, functions: Tensor) -> tuple[Tensor, Tensor]:
        weight, bias = functions.split((self.weight.numel(), len(self.bias)), -1)
        return weight.reshape(-1, *self.weight.shape[1:]), bias.flatten()


class MetaAnchors(nn.Module):
    """Takes the place of a detector's anchor generator: the prior boxes that the head has functions for.

    Args:
        head: says which `shapes` it makes functions for.
        bases: side of each level's square, pixels.
    """

    def __init__(self, head: MetaAnchor, bases: Sequence[float]) -> None:
        super().__init__()
        self._of = (head,)  # in a tuple, or the head would be a part of this module as well
        self.bases = tuple(map(float, bases))

    @property
    def sizes(self) -> tuple[tuple[float, ...], ...]:
        """Pixels, of each level."""
        scales, _ = self._of[0].shapes()
        return tuple(tuple(base * scale for scale in scales) for base in self.bases)

    @property
    def aspect_ratios(self) -> tuple[tuple[float, ...], ...]:
        """Height / width, of each level."""
        return (self._of[0].shapes()[1],) * len(self.bases)

    def num_anchors_per_location(self) -> list[int]:
        """Of each level."""
        return [len(sizes) * len(ratios) for sizes, ratios in zip(self.sizes, self.aspect_ratios)]

    def forward(self, images, features: list[Tensor]) -> list[Float[Tensor, "N 4"]]:
        """The anchors of each image."""
        return AnchorGenerator(self.sizes, self.aspect_ratios)(images, features)
