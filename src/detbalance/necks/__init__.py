"""Feature pyramids. Built with (in_channels, out_channels); a dict of maps in, a dict of maps out."""

from .balanced_fpn import BalancedFPN
from .bifpn import BiFPN
from .fpn import FPN
from .panet import PANet

__all__ = ["FPN", "BalancedFPN", "BiFPN", "PANet"]
