"""Where the region head of R-CNN looks in detection: (regress, proposals of each image) -> proposals of each image."""

from .iterative import IterativeRefinement

__all__ = ["IterativeRefinement"]
