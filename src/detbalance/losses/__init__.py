"""Losses. Class: (logits (S, C), target (S, C), groups=None) -> (S, C), (S,) or (). Box: (P, 4) twice -> (P,)."""

from .alpha_iou import AlphaIoULoss
from .alrp import ALRPLoss
from .ap import APLoss
from .balanced_l1 import BalancedL1Loss
from .bounded_iou import BoundedIoULoss
from .class_balanced import ClassBalancedLoss
from .code import L1Loss, L2Loss, SmoothL1Loss
from .combined import CombinedBoxLoss
from .cross_entropy import CrossEntropyLoss
from .diou import CIoULoss, DIoULoss
from .dr import DRLoss
from .dynamic_smooth_l1 import DynamicSmoothL1Loss
from .eiou import EIoULoss, FocalEIoULoss
from .eqlv2 import EQLv2Loss
from .equalised_focal import EqualisedFocalLoss
from .equilibrium import EquilibriumLoss
from .federated import FederatedLoss
from .focal import FocalLoss
from .free_anchor import FreeAnchorLoss
from .ghm import GHMCLoss, GHMRLoss
from .giou import GIoULoss
from .group_softmax import BalancedGroupSoftmax
from .iou import IoULoss
from .iou_balanced import IoUBalancedLoss
from .kl import KLLoss
from .logit_adjustment import LogitAdjustment
from .nwd import NWDLoss
from .quality import QualityFocalLoss, VarifocalLoss
from .rank_sort import RankSortLoss
from .seesaw import SeesawLoss
from .siou import SIoULoss
from .soft_label import SoftLabelLoss
from .wise_iou import WIoULoss

__all__ = [
    "ALRPLoss",
    "APLoss",
    "AlphaIoULoss",
    "BalancedGroupSoftmax",
    "BalancedL1Loss",
    "BoundedIoULoss",
    "CIoULoss",
    "ClassBalancedLoss",
    "CombinedBoxLoss",
    "CrossEntropyLoss",
    "DIoULoss",
    "DRLoss",
    "DynamicSmoothL1Loss",
    "EIoULoss",
    "EQLv2Loss",
    "EqualisedFocalLoss",
    "EquilibriumLoss",
    "FederatedLoss",
    "FocalEIoULoss",
    "FocalLoss",
    "FreeAnchorLoss",
    "GHMCLoss",
    "GHMRLoss",
    "GIoULoss",
    "IoUBalancedLoss",
    "IoULoss",
    "KLLoss",
    "L1Loss",
    "L2Loss",
    "LogitAdjustment",
    "NWDLoss",
    "QualityFocalLoss",
    "RankSortLoss",
    "SIoULoss",
    "SeesawLoss",
    "SmoothL1Loss",
    "SoftLabelLoss",
    "VarifocalLoss",
    "WIoULoss",
]
