"""The review's taxonomy: eight imbalance problems in four families (Oksuz et al., arXiv 1909.00169, figure 2)."""

from __future__ import annotations

from enum import Enum

__all__ = ["Family", "Imbalance"]


class Family(str, Enum):
    """The four families of imbalance (review, table 1)."""

    CLASS = "class imbalance"
    SCALE = "scale imbalance"
    SPATIAL = "spatial imbalance"
    OBJECTIVE = "objective imbalance"


class Imbalance(str, Enum):
    """One of the review's eight imbalance problems; the value is its name in running text.

    >>> Imbalance.OBJECT_SCALE.family
    <Family.SCALE: 'scale imbalance'>
    >>> Imbalance("feature-level").section
    '5.2'
    """

    FOREGROUND_BACKGROUND = "foreground-background"
    FOREGROUND_FOREGROUND = "foreground-foreground"
    OBJECT_SCALE = "object scale"
    FEATURE_LEVEL = "feature-level"
    REGRESSION_LOSS = "regression loss"
    IOU_DISTRIBUTION = "IoU distribution"
    LOCATION = "object location"
    OBJECTIVE = "objective"

    @property
    def family(self) -> Family:
        """The family this problem belongs to."""
        return _PLACE[self][0]

    @property
    def section(self) -> str:
        """The section of the review that treats it."""
        return _PLACE[self][1]

    @property
    def question(self) -> str:
        """What is unequal, in one sentence for a reader who does not know the literature."""
        return _PLACE[self][2]


_PLACE: dict[Imbalance, tuple[Family, str, str]] = {
    Imbalance.FOREGROUND_BACKGROUND: (Family.CLASS, "4.1", "Far more candidates show background than objects."),
    Imbalance.FOREGROUND_FOREGROUND: (Family.CLASS, "4.2", "A few classes own most of the objects."),
    Imbalance.OBJECT_SCALE: (Family.SCALE, "5.1", "Some object sizes are common and others are rare."),
    Imbalance.FEATURE_LEVEL: (Family.SCALE, "5.2", "The levels of the feature pyramid receive unequal work."),
    Imbalance.REGRESSION_LOSS: (Family.SPATIAL, "6.1", "A few badly placed boxes own the box gradient."),
    Imbalance.IOU_DISTRIBUTION: (Family.SPATIAL, "6.2", "Most positive candidates overlap their object only just."),
    Imbalance.LOCATION: (Family.SPATIAL, "6.3", "Objects keep to some places of the image."),
    Imbalance.OBJECTIVE: (Family.OBJECTIVE, "7", "One task's loss drowns another's."),
}
