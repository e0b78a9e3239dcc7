"""Which detections of an image stay, and where: (boxes, scores, labels, deviations, iou=, limit=) -> (boxes, rows).

`boxes` (N, 4), the `deviations` of their coordinates in pixels (N, 4), or None where the head learns none, and the IoU
above which two detections of a class are one -> (M, 4) and the rows that they come from, the best `limit`, best first.
One with `needs_deviations = True` wants a head that learns them.
"""

from .diou import DIoUSuppression
from .nwd import NWDSuppression
from .variance_voting import VarianceVoting

__all__ = ["DIoUSuppression", "NWDSuppression", "VarianceVoting"]
