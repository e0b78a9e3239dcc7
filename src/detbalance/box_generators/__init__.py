"""New boxes. Called as (target, count, generator) -> boxes (M, 4).

The boxes join the proposals of R-CNN's region head before it samples. With `exclusive = True` they are its only
positives: proposals that show an object are ignored. With `applies_to = "box"` they are not sampled: they train the box
regression alone, and are all that it trains on.
"""

from .bounding_box import BoundingBoxGenerator
from .iou_uniform import IoUUniformJitter
from .positive_roi import PositiveRoIGenerator

__all__ = ["BoundingBoxGenerator", "IoUUniformJitter", "PositiveRoIGenerator"]
