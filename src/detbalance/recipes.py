"""The named recipes: functions of the detector's kind, "dense" (one stage, a sigmoid a class: RetinaNet, FCOS), "ssd"
(one stage, a softmax: SSD), "yolo" (YOLOv2) or "rcnn" (two stages).

Each sets all that its paper needs, so that naming it is enough. A recipe of your own is a function of the same shape in
a file of your own: `--recipe my_file.py:my_recipe`.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from .anchor_settings import AnchorSettings
from .assigners import (
    ATSSAssigner,
    DynamicAssigner,
    MaxIoUAssigner,
    NWDAssigner,
    PAAAssigner,
    SimOTAAssigner,
    TaskAlignedAssigner,
)
from .augment import ContextPaste, CopyPaste, CutPaste, InstanceSwitching, MixUp, Mosaic
from .box_generators import IoUUniformJitter, PositiveRoIGenerator
from .combination import combine, terms
from .detectors.cascade_rcnn import STAGES
from .heads import ClassAdaptiveThreshold, ObjectnessBranch, ObjectnessModule, ResidualObjectness
from .image_sampling import (
    BalancedBatches,
    ClassAwareSampling,
    EffectiveNumberSampling,
    FailingClassSampling,
    ImageLossSampling,
    OverSampling,
    RepeatFactorSampling,
    SizeGroupSampling,
    UnderSampling,
)
from .losses import (
    ALRPLoss,
    APLoss,
    BalancedGroupSoftmax,
    BalancedL1Loss,
    CombinedBoxLoss,
    CrossEntropyLoss,
    DRLoss,
    DynamicSmoothL1Loss,
    EQLv2Loss,
    EqualisedFocalLoss,
    EquilibriumLoss,
    FederatedLoss,
    FocalLoss,
    FreeAnchorLoss,
    GHMCLoss,
    GHMRLoss,
    GIoULoss,
    IoUBalancedLoss,
    KLLoss,
    LogitAdjustment,
    NWDLoss,
    QualityFocalLoss,
    RankSortLoss,
    SeesawLoss,
    VarifocalLoss,
)
from .necks import (
    MLFPN,
    NASFPN,
    STDN,
    AugFPN,
    AutoFPN,
    BalancedFPN,
    BiFPN,
    DynamicHead,
    FeatureHierarchy,
    PANet,
    ParallelFPN,
    ReconfiguredFPN,
    ZoomOutIn,
)
from .objectives import (
    DynamicTaskPrioritisation,
    DynamicWeightAveraging,
    GradNorm,
    GuidedLoss,
    SelfBalancing,
    SelfPacedTaskWeighting,
    UncertaintyWeighting,
)
from .recipe import Phase, Recipe, Stage
from .refinements import IterativeRefinement
from .samplers import (
    AllSampler,
    BootstrappedSampler,
    CombinedSampler,
    ForegroundBalancedSampler,
    HardNegativeSampler,
    InstanceBalancedSampler,
    IoUBalancedSampler,
    IoULowerBound,
    LossRankMining,
    NegativeAnchorFilter,
    ObjectnessPrior,
    OHEMSampler,
    OverlapSampler,
    RandomSampler,
    ScoreHLRSampler,
    SemiHardSampler,
)
from .suppressions import VarianceVoting
from .weights import (
    ClassBalancedWeights,
    ClassificationAwareWeights,
    ConstantWeights,
    CoverageBalancedWeights,
    IoUBalancedWeights,
    PositionBalancedWeights,
    PrimeSampleWeights,
    ScoreWeights,
    SizeBalancedWeights,
)

__all__ = ["COMBINED", "get", "kinds", "names", "parts"]

KINDS = ("dense", "ssd", "yolo", "rcnn")

COMBINED: dict[str, dict[str, tuple[str, ...]]] = {}
"""Of each recipe that is put together from others, its parts in each kind of detector."""


def baseline(kind: str) -> Recipe:
    """The detector as it is."""
    _check(kind)
    return Recipe(name="baseline")


def cross_entropy(kind: str) -> Recipe:
    """No remedy at all: cross-entropy over every candidate, nothing sampled and nothing weighed.

    In R-CNN the RoI head keeps its random sampling and the proposal network trains on every anchor.
    """
    if _check(kind) == "dense":
        return Recipe(name="cross_entropy", stages=Stage(cls_loss=CrossEntropyLoss()))
    if kind != "rcnn":
        return Recipe(name="cross_entropy", stages=_softmax_over_all(CrossEntropyLoss(softmax=True)))
    return Recipe(name="cross_entropy", proposals=Stage(sample=AllSampler(), cls_loss=CrossEntropyLoss(), prior=0.01))


def focal(kind: str) -> Recipe:
    """Focal loss over every candidate (in R-CNN: every anchor of the proposal network) instead of sampling."""
    if _check(kind) == "dense":
        return Recipe(name="focal", stages=Stage(cls_loss=FocalLoss(), prior=0.01))
    if kind != "rcnn":
        return Recipe(name="focal", stages=_softmax_over_all(FocalLoss(softmax=True)))
    return Recipe(name="focal", proposals=Stage(sample=AllSampler(), cls_loss=FocalLoss(), prior=0.01))


def random_sampling(kind: str) -> Recipe:
    """Random sampling at the ratios of Faster R-CNN, with cross-entropy."""
    if _check(kind) != "rcnn":
        return Recipe(name="random_sampling", stages=_mined(RandomSampler(count=256, positive_fraction=0.5), kind))
    return Recipe(name="random_sampling", stages=Stage(sample=RandomSampler(count=None, positive_fraction=None)))


def ohem(kind: str) -> Recipe:
    """Online hard example mining: the candidates of the highest loss train."""
    if _check(kind) != "rcnn":
        return Recipe(name="ohem", stages=_mined(OHEMSampler(count=256), kind))
    return Recipe(name="ohem", stages=Stage(sample=OHEMSampler(count=64)))


def hard_negatives(kind: str) -> Recipe:
    """SSD's mining: all positives, and three times as many negatives, those of the highest loss. SSD itself does it
    unasked: there it changes nothing."""
    if _check(kind) == "dense":
        return Recipe(name="hard_negatives", stages=_mined(HardNegativeSampler(), kind))
    return Recipe(name="hard_negatives", stages=Stage(sample=HardNegativeSampler()))


def ssd_mining(kind: str) -> Recipe:
    """The same as `hard_negatives`, by the name of the detector that brought it."""
    return replace(hard_negatives(kind), name="ssd_mining")


def iou_balanced(kind: str) -> Recipe:
    """Libra's negatives: drawn evenly over their IoU with the objects."""
    return _sampled("iou_balanced", kind, negative=IoUBalancedSampler())


def instance_balanced(kind: str) -> Recipe:
    """Libra's positives: drawn evenly over the objects."""
    return _sampled("instance_balanced", kind, positive=InstanceBalancedSampler())


def libra_sampling(kind: str) -> Recipe:
    """Libra's sampling, positives and negatives."""
    return _sampled("libra_sampling", kind, positive=InstanceBalancedSampler(), negative=IoUBalancedSampler())


def balanced_l1(kind: str) -> Recipe:
    """Libra's box loss: inliers gain gradient, outliers are capped."""
    return Recipe(name="balanced_l1", stages=Stage(box_loss=_balanced_l1(kind)))


def combined_box_loss(kind: str) -> Recipe:
    """Inliers, ambiguity and overlap in one box loss; in R-CNN with a variance of each box, and voting by it. It reads
    the code of anchors: not for FCOS and YOLOv2."""
    if _check(kind) == "yolo":
        raise ValueError("recipe 'combined_box_loss' reads the box code of anchors, which YOLOv2 ('yolo') has not")
    beta = _balanced_l1(kind).beta
    if kind == "rcnn":
        stage = Stage(
            box_loss=CombinedBoxLoss(variance="box", beta=beta, weights=(10.0,) * 4), suppress=VarianceVoting()
        )
    else:
        weights = (1.0, 1.0, 1.0, 1.0) if kind == "dense" else (10.0, 10.0, 5.0, 5.0)
        stage = Stage(box_loss=CombinedBoxLoss(beta=beta, weights=weights))
    return Recipe(name="combined_box_loss", stages=stage)


def balanced_fpn(kind: str) -> Recipe:
    """Libra's pyramid: every level sees the average of all. Needs a detector with a pyramid."""
    return Recipe(name="balanced_fpn", neck=_balanced_fpn(kind))


def feature_hierarchy(kind: str) -> Recipe:
    """No pyramid: each level is predicted from the backbone's own map. What the pyramids are measured by."""
    return _pyramid("feature_hierarchy", kind, FeatureHierarchy)


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
    """Context from the deepest map goes down the pyramid. Without the paper's two parts in the heads."""
    return _pyramid("aug_fpn", kind, AugFPN)


def dynamic_head(kind: str) -> Recipe:
    """Six blocks of attention over scales, places and tasks upon the pyramid."""
    return _pyramid("dynamic_head", kind, DynamicHead)


def libra(kind: str) -> Recipe:
    """Libra R-CNN (Pang et al. 2019): balanced sampling, pyramid and box loss. RetinaNet and FCOS sample nothing, so
    there it is the pyramid and the box loss, as in the paper; SSD has no pyramid, so there it is the other two."""
    loss = _balanced_l1(kind)
    if kind == "dense":
        return Recipe(name="libra", neck=_balanced_fpn(kind), stages=Stage(box_loss=loss))
    stage = replace(libra_sampling(kind).stages, box_loss=loss)
    return Recipe(name="libra", neck=None if kind == "ssd" else _balanced_fpn(kind), stages=stage)


def isr_p(kind: str) -> Recipe:
    """PISA's importance-based reweighting of the positives."""
    _not_yolo("isr_p", kind)
    return Recipe(name="isr_p", stages=Stage(weigh=PrimeSampleWeights(negative=False)))


def isr_n(kind: str) -> Recipe:
    """PISA's selection and reweighting of the negatives by the score-hierarchical local rank; two stages only."""
    if _check(kind) != "rcnn":
        raise ValueError("recipe 'isr_n' selects among proposals: it needs a two-stage detector ('rcnn')")
    sample = _combined(positive=RandomSampler(), negative=ScoreHLRSampler())
    return Recipe(name="isr_n", stages=Stage(sample=sample, weigh=PrimeSampleWeights(positive=False)))


def isr(kind: str) -> Recipe:
    """PISA's importance-based reweighting (of the positives alone in a one-stage detector)."""
    if _not_yolo("isr", kind) != "rcnn":
        return Recipe(name="isr", stages=isr_p(kind).stages)
    return Recipe(name="isr", stages=Stage(sample=isr_n(kind).stages.sample, weigh=PrimeSampleWeights()))


def carl(kind: str) -> Recipe:
    """PISA's classification-aware regression loss."""
    _not_yolo("carl", kind)
    return Recipe(name="carl", stages=Stage(weigh=ClassificationAwareWeights()))


def pisa(kind: str) -> Recipe:
    """Prime sample attention (Cao et al. 2020): importance-based reweighting and classification-aware regression."""
    stage = isr(kind).stages
    weigh = (stage.weigh, ClassificationAwareWeights())
    return Recipe(name="pisa", stages=Stage(sample=stage.sample, weigh=weigh))


def lrm(kind: str) -> Recipe:
    """Loss rank mining: of the final map only the elements of the highest loss train, with the detector's own losses.

    How many the paper keeps is not known; 256 are as many as the other samplers of this file draw.
    """
    if _check(kind) == "rcnn":
        raise ValueError("recipe 'lrm' mines the final map of a one-stage detector; for two stages there is 'ohem'")
    return Recipe(name="lrm", stages=Stage(sample=LossRankMining(keep=256)))


def iou_lower_bound(kind: str) -> Recipe:
    """Fast R-CNN's negatives: those that overlap an object by 0.1 to 0.5."""
    return _sampled("iou_lower_bound", kind, negative=IoULowerBound())


def overlap_sampling(kind: str) -> Recipe:
    """Negatives drawn evenly from those that overlap the sampled positives much and little."""
    return _sampled("overlap_sampling", kind, negative=OverlapSampler())


def semi_hard(kind: str) -> Recipe:
    """Negatives that score just below an object, as in metric learning."""
    return _sampled("semi_hard", kind, negative=SemiHardSampler())


def bootstrapping(kind: str) -> Recipe:
    """Negatives on which an earlier model failed, and others at random. `bootstrapping.bootstrap` trains the models and
    finds the negatives; trained by itself it is random sampling."""
    return _sampled("bootstrapping", kind, negative=BootstrappedSampler())


def objectness_prior(kind: str) -> Recipe:
    """RON: an objectness branch, which multiplies the scores, and classes that are learnt where it sees an object."""
    _retinanet("objectness_prior", kind)
    head = partial(ObjectnessBranch, prior=0.1, weight=1.0, ratio=3.0, classes_on="all", class_prior=0.1)
    return Recipe(name="objectness_prior", head=head, stages=_mined(ObjectnessPrior(), kind))


def negative_anchor_filter(kind: str) -> Recipe:
    """RefineDet: anchors that a binary classifier finds to be background beyond doubt take no part, of the other
    negatives the hardest train."""
    _retinanet("negative_anchor_filter", kind)
    head = partial(ObjectnessModule, guide=False)
    return Recipe(name="negative_anchor_filter", head=head, stages=_mined(NegativeAnchorFilter(), kind))


def objectness_module(kind: str) -> Recipe:
    """EFGRNet: an objectness module before each prediction layer filters the easy anchors and guides the features."""
    _retinanet("objectness_module", kind)
    return Recipe(name="objectness_module", head=ObjectnessModule, stages=_mined(HardNegativeSampler(), kind))


def objectness_branch(kind: str) -> Recipe:
    """Classes learnt from objects alone, beside an objectness learnt from all anchors; cross-entropy, no sampling."""
    _retinanet("objectness_branch", kind)
    return Recipe(name="objectness_branch", head=ObjectnessBranch, stages=_decoupled())


def residual_objectness(kind: str) -> Recipe:
    """Residual objectness: as `objectness_branch`, and the objectness is refined in a second step."""
    _retinanet("residual_objectness", kind)
    return Recipe(name="residual_objectness", head=ResidualObjectness, stages=_decoupled())


def sampling_free(kind: str) -> Recipe:
    """Cross-entropy over every candidate, tamed by a bias from the data, guided loss, and a threshold for each class.

    In R-CNN the proposal network and the region head train on all; the threshold is the authors' lower one.
    """
    if _check(kind) == "rcnn":
        stages = Stage(sample=AllSampler(), score_threshold=0.001)
        proposals = Stage(sample=AllSampler(), prior="data")
        return Recipe(name="sampling_free", proposals=proposals, stages=stages, objective=GuidedLoss(weight=2.0))
    _retinanet("sampling_free", kind)
    stages = Stage(cls_loss=CrossEntropyLoss(), prior="data", score_threshold=1e-6)
    return Recipe(name="sampling_free", head=ClassAdaptiveThreshold, stages=stages, objective=GuidedLoss())


def ghm(kind: str) -> Recipe:
    """Gradient harmonising: 30 bins for classes, 10 for boxes; in R-CNN the classes of the proposal network."""
    _sigmoid("ghm", kind)
    if kind == "rcnn":
        return Recipe(name="ghm", proposals=Stage(sample=AllSampler(), cls_loss=GHMCLoss(), prior=0.01))
    # The authors multiply the mean over the coordinates by 10; here it is the sum over four.
    return Recipe(name="ghm", stages=Stage(cls_loss=GHMCLoss(), box_loss=GHMRLoss(), box_weight=2.5, prior=0.01))


def quality_focal(kind: str) -> Recipe:
    """Quality focal loss with GIoU loss at weight 2; in R-CNN the quality focal loss of the proposal network."""
    return _quality("quality_focal", kind, QualityFocalLoss(), 2.0)


def varifocal(kind: str) -> Recipe:
    """Varifocal loss with GIoU loss at weight 1.5; in R-CNN the varifocal loss of the proposal network."""
    return _quality("varifocal", kind, VarifocalLoss(), 1.5)


def iou_balanced_loss(kind: str) -> Recipe:
    """IoU-balanced classification and localisation loss. The box loss reads the code of anchors: not for FCOS."""
    if _not_yolo("iou_balanced_loss", kind) == "dense":
        loss = IoUBalancedLoss(beta=0.11)
    else:
        loss = IoUBalancedLoss(weights=(10.0, 10.0, 5.0, 5.0))
    return Recipe(name="iou_balanced_loss", stages=Stage(weigh=IoUBalancedWeights(), box_loss=loss))


def atss(kind: str) -> Recipe:
    """ATSS: each object's threshold from the candidates near it, with the paper's GIoU loss; SSD keeps its losses."""
    if _not_yolo("atss", kind) == "ssd":
        return Recipe(name="atss", stages=Stage(assign=ATSSAssigner()))
    return _assigned("atss", kind, ATSSAssigner())


def sim_ota(kind: str) -> Recipe:
    """SimOTA: the candidates near an object on which the detector's loss is lowest, with focal and GIoU loss."""
    return _assigned("sim_ota", kind, SimOTAAssigner())


def task_aligned(kind: str) -> Recipe:
    """Task-aligned assignment with quality focal loss, which learns the IoU that the assignment asks for, and GIoU."""
    return _assigned("task_aligned", kind, TaskAlignedAssigner(), cls_loss=QualityFocalLoss())


def paa(kind: str) -> Recipe:
    """Probabilistic anchor assignment with the focal loss and GIoU loss of its paper."""
    return _assigned("paa", kind, PAAAssigner(), box_weight=1.3)


def free_anchor(kind: str) -> Recipe:
    """FreeAnchor: each object learns which of its fifty best anchors shows it. Made for anchors: RetinaNet's."""
    if _check(kind) != "dense":
        raise ValueError("recipe 'free_anchor' needs all anchors of a one-stage detector with sigmoids ('dense')")
    # The assigner only sees to it that no anchor is ignored.
    stage = Stage(assign=MaxIoUAssigner(positive=0.5, negative=0.5), joint_loss=FreeAnchorLoss(), prior=0.02)
    return Recipe(name="free_anchor", stages=stage)


def constant_weights(kind: str) -> Recipe:
    """YOLO's constants: background counts half, boxes five times; cross-entropy over every candidate."""
    if _not_yolo("constant_weights", kind) == "rcnn":
        stage = Stage(sample=AllSampler(), weigh=ConstantWeights(), box_weight=5.0, prior=0.01)
        return Recipe(name="constant_weights", proposals=stage)
    loss = CrossEntropyLoss(softmax=kind == "ssd")
    stage = Stage(sample=AllSampler(), cls_loss=loss, weigh=ConstantWeights(), box_weight=5.0, prior=0.01)
    return Recipe(name="constant_weights", stages=stage)


def ap_loss(kind: str) -> Recipe:
    """AP loss over every candidate, the detector's own box loss; in R-CNN the anchors of the proposal network."""
    return _ranked("ap_loss", kind, Stage(cls_loss=APLoss(), prior=0.01, score_threshold=0.01))


def alrp(kind: str) -> Recipe:
    """aLRP loss, class and box together; in R-CNN the anchors of the proposal network."""
    return _ranked("alrp", kind, Stage(joint_loss=ALRPLoss(), prior=0.01, score_threshold=0.001))


def rank_sort(kind: str) -> Recipe:
    """Rank & Sort loss on ATSS, with GIoU loss weighed by the scores, and the box loss scaled to the class loss; in
    R-CNN on the anchors of the proposal network, with its own assignment.

    A score that only ranks is no probability: the authors' threshold of 0.05 cuts most detections off after a short
    training (bccd's val, 8 epochs, IoU thresholds: AP 50.0 at 0.001 and at 0.01, 21.8 at 0.05; with ATSS 52.3)."""
    stage = Stage(cls_loss=RankSortLoss(), box_loss=GIoULoss(), weigh=ScoreWeights(), prior=0.01, score_threshold=0.001)
    if kind == "rcnn":
        balance = SelfBalancing(pairs=(("loss_objectness", "loss_rpn_box_reg"),))
    else:
        stage, balance = replace(stage, assign=ATSSAssigner()), SelfBalancing()
    return replace(_ranked("rank_sort", kind, stage), objective=balance)


def dr_loss(kind: str) -> Recipe:
    """Distributional ranking within each image, from even odds, with one threshold at IoU 0.5 between object and
    background; in R-CNN on the anchors of the proposal network, which keeps its thresholds."""
    if kind == "rcnn":
        return _ranked("dr_loss", kind, Stage(cls_loss=DRLoss(), prior=0.5))
    assign = MaxIoUAssigner(positive=0.5, negative=0.5)
    return _ranked("dr_loss", kind, Stage(assign=assign, cls_loss=DRLoss(), prior=0.5, score_threshold=0.2))


def uncertainty(kind: str) -> Recipe:
    """Each task learns how noisy it is, and weighs the less."""
    _check(kind)
    return Recipe(name="uncertainty", objective=UncertaintyWeighting())


def gradnorm(kind: str) -> Recipe:
    """GradNorm: the gradients of the tasks at the shared layers keep a common size, larger where a task lags behind."""
    _check(kind)
    return Recipe(name="gradnorm", objective=GradNorm())


def dwa(kind: str) -> Recipe:
    """Dynamic weight averaging: tasks whose loss fell slowly over the last epochs gain weight."""
    _check(kind)
    return Recipe(name="dwa", objective=DynamicWeightAveraging())


def dtp(kind: str) -> Recipe:
    """Dynamic task prioritisation by true-class probability and IoU; the sum of the weights stays."""
    _check(kind)
    return Recipe(name="dtp", objective=DynamicTaskPrioritisation(normalise=True))


def self_paced(kind: str) -> Recipe:
    """Self-paced tasks: those that have come down furthest from their first loss count most, at last all alike."""
    _check(kind)
    return Recipe(name="self_paced", objective=SelfPacedTaskWeighting(relative=True))


def repeat_factor(kind: str) -> Recipe:
    """LVIS's repeat factor sampling, every class below the most frequent one repeated by the root of its rarity."""
    return _drawn("repeat_factor", kind, RepeatFactorSampling(threshold=None))


def class_aware(kind: str) -> Recipe:
    """Images drawn class by class, every class in turn."""
    return _drawn("class_aware", kind, ClassAwareSampling())


def over_sampling(kind: str) -> Recipe:
    """Images of rare classes repeated until all classes are in equally many, ten times at most."""
    return _drawn("over_sampling", kind, OverSampling(limit=10.0))


def under_sampling(kind: str) -> Recipe:
    """Images of frequent classes left out, others in each pass, a tenth of them kept at least."""
    return _drawn("under_sampling", kind, UnderSampling(least=0.1))


def effective_number_sampling(kind: str) -> Recipe:
    """Images drawn by the inverse of the effective number of images of their rarest class."""
    return _drawn("effective_number_sampling", kind, EffectiveNumberSampling())


def size_groups(kind: str) -> Recipe:
    """Images drawn size by size: with small, with medium and with large objects in turn."""
    return _drawn("size_groups", kind, SizeGroupSampling())


def failing_classes(kind: str) -> Recipe:
    """Images of the classes of low AP, measured after every epoch, drawn more often."""
    return _drawn("failing_classes", kind, FailingClassSampling())


def easy_images_first(kind: str) -> Recipe:
    """Self-paced learning: images of low loss first, those of high loss let in epoch by epoch."""
    return _drawn("easy_images_first", kind, ImageLossSampling())


def hard_images_first(kind: str) -> Recipe:
    """Images of high loss first, those of low loss let in epoch by epoch."""
    return _drawn("hard_images_first", kind, ImageLossSampling(hardest_first=True))


def balanced_batches(kind: str) -> Recipe:
    """Images drawn class by class, and spread over the batches so that each has its share of every class."""
    return _drawn("balanced_batches", kind, BalancedBatches(images=ClassAwareSampling()))


def class_balanced(kind: str) -> Recipe:
    """The class loss of objects weighed by the inverse frequency of their class."""
    return _weighed("class_balanced", kind, ClassBalancedWeights(counts=None))


def effective_number(kind: str) -> Recipe:
    """The class loss of objects weighed by the inverse effective number of objects of their class."""
    return _weighed("effective_number", kind, ClassBalancedWeights(counts=None, beta=0.999))


def position_balanced(kind: str) -> Recipe:
    """Positives weighed so that all places about their objects count alike; in R-CNN those of the region head."""
    return _weighed("position_balanced", kind, PositionBalancedWeights())


def coverage_balanced(kind: str) -> Recipe:
    """Samples weighed so that every covered place of an image counts alike; in R-CNN those of the region head."""
    return _weighed("coverage_balanced", kind, CoverageBalancedWeights())


def foreground_balanced(kind: str) -> Recipe:
    """Positives drawn evenly over the classes of the image."""
    return _sampled("foreground_balanced", kind, positive=ForegroundBalancedSampler())


def seesaw(kind: str) -> Recipe:
    """Seesaw loss, in the detectors with a softmax."""
    return _classified("seesaw", kind, softmax=SeesawLoss())


def loce(kind: str) -> Recipe:
    """LOCE's equilibrium loss, in the detectors with a softmax."""
    return _classified("loce", kind, softmax=EquilibriumLoss())


def eqlv2(kind: str) -> Recipe:
    """Equalization loss v2 over every anchor, in the detectors with one sigmoid a class."""
    return _classified("eqlv2", kind, sigmoid=EQLv2Loss())


def equalised_focal(kind: str) -> Recipe:
    """Equalised focal loss, in the detectors with one sigmoid a class."""
    return _classified("equalised_focal", kind, sigmoid=EqualisedFocalLoss())


def federated(kind: str) -> Recipe:
    """The class loss over 50 classes a step. Data of no more classes are trained as in the baseline."""
    entropy = CrossEntropyLoss(softmax=True)
    losses = {base.softmax: FederatedLoss(counts=None, base=base) for base in (entropy, FocalLoss())}
    return _classified("federated", kind, softmax=losses[True], sigmoid=losses[False])


def logit_adjustment(kind: str) -> Recipe:
    """Logits raised by the logarithm of their class's frequency in training, so that rare classes win by a margin."""
    entropy = CrossEntropyLoss(softmax=True)
    losses = {base.softmax: LogitAdjustment(counts=None, base=base) for base in (entropy, FocalLoss())}
    return _classified("logit_adjustment", kind, softmax=losses[True], sigmoid=losses[False])


def group_softmax(kind: str) -> Recipe:
    """Balanced group softmax: classes compete with those of like frequency alone; two stages only."""
    _two_stages("group_softmax", kind)
    return Recipe(name="group_softmax", stages=Stage(cls_loss=BalancedGroupSoftmax(counts=None)))


def decoupled(kind: str) -> Recipe:
    """Classifier re-training (Kang et al. 2020): everything on all images for three quarters of the epochs, then the
    last layer of the classifier, started anew, on images drawn evenly over the classes."""
    if _check(kind) == "yolo":
        raise ValueError("recipe 'decoupled' trains the classifier alone; YOLOv2 ('yolo') predicts all with one layer")
    second = Phase(share=1, images=ClassAwareSampling(), trains="classifier", restart=True)
    return Recipe(name="decoupled", phases=(Phase(share=3), second))


def balanced_finetuning(kind: str) -> Recipe:
    """Transfer: everything on all images for three quarters of the epochs, then at a tenth of the learning rate on a
    subset in which the classes are balanced."""
    _check(kind)
    second = Phase(share=1, images=UnderSampling(), learning_rate=0.1)
    return Recipe(name="balanced_finetuning", phases=(Phase(share=3), second))


def nwd(kind: str) -> Recipe:
    """Boxes as normal distributions, for tiny objects: what they are assigned by, and their loss; C is the mean side of
    the objects at hand. In R-CNN the assignment of the proposal network."""
    if _check(kind) == "rcnn":
        return Recipe(name="nwd", proposals=Stage(assign=NWDAssigner(constant=None)))
    if kind != "dense":
        raise ValueError(f"recipe 'nwd' assigns anchors by thresholds, and {kind!r} detectors do it in their own way")
    assigner = NWDAssigner(positive=0.5, negative=0.4, constant=None)
    return Recipe(name="nwd", stages=Stage(assign=assigner, box_loss=NWDLoss(constant=None), box_weight=2.0))


def size_balanced(kind: str) -> Recipe:
    """Weights that even out how much the positives of small, medium and large objects count."""
    _check(kind)
    return Recipe(name="size_balanced", stages=Stage(weigh=SizeBalancedWeights()))


def proi(kind: str) -> Recipe:
    """The region head's positives generated: evenly over the classes of the image and over IoUs; two stages only."""
    _two_stages("proi", kind)
    return Recipe(name="proi", stages=Stage(box_generator=PositiveRoIGenerator()))


def iou_uniform(kind: str) -> Recipe:
    """Jittered objects, evenly over IoUs, train the region head's boxes; its classes train on the proposals as before.
    Two stages only."""
    _two_stages("iou_uniform", kind)
    return Recipe(name="iou_uniform", stages=Stage(box_generator=IoUUniformJitter()))


def cascade(kind: str) -> Recipe:
    """Cascade R-CNN (Cai and Vasconcelos 2018): three region heads in a row, each stricter about what an object is and
    each fed with the boxes of the one before; two stages only. `cascade_rcnn` is the detector that has them unasked."""
    _two_stages("cascade", kind)
    return Recipe(name="cascade", stages=STAGES)


def kl_loss(kind: str) -> Recipe:
    """KL loss: the region head learns how sure each side of a box is, and detections vote by it; two stages only."""
    _two_stages("kl_loss", kind)
    return Recipe(name="kl_loss", stages=Stage(box_loss=KLLoss(), suppress=VarianceVoting()))


def dynamic_rcnn(kind: str) -> Recipe:
    """Dynamic R-CNN: the region head's IoU threshold and the beta of its smooth L1 loss follow the proposals as these
    get better; two stages only."""
    _two_stages("dynamic_rcnn", kind)
    return Recipe(name="dynamic_rcnn", stages=Stage(assign=DynamicAssigner(), box_loss=DynamicSmoothL1Loss()))


def iterative_refinement(kind: str) -> Recipe:
    """The region head regresses its own boxes a second time in detection; training is the baseline's. Two stages only.
    What a cascade is measured by."""
    _two_stages("iterative_refinement", kind)
    return Recipe(name="iterative_refinement", stages=Stage(refine=IterativeRefinement()))


def cut_paste(kind: str) -> Recipe:
    """Objects cut out of other images and pasted anywhere, every class as often, under several blendings."""
    return _augmented("cut_paste", kind, CutPaste())


def copy_paste(kind: str) -> Recipe:
    """Objects of one image over another, both jittered strongly in scale; the pasted ones of every class as often."""
    return _augmented("copy_paste", kind, CopyPaste(classes="even"))


def context_paste(kind: str) -> Recipe:
    """Objects of every class as often, pasted where the data show such objects, and as large."""
    return _augmented("context_paste", kind, ContextPaste())


def instance_switching(kind: str) -> Recipe:
    """Objects in the places of others of their class, more of the classes of low AP, with a class-balanced loss."""
    balanced = Stage(weigh=ClassBalancedWeights(counts=None))
    return replace(_augmented("instance_switching", kind, InstanceSwitching()), stages=balanced)


def mosaic(kind: str) -> Recipe:
    """Half of the images made of four."""
    return _augmented("mosaic", kind, Mosaic())


def mixup(kind: str) -> Recipe:
    """Half of the images mixed of two."""
    return _augmented("mixup", kind, MixUp())


def names() -> list[str]:
    """Every named recipe, in the order of this file.

    >>> names()[:3]
    ['baseline', 'cross_entropy', 'focal']
    """
    return [n for n, f in globals().items() if inspect.isfunction(f) and _is_recipe(n, f)]


def kinds(name: str) -> tuple[str, ...]:
    """The kinds of detector that take a recipe.

    >>> kinds("isr_n")
    ('rcnn',)
    """
    taken = []
    for kind in KINDS:
        try:
            get(name, kind)
        except ValueError:
            continue
        taken.append(kind)
    return tuple(taken)


def get(name: str, kind: str) -> Recipe:
    """A recipe by name, `file.py:function` for one of your own, `anchors.json` for anchors that `detbalance anchors`
    found, or several put together: `a+b`; `c-a` is `c` without its part `a`.

    Raises ValueError for a name that is none of them, listing those there are; for recipes that fill the same slot.

    >>> get("focal", "dense").stages.cls_loss
    FocalLoss(gamma=2.0, alpha=0.25, softmax=False)
    >>> get("focal+balanced_l1", "dense").stages.box_loss
    BalancedL1Loss(alpha=0.5, gamma=1.5, beta=0.11)
    """
    chosen = parts(name, kind)
    if chosen == (name,):
        return _named(name, kind)
    return combine(name, *(_named(part, kind) for part in chosen))


def parts(name: str, kind: str) -> tuple[str, ...]:
    """The names that a recipe is put together from; itself alone, where it is one method.

    >>> parts("focal+balanced_l1", "dense")
    ('focal', 'balanced_l1')
    """
    chosen: list[str] = []
    for added, part in terms(name):
        if added:
            chosen += COMBINED.get(part, {}).get(kind, (part,))
        elif part in chosen:
            chosen.remove(part)
        else:
            raise ValueError(f"{part!r} is no part of {name.partition('-')[0]!r}, which has {', '.join(chosen)}")
    if not chosen:
        raise ValueError(f"nothing is left of recipe {name!r}")
    return tuple(chosen)


def _named(name: str, kind: str) -> Recipe:
    path, colon, function = name.rpartition(":")
    if colon and path.endswith(".py"):
        return _from_file(Path(path), function, kind)
    if name.endswith(".json"):
        return _with_anchors(Path(name), kind)
    if name not in names():
        raise ValueError(
            f"no recipe {name!r}; there are {', '.join(names())}, `file.py:function` for your own, "
            "`anchors.json` of `detbalance anchors`, `a+b` for several"
        )
    return globals()[name](kind)


def _from_file(path: Path, function: str, kind: str) -> Recipe:
    if not path.is_file():
        raise ValueError(f"recipe file {str(path)!r} does not exist")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    made = getattr(module, function, None)
    recipe = made(kind) if callable(made) else made
    if not isinstance(recipe, Recipe):
        raise ValueError(
            f"{path}: expected {function!r} to be a Recipe or a function kind -> Recipe but got {recipe!r}"
        )
    return recipe


def _with_anchors(path: Path, kind: str) -> Recipe:
    anchors = AnchorSettings.load(path)
    wanted = {"retinanet": "dense", "ssd": "ssd"}.get(anchors.detector, "rcnn")
    if kind != wanted:
        raise ValueError(f"{path} has anchors for {anchors.detector}, of kind {wanted!r}, not {kind!r}")
    return Recipe(name=path.stem, anchors=anchors)


def _is_recipe(name: str, function: Callable) -> bool:
    return (
        function.__module__ == __name__
        and list(inspect.signature(function).parameters) == ["kind"]
        and (not name.startswith("_"))
    )


def _check(kind: str) -> str:
    if kind not in KINDS:
        raise ValueError(f"expected kind {', '.join(map(repr, KINDS))} but got {kind!r}")
    return kind


def _not_yolo(name: str, kind: str) -> str:
    """Refuse the kind whose objects have one positive element each: there is nothing to choose or rank among."""
    if _check(kind) == "yolo":
        raise ValueError(f"recipe {name!r} needs several positives for each object; YOLOv2 ('yolo') has one")
    return kind


def _two_stages(name: str, kind: str) -> None:
    if _check(kind) != "rcnn":
        raise ValueError(f"recipe {name!r} works on proposals: it needs a two-stage detector ('rcnn')")


def _drawn(name: str, kind: str, images: Callable) -> Recipe:
    """A choice of images, which any detector takes."""
    _check(kind)
    return Recipe(name=name, images=images)


def _augmented(name: str, kind: str, augment: Callable) -> Recipe:
    """New images, which any detector takes."""
    _check(kind)
    return Recipe(name=name, augment=augment)


def _weighed(name: str, kind: str, weights: Callable) -> Recipe:
    """Weights of the classes; in R-CNN in the region head, which alone knows classes."""
    _check(kind)
    return Recipe(name=name, stages=Stage(weigh=weights))


def _classified(name: str, kind: str, *, softmax: Callable | None = None, sigmoid: Callable | None = None) -> Recipe:
    """Another class loss in the detector's own place, the sampling as it is."""
    if _check(kind) == "yolo":
        raise ValueError(f"recipe {name!r} does not know the objectness that YOLOv2 ('yolo') learns with its classes")
    loss = sigmoid if kind == "dense" else softmax
    if loss is None:
        has, needs = ("one sigmoid a class", "a softmax") if kind == "dense" else ("a softmax", "one sigmoid a class")
        raise ValueError(f"recipe {name!r} needs {needs}; {kind!r} detectors have {has}")
    return Recipe(name=name, stages=Stage(cls_loss=loss))


def _retinanet(name: str, kind: str) -> None:
    """Refuse the kinds without RetinaNet's head. In two stages the proposal network is the objectness."""
    if _check(kind) != "dense":
        raise ValueError(f"recipe {name!r} adds to RetinaNet's head: it needs a one-stage detector of kind 'dense'")


def _sigmoid(name: str, kind: str) -> None:
    if _check(kind) in ("ssd", "yolo"):
        raise ValueError(f"recipe {name!r} needs one sigmoid a class; {kind!r} detectors have a softmax")


def _ranked(name: str, kind: str, stage: Stage) -> Recipe:
    """A loss that ranks all candidates: nothing is sampled."""
    _sigmoid(name, kind)
    if kind == "rcnn":
        return Recipe(name=name, proposals=replace(stage, sample=AllSampler(), score_threshold=None))
    return Recipe(name=name, stages=stage)


def _decoupled() -> Stage:
    """Classes from positives alone: cross-entropy over ten times the positives, as the authors of residual objectness
    have it. Scores are products, so they are smaller."""
    return Stage(cls_loss=CrossEntropyLoss(), cls_weight=0.1, score_threshold=0.01)


def _quality(name: str, kind: str, loss: Callable, box_weight: float) -> Recipe:
    """A loss that learns IoUs, with the box loss of its paper."""
    _sigmoid(name, kind)
    if kind == "rcnn":
        return Recipe(name=name, proposals=Stage(sample=AllSampler(), cls_loss=loss, prior=0.01))
    return Recipe(name=name, stages=Stage(cls_loss=loss, box_loss=GIoULoss(), box_weight=box_weight, prior=0.01))


def _assigned(
    name: str, kind: str, assigner: Callable, *, cls_loss: Callable | None = None, box_weight: float = 2.0
) -> Recipe:
    """An assigner of anchors, with the losses of its paper; focal loss unless another is given."""
    if _check(kind) != "dense":
        raise ValueError(f"recipe {name!r} assigns the anchors of a one-stage detector with sigmoids ('dense')")
    stage = Stage(
        assign=assigner, cls_loss=cls_loss or FocalLoss(), box_loss=GIoULoss(), box_weight=box_weight, prior=0.01
    )
    return Recipe(name=name, stages=stage)


def _mined(sampler: Callable, kind: str) -> Stage:
    """Hard sampling in a one-stage detector: cross-entropy over the sampled anchors. With the background so reduced
    the classifier starts from even odds of one positive in four. YOLOv2 keeps its losses: it learns an IoU."""
    if kind == "yolo":
        return Stage(sample=sampler)
    return Stage(sample=sampler, cls_loss=CrossEntropyLoss(softmax=kind == "ssd"), prior=0.1)


def _softmax_over_all(loss: Callable) -> Stage:
    """A loss over every candidate of a one-stage detector with a softmax, in place of mining."""
    return Stage(sample=AllSampler(), cls_loss=loss, prior=0.01)


def _combined(**parts: Callable) -> CombinedSampler:
    """As many rows, and as many positives among them, as the detector's own sampler: the only difference is which."""
    return CombinedSampler(count=None, positive_fraction=None, **parts)


def _sampled(name: str, kind: str, **parts: Callable) -> Recipe:
    parts = {"positive": RandomSampler(), "negative": RandomSampler(), **parts}
    if _not_yolo(name, kind) != "rcnn":
        return Recipe(name=name, stages=_mined(CombinedSampler(count=256, positive_fraction=0.5, **parts), kind))
    return Recipe(name=name, stages=Stage(sample=_combined(**parts)))


def _balanced_l1(kind: str) -> Callable:
    # beta as each detector's own smooth L1; 0.11 is Libra's for RetinaNet.
    return BalancedL1Loss(beta=0.11 if _check(kind) == "dense" else 1.0)


def _pyramid(name: str, kind: str, neck: Callable) -> Recipe:
    """Another neck in place of the feature pyramid."""
    if _check(kind) in ("ssd", "yolo"):
        raise ValueError(f"recipe {name!r} replaces the feature pyramid, and {kind!r} detectors have none")
    return Recipe(name=name, neck=neck)


def _balanced_fpn(kind: str) -> Callable:
    if _check(kind) in ("ssd", "yolo"):
        raise ValueError(f"Libra's pyramid stands on a feature pyramid, and {kind!r} detectors have none")
    # The level at which all meet, as Libra's: 1 in RetinaNet, the middle one (2 of 5) in Faster R-CNN.
    return partial(BalancedFPN, refine_level=1 if _check(kind) == "dense" else None, refine="nonlocal")
