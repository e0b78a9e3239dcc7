"""Task-aware synthesis: objects pasted where and as a network has it, so that they look real and are hard to detect."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..augment._canvas import left_behind, with_objects
from ..augment._objects import covered
from ..augment._piece import Piece, bounds, cut
from ..common import require, sum_over_ranks, widen, world_size
from ..opponents import entropy, still
from ..taxonomy import Imbalance
from ..types import Target
from ._compositing import Placement, composite, feathered, window
from ._networks import Discriminator, Synthesiser

__all__ = ["TaskAwareSynthesis"]

_DECISIONS = 8  # x, y, size, angle, contrast, three colours
_LIMITS = {"scale": math.log(2), "angle": math.radians(30), "contrast": math.log(1.5), "colour": 0.1}
_VIEW, _WINDOW, _REACH = 64, 48, 1.5  # pixels that synthesiser and discriminator see; how far around the object
_SMALLEST, _OVERLAPPED = 8, 0.1  # sides of what is cut out, pixels; how much of it others may overlap


class TaskAwareSynthesis(nn.Module):
    """Pastes objects of other images of the batch into a share of its images. A network, the synthesiser, decides
    where, how large, how turned and in what colours, and learns to make the composite both real and hard: a
    discriminator tells composites from real objects, and the detector's loss on them is to rise.

    Tripathi et al., section 3 and as the review tells it in section 4.1.4. In every step the detector trains on the
    composites as they are, and two losses join its own:

        discriminator   -log D(real) - log(1 - D(composite))                            D learns, all else stands still
        synthesiser     -a log D(composite) - h log L(composites) + k K                  S learns, all else stands still

    L is the sum of the detector's losses, of which the gradient comes back through the pixels of the composites; that
    takes one more pass through the detector, of the composites alone, in every `every`-th step. Its logarithm asks for
    a share more of whatever the detector still loses. D sees a window around the object, and around the same object in
    its own image.

    For each decision S, which sees the object and the image with its boxes, gives the mean m and the deviation s of a
    random draw, so that it may choose among many and never has but one. K, the sum of (m^2 + s^2 - 1) / 2 - log s over
    the decisions, holds the draws near their start, objects as they are anywhere in the image; without it S soon puts
    everything into one corner as small as it may. At first it has no preference: objects lie anywhere in the image, all
    of them inside, and at 0.5 to 2 times their size, turned by up to 30 degrees, 1 / 1.5 to 1.5 times their contrast
    and at most 0.1 lighter or darker in each colour; these are the limits for good. The gradient of L sees the pixels
    alone, and not that the box moves with its object.

    Objects are cut along their masks where targets have them, else along what is salient (`cut="box"`: their box), as
    in `augment`; their box is tight around what is seen. What they hide by more than the share `hidden` loses its
    label, boxes and masks of the rest are of what is seen.

    From memory, or ours: the paper's S and D are larger (it starts from a pretrained network and gives an affine map
    alone); sizes, limits and the weights of the losses are ours, the paper's are not known to us, nor is its exact loss
    of a detector, in place of which stands -log L. The paper takes S, D and detector in turns; here one step trains all
    three, each loss with the parameters of the others held fixed. The paper's detector was trained before; here it
    still learns. The paper also pastes background, so that the edges of pasting tell a detector nothing; that is left
    out.

    Images that nothing is pasted into, as of a batch without other objects, pass as they are, with losses of zero.
    Keypoints do not follow, and `attach` refuses detectors of them.

    In a loop of one's own: `images, targets, losses = synthesis(images, targets, detect)`, its parameters with the
    detector's in the optimizer.

    Shapes: images (3, H, W) of any sizes, targets -> the same, and losses (). Errors: ValueError for a setting out of
    range.
    Identity: with `share=0`.

    >>> images = [torch.rand(3, 48, 64), torch.rand(3, 48, 64)]
    >>> some = {"boxes": torch.tensor([[8.0, 8, 28, 24]]), "labels": torch.tensor([2])}
    >>> none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}
    >>> synthesis = TaskAwareSynthesis(share=1)
    >>> _, targets, losses = synthesis(images, [some, none], lambda images, targets: {"loss": images[0].mean()})
    >>> [target["labels"].tolist() for target in targets], sorted(losses)
    ([[2], [2]], ['discriminator', 'synthesiser'])
    """

    addresses: ClassVar[tuple[Imbalance, ...]] = (Imbalance.FOREGROUND_BACKGROUND,)
    paper: ClassVar[str] = (
        "Tripathi, Chandra, Agrawal, Tyagi, Rehg, Chari, Learning to Generate Synthetic Data via Compositing, "
        "CVPR 2019, arXiv:1904.05475"
    )

    steps: Tensor
    """of training so far"""

    def __init__(
        self,
        *,
        share: float = 0.5,
        every: int = 2,
        adversarial: float = 1.0,
        hardness: float = 1.0,
        identity: float = 0.3,
        cut: str = "saliency",
        hidden: float = 0.5,
        width: int = 16,
    ) -> None:
        """
        Args:
            share: of the images, that get an object.
            every: steps from one look of the detector at the composites to the next.
            adversarial, hardness, identity: a, h and k of the synthesiser's loss.
            cut: how objects without masks are cut out, "saliency" or "box".
            hidden: share of an object that may be hidden before it loses its label.
            width: channels of the networks' first layers.
        """
        super().__init__()
        require(0 <= share <= 1, "share", "between 0 and 1", share)
        require(isinstance(every, int) and every >= 1, "every", "an integer of 1 or more", every)
        for name, value in (("adversarial", adversarial), ("hardness", hardness), ("identity", identity)):
            require(0 <= value < float("inf"), name, "0 or greater", value)
        require(cut in ("saliency", "box"), "cut", "'saliency' or 'box'", cut)
        require(0 <= hidden <= 1, "hidden", "between 0 and 1", hidden)
        require(isinstance(width, int) and width >= 1, "width", "an integer of 1 or more", width)
        self.share, self.every, self.cut, self.hidden, self.width = share, every, cut, hidden, width
        self.adversarial, self.hardness, self.identity = adversarial, hardness, identity
        self.synthesiser, self.discriminator = Synthesiser(_DECISIONS, width), Discriminator(width)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(
        self,
        images: list[Float[Tensor, "3 _ _"]],
        targets: list[Target],
        detect: Callable[[list[Tensor], list[Target]], dict[str, Tensor]],
    ) -> tuple[list[Tensor], list[Target], dict[str, Tensor]]:
        """The batch with its composites, without gradient, and the losses of synthesiser and discriminator."""
        looks = int(self.steps) % self.every == 0 and self.hardness > 0
        self.steps += 1
        with torch.autocast(images[0].device.type, enabled=False):
            low, high = _range_of(images)
            made = self._compose([(widen(image) - low) / (high - low) for image in images], targets)
        shown, truth = list(images), list(targets)
        for one in made:
            shown[one.row], truth[one.row] = (one.pixels * (high - low) + low).to(images[0].dtype), one.target
        # Every process looks when one does: the detector may wait for the others' counts.
        hard = None
        if looks and (made or world_size() > 1):
            rows = [one.row for one in made] or range(len(images))
            hard = sum(widen(loss) for loss in detect([shown[i] for i in rows], [truth[i] for i in rows]).values())
        with torch.autocast(images[0].device.type, enabled=False):
            losses = self._losses(made, hard)
        return [image.detach() for image in shown], truth, losses

    def _compose(self, images: list[Tensor], targets: list[Target]) -> list[_Composite]:
        """The composites, of images with colours in [0, 1]."""
        drawn = self._draw(images, targets)
        if not drawn:
            return []
        fronts = torch.stack([_view_of_piece(piece, images[row]) for row, _, _, piece in drawn])
        backs = torch.stack([_view_of_image(images[row], targets[row]["boxes"]) for row, _, _, _ in drawn])
        mean, spread = self.synthesiser(fronts, backs)
        # Logistic for the place: with mean 0 and deviation 1 its sigmoid is uniform.
        place, look = torch.rand(len(drawn), 2).logit(eps=1e-4), torch.randn(len(drawn), _DECISIONS - 2)
        decisions = mean + spread * torch.cat((place, look), 1).to(mean)
        distance = ((mean.square() + spread.square() - 1) / 2 - spread.log()).sum(1)
        made = []
        for (row, other, number, piece), decision, far in zip(drawn, decisions, distance):
            image, target = images[row], targets[row]
            masks = piece.masks.to(image)
            masks = torch.stack([feathered(mask) for mask in masks])
            x1, y1, x2, y2 = piece.bounds
            placement = _placed(decision, (x2 - x1, y2 - y1), image.shape[-2:])
            pixels, masks = composite(image, piece.pixels.to(image), masks, ((x1 + x2) / 2, (y1 + y2) / 2), placement)
            new, box = _new_target(target, masks.detach().cpu() > 0.5, piece.labels, self.hidden)
            if box is None:
                continue
            pair = (
                window(pixels, box, _WINDOW, _REACH),
                window(images[other], targets[other]["boxes"][number], _WINDOW, _REACH),
            )
            made.append(_Composite(row, pixels, new, *pair, far))
        return made

    def _draw(self, images: list[Tensor], targets: list[Target]) -> list[tuple[int, int, int, Piece]]:
        """Which image gets an object: row of the image, of that of the object, of the object in it, and the object."""
        chosen = (torch.rand(len(images)) < self.share).tolist()
        if not any(chosen) or len(images) < 2:
            return []
        # Cut on the CPU, where the masks of a few small windows are found sooner than on a GPU.
        plain = [
            {name: target[name].cpu() for name in ("boxes", "labels", "masks") if name in target} for target in targets
        ]
        objects = [(i, number) for i, target in enumerate(plain) for number in _whole(target["boxes"])]
        drawn, cpu = [], {}
        for row in (i for i, wanted in enumerate(chosen) if wanted):
            among = [pair for pair in objects if pair[0] != row]
            if not among:
                continue
            other, number = among[int(torch.randint(len(among), ()))]
            if other not in cpu:
                cpu[other] = images[other].detach().cpu()
            piece = cut(cpu[other], plain[other], number, how=self.cut)
            if piece is not None:
                drawn.append((row, other, number, piece))
        return drawn

    def _losses(self, made: list[_Composite], hard: Tensor | None) -> dict[str, Tensor]:
        nothing = sum(0 * p.sum() for p in self.parameters())  # under DDP every parameter has to take part
        count = sum_over_ranks(nothing.new_tensor(float(len(made)))) / world_size()
        if not made:
            return {"discriminator": nothing, "synthesiser": nothing}
        pasted, real = torch.stack([one.pasted for one in made]), torch.stack([one.real for one in made])
        told = entropy(self.discriminator(real), 1.0) + entropy(self.discriminator(pasted.detach()), 0.0)
        fooled = entropy(still(self.discriminator)(pasted), 1.0)
        loss = self.adversarial * fooled + self.identity * torch.stack([one.distance for one in made])
        if hard is not None:
            loss = loss - self.hardness * hard.clamp(min=1e-4).log()
        return {"discriminator": told.sum() / count + nothing, "synthesiser": loss.sum() / count + nothing}

    def __repr__(self) -> str:
        """The settings, without the layers: it stands in run folders."""
        names = ("share", "every", "adversarial", "hardness", "identity", "cut", "hidden", "width")
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"


@dataclass(frozen=True, slots=True, eq=False)
class _Composite:
    row: int
    """of the image in the batch"""
    pixels: Float[Tensor, "3 H W"]
    target: Target
    pasted: Float[Tensor, "3 s s"]
    """the window around the object"""
    real: Float[Tensor, "3 s s"]
    """the same in the object's own image"""
    distance: Float[Tensor, ""]
    """of its draws from where they started"""


def _range_of(images: list[Tensor]) -> tuple[float, float]:
    """Of colours: 0 and 1, unless images have others, as if they were normalised beforehand."""
    low, high = (torch.stack([getattr(image, name)() for image in images]) for name in ("amin", "amax"))
    low, high = float(low.min()), float(high.max())
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, max(high, low + 1e-6))


def _whole(boxes: Float[Tensor, "G 4"]) -> list[int]:
    """Rows of the objects that can be cut out: not too small, and hardly overlapped by what is not within them."""
    if not len(boxes):
        return []
    large = ((boxes[:, 2:] - boxes[:, :2]) >= _SMALLEST).all(1).numpy()
    return np.flatnonzero(large & (covered(boxes.double().numpy()) <= _OVERLAPPED)).tolist()


def _view_of_piece(piece: Piece, like: Tensor) -> Float[Tensor, "4 s s"]:
    """The object's colours on grey, and its alpha."""
    x1, y1, x2, y2 = piece.bounds
    pixels, alpha = (plane[..., y1:y2, x1:x2].to(like) for plane in (piece.pixels, piece.masks[:1]))
    return _resized(torch.cat((pixels * alpha + 0.5 * (1 - alpha), alpha)))


def _view_of_image(image: Tensor, boxes: Tensor) -> Float[Tensor, "4 s s"]:
    """The image's colours, and where its boxes are."""
    height, width = image.shape[-2:]
    x, y = torch.arange(width, device=image.device) + 0.5, torch.arange(height, device=image.device) + 0.5
    rows = (y >= boxes[:, 1:2]) & (y < boxes[:, 3:4])
    columns = (x >= boxes[:, 0:1]) & (x < boxes[:, 2:3])
    return _resized(torch.cat((image, (rows[:, :, None] & columns[:, None, :]).any(0)[None].to(image))))


def _resized(planes: Tensor) -> Tensor:
    return F.interpolate(planes[None], (_VIEW, _VIEW), mode="bilinear", antialias=True, align_corners=False)[0]


def _placed(decision: Float[Tensor, " d"], size: tuple[int, int], image: tuple[int, int]) -> Placement:
    """All of the object in the image."""
    extent, whole = decision.new_tensor(size), decision.new_tensor((image[1], image[0]))
    turn = torch.tanh(decision[2:])
    angle = _LIMITS["angle"] * turn[1]
    cos, sin = angle.cos().abs(), angle.sin().abs()
    half = torch.stack((cos * extent[0] + sin * extent[1], sin * extent[0] + cos * extent[1])) / 2
    scale = torch.minimum((_LIMITS["scale"] * turn[0]).exp(), (whole / (2 * half)).amin())
    half = (scale * half).minimum(whole / 2)
    centre = half + (whole - 2 * half) * decision[:2].sigmoid()
    contrast, colour = (_LIMITS["contrast"] * turn[2]).exp(), _LIMITS["colour"] * turn[3:]
    return Placement(centre, scale, angle, contrast, colour)


def _new_target(
    target: Target, masks: Tensor, labels: Tensor, hidden: float
) -> tuple[Target, Float[Tensor, " 4"] | None]:
    """The target once masks (M, H, W), bool, lie in front, the first being the whole of what was pasted; its box. None
    if it is nowhere.

    What came along within the object keeps its label if any of it is left.
    """
    cover = masks[0]
    masks = masks & cover
    masks, labels = (some[masks.flatten(1).any(1)] for some in (masks, labels))
    if not cover.any():
        return target, None
    device, plain = target["boxes"].device, {n: target[n].cpu() for n in ("boxes", "labels", "masks") if n in target}
    boxes, stay, left = left_behind(plain, cover, hidden)
    pasted = bounds(masks).to(boxes.dtype)
    if left is not None:
        left = torch.cat((left, masks.to(left.dtype))).to(device)
    boxes, labels = torch.cat((boxes, pasted)).to(device), torch.cat((stay, labels)).to(device)
    return with_objects(target, boxes, labels, left, cover.shape), pasted[0]
