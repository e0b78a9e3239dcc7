"""Losses. Class: (logits (S, C), target (S, C), groups=None) -> (S, C), (S,) or (). Box: (P, 4) twice -> (P,)."""

from .balanced_l1 import BalancedL1Loss
from .code import L1Loss, L2Loss, SmoothL1Loss
from .cross_entropy import CrossEntropyLoss
from .focal import FocalLoss

__all__ = ["BalancedL1Loss", "CrossEntropyLoss", "FocalLoss", "L1Loss", "L2Loss", "SmoothL1Loss"]
