"""What changes the region head of a two-stage detector: (RegionParts) -> RegionParts, parameters keep their names.

What one part returns the next one takes. A part that learns something of its own has `supervise(step) -> dict of
losses`, called in training with a `RegionStep`; one that looks at the rest of the detector has `watch(model)`, called
once when it is put in.
"""

from .adaptive_pooling import AdaptivePooling
from .consistent_supervision import ConsistentSupervision
from .scale_aware import ScaleAware
from .scale_dependent_pooling import ScaleDependentPooling
from .soft_roi_selection import SoftRoISelection

__all__ = ["AdaptivePooling", "ConsistentSupervision", "ScaleAware", "ScaleDependentPooling", "SoftRoISelection"]
