"""New images. Called as (image, target, source of others) -> (image, target).

Boxes, labels and masks (where the target has them) stay in step; chance comes from torch's own generator, which the
dataset seeds for each image. What has to know the data has `fit(annotations, others)`, which gives a copy that does.
"""

from .context_paste import ContextPaste
from .copy_paste import CopyPaste
from .cut_paste import CutPaste
from .instance_switching import InstanceSwitching
from .mixup import MixUp
from .mosaic import Mosaic

__all__ = ["ContextPaste", "CopyPaste", "CutPaste", "InstanceSwitching", "MixUp", "Mosaic"]
