"""How much each sample counts (soft sampling). Called as (samples) -> factors (S,)."""

from .classification_aware import ClassificationAwareWeights
from .constant import ConstantWeights
from .prime import PrimeSampleWeights

__all__ = ["ClassificationAwareWeights", "ConstantWeights", "PrimeSampleWeights"]
