"""Feature-level imbalance (review, section 5.2 and 5.4.1): the levels of the pyramid receive unequal work."""

from __future__ import annotations

import numpy as np

from ..taxonomy import Imbalance
from . import indices
from .bootstrap import Resampler
from .columns import Columns
from .finding import Finding, Table
from .resizing import TRAINING_SIZE, resized_by
from .wording import count, percent

__all__ = ["pyramid_levels"]


def pyramid_levels(
    columns: Columns,
    sampler: Resampler,
    *,
    training_size: tuple[int, int] = TRAINING_SIZE,
    levels: tuple[int, int] = (2, 5),
    target: np.ndarray | None = None,
) -> Finding:
    """1 - normalised entropy of the objects per pyramid level, by FPN's rule floor(4 + log2(sqrt(w h) / 224)).

    The review's "cardinality" (section 5.4.1): how many objects, hence how much gradient, each level gets. Balanced:
    every level the same (or the user's weights). Worst: one level gets all.
    """
    known = columns.known
    area = columns.size[known].prod(1) * resized_by(columns.image_size, *training_size) ** 2
    level = np.floor(4 + np.log2(np.sqrt(area) / 224) + 1e-6)  # the margin is torchvision's
    level = np.clip(level, *levels).astype(np.int64) - levels[0]
    number = levels[1] - levels[0] + 1
    value, interval = sampler.of_counts(lambda c: indices.entropy_index(c, target), columns.image[known], level, number)
    counts = np.bincount(level, minlength=number)
    names = [f"P{k}" for k in range(levels[0], levels[1] + 1)]
    share = counts / max(counts.sum(), 1)
    return Finding(
        imbalance=Imbalance.FEATURE_LEVEL,
        key="pyramid_levels",
        value=value,
        severity=None,
        interval=interval,
        measure="objects per pyramid level by FPN's rule: 1 - normalised entropy",
        summary=(
            f"With images resized to {training_size[0]}, level {names[int(share.argmax())]} of a feature pyramid gets "
            f"{percent(share.max())} of the {count(counts.sum(), 'object')} and {names[int(share.argmin())]} "
            f"{percent(share.min())}."
        ),
        tables=(Table("Objects per pyramid level", ("level", "objects"), tuple(zip(names, counts.tolist())), "bar"),),
        affected=tuple(name for name, part in zip(names, share) if part < 0.5 / number),
        headline=True,
    )
