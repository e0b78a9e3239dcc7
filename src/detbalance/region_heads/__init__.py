"""What changes the region head of a two-stage detector: (RegionParts) -> RegionParts, parameters keep their names.

What one part returns the next one takes. A part that learns something of its own has `supervise(step) -> dict of
losses`, called in training with a `RegionStep`; one that looks at the rest of the detector has `watch(model)`, called
once when it is put in.
"""

from .adaptive_pooling import AdaptivePooling

__all__ = ["AdaptivePooling"]
