"""Losses. Class: (logits (S, C), target (S, C), groups=None) -> (S, C), (S,) or (). Box: (P, 4) twice -> (P,)."""

from .alpha_iou import AlphaIoULoss
from .balanced_l1 import BalancedL1Loss
from .bounded_iou import BoundedIoULoss
from .code import L1Loss, L2Loss, SmoothL1Loss
from .cross_entropy import CrossEntropyLoss
from .diou import CIoULoss, DIoULoss
from .eiou import EIoULoss, FocalEIoULoss
from .focal import FocalLoss
from .giou import GIoULoss
from .iou import IoULoss
from .iou_balanced import IoUBalancedLoss
from .siou import SIoULoss
from .wise_iou import WIoULoss

__all__ = [
    "AlphaIoULoss",
    "BalancedL1Loss",
    "BoundedIoULoss",
    "CIoULoss",
    "CrossEntropyLoss",
    "DIoULoss",
    "EIoULoss",
    "FocalEIoULoss",
    "FocalLoss",
    "GIoULoss",
    "IoUBalancedLoss",
    "IoULoss",
    "L1Loss",
    "L2Loss",
    "SIoULoss",
    "SmoothL1Loss",
    "WIoULoss",
]
