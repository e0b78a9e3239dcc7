"""Super-resolution of small regions: a generator gives them the features of a region twice as large."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torchvision.ops import MultiScaleRoIAlign

from ..common import require, sum_over_ranks, widen, world_size
from ..opponents import entropy, still
from ..taxonomy import Imbalance
from ..types import RegionParts, RegionStep
from ..valid_ranges import sides
from ._kept import Grouped, HeadOfEachGroup, PredictorOfEachGroup, gathered
from ._levels import check_pool, scale_of
from ._norms import norms_as_they_are
from ._super_resolution import Discriminator, Generator, dilated, pooled_at

__all__ = ["SuperResolution"]


@dataclass(frozen=True, kw_only=True)
class SuperResolution:
    """Turns the few cells that a small region covers into what the same region would give in an image twice as large,
    by a generator that learns it from regions of which both are known, and predicts from these with a head of its own.

    Noh et al., sections 3.2 to 3.4 (from memory, and as the review tells it in section 5.1.4). In training the backbone
    looks twice more, without gradient: at the image in half its size, which gives a region's poor features F, and at
    the image as it is with all of its convolutions dilated twice, which gives the target T: with the same weights, as
    fine as the detector's own features and with the context of F (to match these fields is the paper's point). Of the
    sampled regions those that are small at half size train the generator G and the discriminator D:

        content         mean of (T - G(F))^2
        adversarial     -log D(G(F))                             G learns, D stands still
        discriminator   -log D(T) - log(1 - D(G(F)))             D learns, G stands still

    T and G(F) are first divided by the root mean square of the step's targets, for the size of a detector's features
    drifts by two powers of ten while it learns. None of these losses reaches the backbone. In training and detection
    alike the detector's own features of small regions pass G; a head and a predictor of their own, which start as
    copies, take them, and G learns from their losses, too.

    What differs from the paper: it trains detector, generator and small predictor one after another, here all learn
    together, each step generator and discriminator in turns; on a pyramid, F and T are of the level that the detector
    gives the region; the paper's features of a lower layer, which G sees beside the region's own, are those of the
    finest level. The sizes of G (residual blocks, the last convolution zero at first) and D, the weights of the losses
    and what is small are ours. The two looks cost about as much as the backbone's forward pass and a quarter.

    The large predictor keeps the parameters and their names; G and D lie under `box_roi_pool`.

    Shapes: RegionParts -> RegionParts; pool and head give more than a tensor. Losses `loss_content`,
    `loss_adversarial`, `loss_discriminator`.
    Identity: before the first step it is the detector as it was, in detection.
    Errors: ValueError for a pool that is no MultiScaleRoIAlign of several levels, a head that is neither TwoMLPHead nor
    a Sequential, or a predictor of other layers than cls_score and bbox_pred; a box loss that learns deviations is
    refused.

    >>> from detbalance.detectors import build
    >>> from detbalance import Recipe, attach
    >>> model = attach(build("faster_rcnn", classes=2).train(), Recipe(name="mine", region=SuperResolution()))
    >>> target = {"boxes": torch.tensor([[8.0, 8, 20, 20]]), "labels": torch.tensor([1])}
    >>> sorted(model([torch.rand(3, 96, 128)], [target]))[:3]
    ['loss_adversarial', 'loss_box_reg', 'loss_classifier']
    """

    small: float = 0.173
    """side of a region, the root of its area, over the image's, below which it is small; COCO's 96 pixels"""
    content: float = 1.0
    """weight of the content loss"""
    adversarial: float = 0.1
    """weight of the adversarial loss"""
    blocks: int = 2
    """residual blocks of the generator"""

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.OBJECT_SCALE,)
    paper: ClassVar[str] = (
        "Noh, Bae, Lee, Seo, Kim, Better to Follow, Follow to Be Better: Towards Precise Supervision of Feature "
        "Super-Resolution for Small Object Detection, ICCV 2019"
    )

    def __post_init__(self) -> None:
        require(0 < self.small < 1, "small", "between 0 and 1", self.small)
        for name in ("content", "adversarial"):
            require(0 <= getattr(self, name) < float("inf"), name, "0 or greater", getattr(self, name))
        require(isinstance(self.blocks, int) and self.blocks >= 0, "blocks", "an integer of 0 or more", self.blocks)

    def __call__(self, parts: RegionParts) -> RegionParts:
        pool = _FinerPool(check_pool(parts.pool, self), parts.channels, self)
        head, predictor = HeadOfEachGroup(parts.head, 2, self), PredictorOfEachGroup(parts.predictor, 2, self)
        return replace(parts, pool=pool, head=head, predictor=predictor)


class _FinerPool(nn.Module):
    """The pool, whose small regions pass the generator; the losses of generator and discriminator."""

    def __init__(self, pool: MultiScaleRoIAlign, channels: int, settings: SuperResolution) -> None:
        super().__init__()
        self.pool, self.settings = pool, settings
        self.generator = Generator(channels, settings.blocks)
        self.discriminator = Discriminator(channels)
        self._backbone: tuple[nn.Module, ...] = ()  # in a tuple it is no part of this one
        self._images: Tensor | None = None

    def watch(self, model: nn.Module) -> None:
        """See the images from now on, and know the backbone."""
        self._backbone = (model.backbone,)
        model.backbone.register_forward_pre_hook(partial(_keep, self))

    def forward(self, features, boxes, image_shapes) -> Grouped:
        pooled = self.pool(features, boxes, image_shapes)
        small = self._below(boxes, image_shapes, self.settings.small)
        rows = small.nonzero().squeeze(1)
        few = [b[mask] for b, mask in zip(boxes, small.split([len(b) for b in boxes]))]
        lower = pooled_at(
            self._maps(features)[:1], torch.zeros_like(rows), few, self._scales(features, image_shapes), self.pool
        )
        finer = self.generator(pooled[rows], lower.to(pooled.dtype))
        large = (~small).nonzero().squeeze(1)
        return Grouped(gathered([(large, pooled[large]), (rows, finer.to(pooled.dtype))], len(pooled)), [large, rows])

    def supervise(self, step: RegionStep) -> dict[str, Tensor]:
        """The losses of generator and discriminator."""
        images, self._images = self._images, None
        poor, lower, target = self._pairs(images, step)
        size = widen(target).square().mean().sqrt().clamp(min=1e-3) if len(target) else 1.0
        made, target = widen(self.generator(poor, lower)) / size, widen(target) / size
        content = (made - target).square().mean((1, 2, 3))
        fooled = entropy(still(self.discriminator)(made), 1.0)
        told = entropy(self.discriminator(target), 1.0) + entropy(self.discriminator(made.detach()), 0.0)
        count = sum_over_ranks(content.new_tensor(float(len(content)))) / world_size()
        content, fooled, told = (loss.sum() / count.clamp(min=1) for loss in (content, fooled, told))
        return {
            "loss_content": self.settings.content * content,
            "loss_adversarial": self.settings.adversarial * fooled,
            "loss_discriminator": told,
        }

    @torch.no_grad()
    def _pairs(self, images: Tensor, step: RegionStep) -> tuple[Tensor, Tensor, Tensor]:
        """Of the regions that are small at half size: poor features, those of the finest level, and the target."""
        backbone = self._backbone[0]
        chosen = self._below(step.boxes, step.image_shapes, 2 * self.settings.small)
        boxes = [b[mask] for b, mask in zip(step.boxes, chosen.split([len(b) for b in step.boxes]))]
        level, scales = self.pool.map_levels(boxes), self._scales(step.features, step.image_shapes)
        with norms_as_they_are(backbone):
            halved = self._maps(backbone(F.interpolate(images, scale_factor=0.5, mode="bilinear", antialias=True)))
            with dilated(backbone):
                targets = self._maps(backbone(images))
        half = [b / 2 for b in boxes]
        poor = pooled_at(halved, level, half, scales, self.pool)
        lower = pooled_at(halved[:1], torch.zeros_like(level), half, scales, self.pool)
        return poor, lower, pooled_at(targets, level, boxes, scales, self.pool)

    def _maps(self, features: dict[str, Tensor]) -> list[Tensor]:
        return [features[name] for name in self.pool.featmap_names]

    def _scales(self, features: dict[str, Tensor], image_shapes: list[tuple[int, int]]) -> list[float]:
        return [scale_of(m, image_shapes) for m in self._maps(features)]

    def _below(
        self, boxes: list[Float[Tensor, "N 4"]], image_shapes: list[tuple[int, int]], share: float
    ) -> Bool[Tensor, " R"]:
        """Which regions are smaller than a share of their image."""
        return torch.cat([sides(b) < share * (h * w) ** 0.5 for b, (h, w) in zip(boxes, image_shapes)])


def _keep(pool: _FinerPool, backbone: nn.Module, inputs: tuple) -> None:
    """A hook: the images of a step of training."""
    if pool.training and torch.is_grad_enabled():
        pool._images = inputs[0]
