"""How much each sample counts (soft sampling). Called as (samples) -> factors (S,)."""

from .class_balanced import ClassBalancedWeights
from .classification_aware import ClassificationAwareWeights
from .constant import ConstantWeights
from .coverage import CoverageBalancedWeights
from .focal import FocalWeights
from .iou_balanced import IoUBalancedWeights
from .position import PositionBalancedWeights
from .prime import PrimeSampleWeights
from .score import ScoreWeights
from .size_balanced import SizeBalancedWeights

__all__ = [
    "ClassBalancedWeights",
    "ClassificationAwareWeights",
    "ConstantWeights",
    "CoverageBalancedWeights",
    "FocalWeights",
    "IoUBalancedWeights",
    "PositionBalancedWeights",
    "PrimeSampleWeights",
    "ScoreWeights",
    "SizeBalancedWeights",
]
