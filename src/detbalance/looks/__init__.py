"""How a detector looks at an image when it detects: (model, data, image_size=, ...) -> detections, as `predict`."""

from .at_scales import AtScales
from .in_slices import InSlices

__all__ = ["AtScales", "InSlices"]
