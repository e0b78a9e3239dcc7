"""Which candidate shows which object. Called as (boxes (N, 4), target, levels, predictions or None) -> matched (N,).

An assigner that goes by the present scores and boxes has `needs_predictions = True`: one-stage detectors give them.
"""

from .ambiguity_ignoring import AmbiguityIgnoringAssigner
from .atss import ATSSAssigner
from .dynamic import DynamicAssigner
from .max_iou import MaxIoUAssigner
from .nwd import NWDAssigner
from .paa import PAAAssigner
from .receptive_field import ReceptiveFieldAssigner
from .sim_ota import SimOTAAssigner
from .task_aligned import TaskAlignedAssigner

__all__ = [
    "ATSSAssigner",
    "AmbiguityIgnoringAssigner",
    "DynamicAssigner",
    "MaxIoUAssigner",
    "NWDAssigner",
    "PAAAssigner",
    "ReceptiveFieldAssigner",
    "SimOTAAssigner",
    "TaskAlignedAssigner",
]
