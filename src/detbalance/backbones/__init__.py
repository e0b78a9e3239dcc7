"""What refines the backbone of a detector: (a copy of its backbone) -> the module that takes its place."""

from .trident import Trident

__all__ = ["Trident"]
