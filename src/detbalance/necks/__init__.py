"""Feature pyramids. Built with (in_channels, out_channels); a dict of maps in, a dict of maps out."""

from .balanced_fpn import BalancedFPN
from .fpn import FPN

__all__ = ["FPN", "BalancedFPN"]
