"""Feature-level imbalance (review, section 5.2): the levels that two-stage detectors pool objects from."""

from __future__ import annotations

import numpy as np

from ..taxonomy import Imbalance
from . import indices
from .anchors import AnchorPreset
from .bootstrap import Resampler
from .columns import Columns
from .finding import Finding, Table
from .resizing import resized
from .wording import count, percent

__all__ = ["roi_levels"]

_LEVELS = (2, 5)


def roi_levels(
    columns: Columns, sampler: Resampler, preset: AnchorPreset, *, target: np.ndarray | None = None
) -> Finding:
    """1 - normalised entropy of the objects over P2 to P5 by FPN's rule floor(4 + log2(sqrt(w h) / 224)).

    It is the rule by which Faster R-CNN's box head chooses a level, after the preset's resizing. Balanced: every level
    the same (or the user's weights). Worst: one level gets all.
    """
    area = columns.size[columns.known].prod(1) * resized(columns, preset).prod(1)
    level = np.floor(4 + np.log2(np.sqrt(area) / 224) + 1e-6)  # the margin is torchvision's
    level = np.clip(level, *_LEVELS).astype(np.int64) - _LEVELS[0]
    number = _LEVELS[1] - _LEVELS[0] + 1
    value, interval = sampler.of_counts(
        lambda counts: indices.entropy_index(counts, target), columns.image[columns.known], level, number
    )
    counts = np.bincount(level, minlength=number)
    names = [f"P{k}" for k in range(_LEVELS[0], _LEVELS[1] + 1)]
    share = indices.normalise(counts)
    return Finding(
        imbalance=Imbalance.FEATURE_LEVEL,
        key="roi_levels",
        value=value,
        severity=None,
        interval=interval,
        measure="objects per pyramid level by FPN's rule: 1 - normalised entropy",
        summary=(
            f"A two-stage detector pools {percent(share.max())} of the {count(counts.sum(), 'object')} from level "
            f"{names[int(share.argmax())]} and {percent(share.min())} from {names[int(share.argmin())]}."
        ),
        tables=(Table("Objects per pyramid level", ("level", "objects"), tuple(zip(names, counts.tolist())), "bar"),),
        affected=tuple(name for name, part in zip(names, share) if part < 0.5 / number),
    )
