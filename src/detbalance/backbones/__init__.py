"""What refines the backbone of a detector: (a copy of its backbone) -> the module that takes its place."""

from .efip import EFIP
from .mscf import MSCF
from .trident import Trident

__all__ = ["EFIP", "MSCF", "Trident"]
