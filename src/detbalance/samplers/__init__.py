"""Which candidates train (hard sampling). Called as (candidates, generator) -> rows (S,)."""

from .all import AllSampler
from .combined import CombinedSampler
from .hard_negative import HardNegativeSampler
from .instance_balanced import InstanceBalancedSampler
from .iou_balanced import IoUBalancedSampler
from .ohem import OHEMSampler
from .random import RandomSampler
from .score_hlr import ScoreHLRSampler

__all__ = [
    "AllSampler",
    "CombinedSampler",
    "HardNegativeSampler",
    "InstanceBalancedSampler",
    "IoUBalancedSampler",
    "OHEMSampler",
    "RandomSampler",
    "ScoreHLRSampler",
]
