"""Small against large: pyramids and sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..assigners import NWDAssigner
from ..backbones import EFIP, MSCF, Trident
from ..heads import CascadedRefinement, SeparateHeads
from ..looks import AtScales, InSlices
from ..losses import NWDLoss
from ..necks import (
    MLFPN,
    NASFPN,
    STDN,
    AugFPN,
    AutoFPN,
    BiFPN,
    DynamicHead,
    FeatureHierarchy,
    PANet,
    ParallelFPN,
    ReconfiguredFPN,
    ZoomOutIn,
)
from ..recipe import Recipe, Stage
from ..region_heads import (
    AdaptivePooling,
    ConsistentSupervision,
    ScaleAware,
    ScaleDependentPooling,
    SoftRoISelection,
    SuperResolution,
)
from ..samplers import HardNegativeSampler
from ..views import SNIP, SNIPER, Sliced
from ..weights import SizeBalancedWeights
from ._shared import balanced_fpn_part, check_kind, mined, two_stages

__all__ = [
    "adaptive_pooling",
    "aug_fpn",
    "auto_fpn",
    "balanced_fpn",
    "bifpn",
    "consistent_supervision",
    "dynamic_head",
    "efgr",
    "efip",
    "feature_hierarchy",
    "mlfpn",
    "ms_cnn",
    "mscf",
    "nas_fpn",
    "nwd",
    "panet",
    "parallel_fpn",
    "reconfigured_fpn",
    "scale_aware",
    "scale_dependent_pooling",
    "size_balanced",
    "sliced",
    "sliced_inference",
    "snip",
    "sniper",
    "soft_roi_selection",
    "stdn",
    "super_resolution",
    "trident",
    "trident_fast",
    "zoom_out_in",
]


def balanced_fpn(kind: str) -> Recipe:
    """Libra's pyramid: every level sees the average of all. Needs a detector with a pyramid."""
    return Recipe(name="balanced_fpn", neck=balanced_fpn_part(kind))


def feature_hierarchy(kind: str) -> Recipe:
    """No pyramid: each level is predicted from the backbone's own map. What the pyramids are measured by."""
    return _pyramid("feature_hierarchy", kind, FeatureHierarchy)


def ms_cnn(kind: str) -> Recipe:
    """MS-CNN's proposal layers: proposals from the backbone's own maps, each by a layer of its own."""
    two_stages("ms_cnn", kind)
    return Recipe(name="ms_cnn", neck=FeatureHierarchy, proposal_head=SeparateHeads)


def panet(kind: str) -> Recipe:
    """A second path, from fine to coarse, after the pyramid's."""
    return _pyramid("panet", kind, PANet)


def stdn(kind: str) -> Recipe:
    """All levels cut from the deepest map, fine ones by laying channels out as places."""
    return _pyramid("stdn", kind, STDN)


def parallel_fpn(kind: str) -> Recipe:
    """All levels pooled from the same features, each with context from the others."""
    return _pyramid("parallel_fpn", kind, ParallelFPN)


def reconfigured_fpn(kind: str) -> Recipe:
    """To each level is added what attention takes from all backbone maps together."""
    return _pyramid("reconfigured_fpn", kind, ReconfiguredFPN)


def zoom_out_in(kind: str) -> Recipe:
    """Deconvolutions back to the fine sizes, stacked with the backbone's maps, channels weighed for each image."""
    return _pyramid("zoom_out_in", kind, ZoomOutIn)


def mlfpn(kind: str) -> Recipe:
    """M2Det's eight small pyramids in a row, their levels stacked and weighed."""
    return _pyramid("mlfpn", kind, MLFPN)


def nas_fpn(kind: str) -> Recipe:
    """The cell that architecture search found on COCO, seven times."""
    return _pyramid("nas_fpn", kind, NASFPN)


def auto_fpn(kind: str) -> Recipe:
    """Light cells of separable and dilated convolutions, made by hand; `bench/search_neck.py` finds your data's own."""
    return _pyramid("auto_fpn", kind, AutoFPN)


def bifpn(kind: str) -> Recipe:
    """EfficientDet's cells: both ways, every merge with weights of its own."""
    return _pyramid("bifpn", kind, BiFPN)


def aug_fpn(kind: str) -> Recipe:
    """Context from the deepest map goes down the pyramid; each lateral map learns to tell objects by itself; in R-CNN
    each region sees all levels."""
    recipe, supervision = _pyramid("aug_fpn", kind, AugFPN), ConsistentSupervision()
    return replace(recipe, region=(supervision, SoftRoISelection()) if kind == "rcnn" else supervision)


def dynamic_head(kind: str) -> Recipe:
    """Six blocks of attention over scales, places and tasks upon the pyramid."""
    return _pyramid("dynamic_head", kind, DynamicHead)


def adaptive_pooling(kind: str) -> Recipe:
    """Each region pooled from all levels, the strongest answer counts; `panet+adaptive_pooling` is PANet whole."""
    return _region("adaptive_pooling", kind, AdaptivePooling())


def soft_roi_selection(kind: str) -> Recipe:
    """Each region pooled from all levels, weighed place by place (AugFPN's third part)."""
    return _region("soft_roi_selection", kind, SoftRoISelection())


def consistent_supervision(kind: str) -> Recipe:
    """The pyramid's lateral maps learn to tell objects each by itself (AugFPN's first part)."""
    return replace(_pyramid("consistent_supervision", kind, None), region=ConsistentSupervision())


def scale_dependent_pooling(kind: str) -> Recipe:
    """Each region from the backbone's map for its height, with a box head for each map; background is rejected on fine
    maps already."""
    recipe = _region("scale_dependent_pooling", kind, ScaleDependentPooling())
    return replace(recipe, neck=FeatureHierarchy)


def scale_aware(kind: str) -> Recipe:
    """Two box heads, for small and for large regions, mixed by the region's height."""
    return _region("scale_aware", kind, ScaleAware())


def super_resolution(kind: str) -> Recipe:
    """Small regions get the features of regions twice as large, from a generator that learns against a discriminator,
    and a head of their own. In training the backbone looks twice more."""
    return _region("super_resolution", kind, SuperResolution())


def nwd(kind: str) -> Recipe:
    """Boxes as normal distributions, for tiny objects: what they are assigned by, and their loss; C is the mean side of
    the objects at hand. In R-CNN the assignment of the proposal network."""
    if check_kind(kind) == "rcnn":
        return Recipe(name="nwd", proposals=Stage(assign=NWDAssigner(constant=None)))
    if kind != "dense":
        raise ValueError(f"recipe 'nwd' assigns anchors by thresholds, and {kind!r} detectors do it in their own way")
    assigner = NWDAssigner(positive=0.5, negative=0.4, constant=None)
    return Recipe(name="nwd", stages=Stage(assign=assigner, box_loss=NWDLoss(constant=None), box_weight=2.0))


def size_balanced(kind: str) -> Recipe:
    """Weights that even out how much the positives of small, medium and large objects count."""
    check_kind(kind)
    return Recipe(name="size_balanced", stages=Stage(weigh=SizeBalancedWeights()))


def trident(kind: str) -> Recipe:
    """Three branches of the backbone's last stage with shared weights and different fields, each for objects of its own
    sizes. Needs a detector with a pyramid."""
    return _branched("trident", kind, Trident())


def trident_fast(kind: str) -> Recipe:
    """As `trident`, but every branch learns all objects and the middle one detects alone, as fast as the detector."""
    return _branched("trident_fast", kind, Trident(ranges=None, branch=1))


def efip(kind: str) -> Recipe:
    """Each level also sees the image in its own size, through four convolutions: an image pyramid that costs little."""
    return _enriched("efip", kind, EFIP())


def mscf(kind: str) -> Recipe:
    """The finest level sees context of three widths in the small image, and hands it on to the coarser ones."""
    return _enriched("mscf", kind, MSCF())


def efgr(kind: str) -> Recipe:
    """EFGRNet: the features of `mscf`, and two steps on each level: the first filters and moves the anchors and tells
    the second where to look. Needs RetinaNet's head."""
    if check_kind(kind) != "dense":
        raise ValueError("recipe 'efgr' adds to RetinaNet's head: it needs a one-stage detector of kind 'dense'")
    stages = mined(HardNegativeSampler(), kind)
    return Recipe(name="efgr", backbone=MSCF(), head=CascadedRefinement, stages=stages)


def _enriched(name: str, kind: str, backbone: Callable) -> Recipe:
    if check_kind(kind) == "yolo":
        raise ValueError(f"recipe {name!r} enriches the levels of a detector, and YOLOv2 ('yolo') predicts from one")
    return Recipe(name=name, backbone=backbone)


def snip(kind: str) -> Recipe:
    """Each training image at one of three scales, with the objects alone that are then of a middling size; detection at
    all three."""
    views = SNIP()
    return Recipe(name="snip", views=views, look=_same_scales("snip", kind, views))


def sniper(kind: str) -> Recipe:
    """Training on small windows about the objects, enlarged according to their size, and on those that a weak network
    finds hard; detection at three scales."""
    views = SNIPER()
    return Recipe(name="sniper", views=views, look=_same_scales("sniper", kind, views))


def sliced(kind: str) -> Recipe:
    """Training and detection in windows of the images' own pixels, as large as the training size, and on the whole: for
    tiny objects in large images."""
    check_kind(kind)
    return Recipe(name="sliced", views=Sliced(), look=InSlices())


def sliced_inference(kind: str) -> Recipe:
    """Training as it is, detection in windows of the images' own pixels and on the whole: for small objects in images
    that are scaled down, at the price of five or more looks at each."""
    check_kind(kind)
    return Recipe(name="sliced_inference", look=InSlices())


def _same_scales(name: str, kind: str, views: SNIP | SNIPER) -> AtScales:
    if check_kind(kind) == "ssd":
        raise ValueError(f"recipe {name!r} detects at several scales, where the default boxes of an SSD see the same")
    return AtScales(scales=views.scales, ranges=views.ranges)


def _branched(name: str, kind: str, trident: Trident) -> Recipe:
    if check_kind(kind) in ("ssd", "yolo"):
        raise ValueError(f"recipe {name!r} dilates the stage below a feature pyramid, and {kind!r} detectors have none")
    return Recipe(name=name, backbone=trident)


def _region(name: str, kind: str, region: Callable | tuple[Callable, ...]) -> Recipe:
    """Other parts in the region head."""
    two_stages(name, kind)
    return Recipe(name=name, region=region)


def _pyramid(name: str, kind: str, neck: Callable | None) -> Recipe:
    """Another neck in place of the feature pyramid, or (None) something upon that."""
    if check_kind(kind) in ("ssd", "yolo"):
        raise ValueError(f"recipe {name!r} needs a feature pyramid, and {kind!r} detectors have none")
    return Recipe(name=name, neck=neck)
