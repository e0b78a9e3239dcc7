"""Which window of its image a training image shows, and which objects are valid in it. Called as (row, nth, rng) ->
View, after `fit(annotations, image_size, proposals=None)`, which gives a copy that knows the data.

Windows are cut from the original image and scaled to the training size, so that a training costs what it costs with
whole images. One with `epoch(annotations, epoch, rng, feedback=None) -> rows` says how often each image comes, as in
`image_sampling`, unless the recipe has a choice of images of its own. One whose `needs_proposals` is true is given, in
`fit`, the (P, 4) proposals of each image that a weak network makes (see `proposals`).
"""

from ._view import View
from .sliced import Sliced
from .snip import SNIP
from .sniper import SNIPER

__all__ = ["SNIP", "SNIPER", "Sliced", "View"]
