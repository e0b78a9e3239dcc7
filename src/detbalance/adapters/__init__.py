"""How a recipe gets into a torchvision detector. The only place that knows torchvision internals."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import TypeVar

import torch
from torch import nn
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.ssd import SSD

from ..backbones import Trident
from ..detectors.anchors import generator_of, place_anchors, prepare_anchors
from ..detectors.yolov2 import YOLOv2
from ..heads import HierarchicalShot
from ..recipe import Recipe, Stage
from .auxiliary import Auxiliary, attach_auxiliary
from .branches import attach_branches, build_backbone
from .fcos import prepare_fcos
from .half_precision import keep_places_exact
from .head import build_head, build_proposal_head
from .neck import build_neck
from .objective import attach_objective
from .rcnn import prepare_rcnn
from .region import show_model
from .remembered import keep_in_place
from .retinanet import prepare_retinanet
from .ssd import prepare_ssd
from .synthesis import attach_synthesis
from .variance import regressors
from .yolov2 import prepare_yolov2

__all__ = ["attach", "kind_of"]

Model = TypeVar("Model", bound=nn.Module)


def kind_of(model: nn.Module) -> str:
    """What the recipes are functions of: "dense" (RetinaNet, FCOS), "ssd", "yolo" (our YOLOv2) or "rcnn" (Faster,
    Mask and Keypoint R-CNN).

    Raises TypeError for any other model.
    """
    for classes, kind, _ in _DETECTORS:
        if isinstance(model, classes):
            return kind
    raise TypeError(
        "expected a torchvision RetinaNet, FCOS, SSD, FasterRCNN, MaskRCNN or KeypointRCNN, or our YOLOv2, but got "
        f"{type(model).__module__}.{type(model).__qualname__}"
    )


def attach(model: Model, recipe: Recipe, *, generator: torch.Generator | None = None) -> Model:
    """Put a recipe's methods into a torchvision detector, in place; it trains, evaluates and saves as before.

    The model's class, its forward and the keys of its state_dict stay; a part with state of its own (momentum,
    gradient statistics) adds its buffers under `treatment`, a head its parameters under `head`, a
    region head beside those that it had, synthesis its networks under `synthesis`. The recipe is copied, so two models
    never share state.

    Args:
        model: a torchvision RetinaNet, FCOS or SSD, or Faster, Mask or Keypoint R-CNN, your own instance or
            `detectors.build`'s; or our YOLOv2.
        recipe: which method stands in which slot; `Recipe(name="baseline")` leaves losses and gradients as they are.
        generator: for samplers that draw; None is torch's global one.

    Returns:
        The same model.

    Raises:
        TypeError: for a model that is no such detector.
        ValueError: for a slot that the detector lacks, a loss that does not go with the head's scores, or a model
            that has a recipe already.

    >>> from torchvision.models.detection import retinanet_resnet50_fpn
    >>> from detbalance import attach, recipes
    >>> model = retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=4)
    >>> attach(model, recipes.libra("dense")) is model
    True
    >>> attach(model, recipes.baseline("dense"))
    Traceback (most recent call last):
    ...
    ValueError: this model has a recipe already: libra; attach to a fresh model
    """
    kind = kind_of(model)
    present = getattr(model, "recipe", None)
    if isinstance(present, Recipe):
        raise ValueError(f"this model has a recipe already: {present.name}; attach to a fresh model")
    recipe = deepcopy(recipe)
    _check_slots(model, kind, recipe)
    # All that can fail comes first: a recipe that is refused leaves the model as it was.
    backbone = None if recipe.backbone is None else build_backbone(model, recipe.backbone)
    neck = None if recipe.neck is None else build_neck(model, recipe.neck)
    head = None if recipe.head is None else build_head(model, recipe.head)
    proposal_head = None if recipe.proposal_head is None else build_proposal_head(model, recipe.proposal_head)
    if kind != "rcnn" and getattr(recipe.stages.sample, "needs_objectness", False) and not hasattr(head, "objectness"):
        raise ValueError(f"{recipe.stages.sample!r} needs a head with an objectness, such as heads.ObjectnessBranch")
    if hasattr(head, "moved") and hasattr(recipe.stages.box_loss, "needs_log_variance"):
        raise ValueError(f"{recipe.stages.box_loss!r} learns corners, and this head moves anchors by their centres")
    if kind in ("dense", "ssd") and hasattr(recipe.stages.box_loss, "needs_log_variance"):
        if isinstance(head, HierarchicalShot):
            raise ValueError(f"{recipe.stages.box_loss!r} learns variances, which the hierarchical shot head has not")
        regressors(model.head if head is None else head)  # raises where there are none to learn beside
    if kind == "rcnn":
        install = prepare_rcnn(model, recipe.proposals, recipe.stages, generator, recipe.region, neck)
    else:
        prepare = next(prepare for classes, _, prepare in _DETECTORS if isinstance(model, classes))
        install = prepare(model, recipe.stages, generator)
    auxiliary = None
    if kind != "rcnn" and recipe.region is not None:
        auxiliary = Auxiliary(model, getattr(model.backbone, "fpn", None) if neck is None else neck, recipe.region)
    anchors = _anchors(model, recipe, proposal_head if kind == "rcnn" else head)
    if head is not None:
        model.head = head
    if proposal_head is not None:
        model.rpn.head = proposal_head
    if anchors is not None:
        place_anchors(model, anchors)
    install()
    if backbone is not None:
        model.backbone = backbone
    if neck is not None:
        model.backbone.fpn = neck
    if auxiliary is not None:
        attach_auxiliary(model, auxiliary)
    elif recipe.region is not None:
        show_model(model)
    if recipe.objective is not None:
        attach_objective(model, recipe.objective)
    if recipe.synthesis is not None:
        attach_synthesis(model, recipe.synthesis)  # after the objective, which weighs the tasks of detection alone
    keep_places_exact(model)
    keep_in_place(model)
    if isinstance(recipe.backbone, Trident):
        attach_branches(model, recipe.backbone)
    model.recipe = recipe
    return model


def _anchors(model: nn.Module, recipe: Recipe, head: nn.Module | None) -> nn.Module | None:
    """What takes the place of the detector's anchor generator: the recipe's anchors, or those of a head."""
    own = getattr(head, "anchors", None)
    if own is None:
        return None if recipe.anchors is None else prepare_anchors(model, recipe.anchors)
    if recipe.anchors is not None:
        raise ValueError(f"recipe {recipe.name!r} has anchors, but its head, {type(head).__name__}, makes its own")
    present = generator_of(model)
    return own(present).train(present.training)


# Which models, what kind their recipes are for, what puts a stage into those of one stage.
_DETECTORS = (
    (RetinaNet, "dense", prepare_retinanet),
    (FCOS, "dense", prepare_fcos),
    (SSD, "ssd", prepare_ssd),
    (YOLOv2, "yolo", prepare_yolov2),
    (GeneralizedRCNN, "rcnn", None),
)

_SLOTS = {
    "dense": "images, augment, synthesis, views, look, backbone, neck, region (what trains beside the head), head "
    "(RetinaNet alone), stages (one Stage), objective",
    "ssd": "images, augment, synthesis, views, look, backbone, stages (one Stage), objective",
    "yolo": "images, augment, synthesis, views, look, stages (one Stage), objective",
    "rcnn": "images, augment, synthesis, views, look, backbone, neck, region, proposal_head, proposals, "
    "stages (one Stage, or several as a tuple), objective",
}


def _without_region_head(kind: str, region: Callable | tuple[Callable, ...]) -> bool:
    """Does it go with a one-stage detector, which has a region head for training alone?"""
    return kind == "dense" and getattr(region, "one_stage", False)


def _check_slots(model: nn.Module, kind: str, recipe: Recipe) -> None:
    """Raise for what would otherwise be a silent no-op."""
    if hasattr(recipe.look, "check"):
        recipe.look.check(model)
    lacking = []
    if kind != "rcnn" and not recipe.proposals.empty:
        lacking.append("proposals (a one-stage detector has no proposal network)")
    stages = recipe.cascade
    if kind != "rcnn" and not isinstance(recipe.stages, Stage):
        lacking.append("stages as a tuple (a cascade)")
    if recipe.proposals.box_generator is not None or (kind != "rcnn" and any(s.box_generator for s in stages)):
        lacking.append("box_generator (the region head of a two-stage detector alone has it)")
    elsewhere = (recipe.proposals, *(() if kind == "rcnn" else stages))
    learnt = elsewhere if kind == "yolo" else (recipe.proposals,)
    if any(hasattr(stage.box_loss, "needs_log_variance") for stage in learnt):
        lacking.append("a variance for box_loss (proposal networks and YOLOv2 learn none)")
    heads = getattr(model, "roi_heads", None)
    if recipe.synthesis is not None and getattr(heads, "keypoint_head", None) is not None:
        lacking.append("synthesis (keypoints do not follow what is pasted)")
    if recipe.proposals.suppress is not None:
        lacking.append("suppress (a proposal network has it not)")
    for slot in ("code_weights", "refine"):
        if any(getattr(stage, slot) is not None for stage in elsewhere):
            lacking.append(f"{slot} (the region head of a two-stage detector alone has it)")
    if any(hasattr(stage.cls_loss, "at_inference") for stage in elsewhere):
        lacking.append("scores of its own for a cls_loss (the region head of a two-stage detector alone has it)")
    if recipe.region is not None and kind != "rcnn" and not _without_region_head(kind, recipe.region):
        lacking.append("region (the region head of a two-stage detector)")
    if kind != "rcnn" and recipe.proposal_head is not None:
        lacking.append("proposal_head (a one-stage detector has no proposal network)")
    if any(stage.limit is not None for stage in stages):
        lacking.append("limit (the proposal network alone has it)")
    if recipe.head is not None and not isinstance(model, RetinaNet):
        lacking.append("head (RetinaNet alone has it)")
    if lacking:
        raise ValueError(
            f"recipe {recipe.name!r} fills a slot that this detector lacks: {', '.join(lacking)}; it has {_SLOTS[kind]}"
        )
