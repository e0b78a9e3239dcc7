"""A recipe: which method stands in which slot of a detector. Data, not configuration: vary it with `replace`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .anchor_settings import AnchorSettings

__all__ = ["Phase", "Recipe", "Stage"]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The training of one head. None means: as the detector has it.

    >>> Stage().empty
    True
    """

    assign: Callable | None = None
    """which candidate shows which object (assigners)"""
    sample: Callable | None = None
    """which candidates train (samplers)"""
    weigh: Callable | tuple[Callable, ...] | None = None
    """how much each counts (weights); several multiply"""
    cls_loss: Callable | None = None
    box_loss: Callable | None = None
    joint_loss: Callable | None = None
    """class and box together, in place of both"""
    box_generator: Callable | None = None
    """makes candidates besides the detector's own"""
    cls_weight: float | None = None
    """factor of the class loss"""
    box_weight: float | None = None
    """factor of the box loss"""
    prior: float | str | None = None
    """foreground probability that the classifier's bias starts from; "data": the data's own (`priors.set_from_data`,
    which `train` calls)"""
    score_threshold: float | None = None
    """scores below it are no detections"""
    code_weights: tuple[float, float, float, float] | None = None
    """factors of the box code (dx, dy, log w, log h); region head alone"""
    refine: Callable | None = None
    """where the region head looks in detection (refinements)"""
    suppress: Callable | None = None
    """which detections stay, and where (suppressions)"""
    limit: int | None = None
    """proposals of an image that go on to the region head, at most; proposal network alone"""

    def __post_init__(self) -> None:
        for name in ("prior", "score_threshold"):
            value = getattr(self, name)
            if value is not None and (name, value) != ("prior", "data") and not 0 < value < 1:
                raise ValueError(f"expected {name} between 0 and 1 but got {value}")
        for name in ("cls_weight", "box_weight"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise ValueError(f"expected {name} of 0 or more but got {value}")
        if self.limit is not None and not (isinstance(self.limit, int) and self.limit >= 1):
            raise ValueError(f"expected limit of 1 or more but got {self.limit!r}")
        weights = self.code_weights
        if weights is not None and not (len(weights) == 4 and all(0 < w < float("inf") for w in weights)):
            raise ValueError(f"expected code_weights of four positive numbers but got {weights!r}")

    @property
    def empty(self) -> bool:
        """Does it leave everything as the detector has it?"""
        return all(getattr(self, f.name) is None for f in fields(self))


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of the training, in time. Each warms up and anneals its learning rate for itself.

    >>> Phase(share=0.25, trains="classifier", restart=True)
    Phase(share=0.25, trains='classifier', restart=True)
    """

    share: float
    """of the epochs; the shares of all phases are taken as parts of their sum"""
    images: Callable | None = None
    """annotations -> drawing weight of each image (image_sampling); None: the recipe's own"""
    trains: str = "all"
    """"all", "heads" (all but the backbone and its pyramid), "classifier" (its last layer) or "nodes" (the models of a
    hierarchy of classes)"""
    restart: bool = False
    """start the part that trains from its first weights anew"""
    learning_rate: float = 1.0
    """factor on the learning rate"""

    def __post_init__(self) -> None:
        if self.trains not in ("all", "heads", "classifier", "nodes"):
            raise ValueError(f"expected trains 'all', 'heads', 'classifier' or 'nodes' but got {self.trains!r}")
        for name in ("share", "learning_rate"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"expected {name} above 0 but got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A treatment of a detector: `attach(model, recipe)` puts it in. `Recipe(name="baseline")` changes nothing.

    >>> from dataclasses import replace
    >>> replace(Recipe(name="a"), name="b")
    Recipe(name='b')
    """

    name: str
    images: Callable | None = None
    """annotations -> drawing weight of each image (image_sampling)"""
    augment: Callable | None = None
    """(image, target, others) -> (image, target); if it has `fit(annotations, others)`, training calls that first"""
    views: Callable | None = None
    """(row, turn, rng) -> the window of its image that a training image shows (views); None: the whole"""
    synthesis: Callable | None = None
    """(images, targets, detect) -> (images, targets, losses) on the batch, in each training step (synthesis)"""
    look: Callable | None = None
    """how images are looked at in detection (looks); None: each as a whole, at the training size"""
    backbone: Callable | None = None
    """(a copy of the detector's backbone) -> the refined one (backbones)"""
    neck: Callable | None = None
    """(in_channels, out_channels) -> module (necks)"""
    head: Callable | None = None
    """replaces the detector's head (heads)"""
    region: Callable | tuple[Callable, ...] | None = None
    """(the parts of the region head) -> other parts (region_heads); several, one upon the other. In a cascade of every
    stage"""
    proposal_head: Callable | None = None
    """replaces the head of the region proposal network (heads)"""
    anchors: AnchorSettings | None = None
    """in place of the detector's own, as `detbalance anchors` finds them"""
    proposals: Stage = Stage()
    """the region proposal network; two-stage detectors only"""
    stages: Stage | tuple[Stage, ...] = Stage()
    """the head; several make a cascade"""
    objective: Callable | None = None
    """dict of losses -> dict of losses (objectives)"""
    learning_rate: float | None = None
    """factor on the learning rate, for methods whose paper changes it"""
    phases: tuple[Phase, ...] = ()
    """parts of the training, one after another; none: all at once"""

    def __post_init__(self) -> None:
        if isinstance(self.stages, tuple) and not self.stages:
            raise ValueError("expected a Stage, or a tuple of one or more, but got stages=()")
        if self.views is not None and self.augment is not None:
            raise ValueError("views and augment both make the training images: a recipe has one of them")

    @property
    def cascade(self) -> tuple[Stage, ...]:
        """The stages of the head, one or more.

        >>> Recipe(name="a").cascade
        (Stage(),)
        """
        return self.stages if isinstance(self.stages, tuple) else (self.stages,)

    def __repr__(self) -> str:
        """Only what differs from the default, so that a run folder's settings can be read."""
        return f"Recipe({_changed(self)})"


def _changed(record: Any) -> str:
    pairs = ((f, getattr(record, f.name)) for f in fields(record))
    return ", ".join(f"{f.name}={value!r}" for f, value in pairs if value != f.default)


Stage.__repr__ = lambda self: f"Stage({_changed(self)})"  # type: ignore[method-assign]
Phase.__repr__ = lambda self: f"Phase({_changed(self)})"  # type: ignore[method-assign]
