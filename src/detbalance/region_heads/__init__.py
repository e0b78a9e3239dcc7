"""What changes the region head of a two-stage detector: (RegionParts) -> RegionParts, parameters keep their names.

What one part returns the next one takes. A part that learns something of its own has `supervise(step) -> dict of
losses`, called in training with a `RegionStep`; one with `screen(samples) -> samples` says what the losses see of the
predictions; one that looks at the rest of the detector has `watch(model)`, called once when it is put in; one that
changes with the phases of training has `enter_phase(phase, first)`, called when an epoch begins.
"""

from .adaptive_pooling import AdaptivePooling
from .adversarial import AdversarialExamples
from .class_hierarchy import RegionClassHierarchy
from .consistent_supervision import ConsistentSupervision
from .scale_aware import ScaleAware
from .scale_dependent_pooling import ScaleDependentPooling
from .soft_roi_selection import SoftRoISelection
from .super_resolution import SuperResolution

__all__ = [
    "AdaptivePooling",
    "AdversarialExamples",
    "ConsistentSupervision",
    "RegionClassHierarchy",
    "ScaleAware",
    "ScaleDependentPooling",
    "SoftRoISelection",
    "SuperResolution",
]
