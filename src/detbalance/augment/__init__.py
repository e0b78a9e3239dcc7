"""New images. Called as (image, target, source of others) -> (image, target).

Boxes, labels and masks (where the target has them) stay in step; chance comes from torch's own generator, which the
dataset seeds for each image. What has to know the data has `fit(annotations, others)`, which gives a copy that does.
"""

from .cut_paste import CutPaste

__all__ = ["CutPaste"]
