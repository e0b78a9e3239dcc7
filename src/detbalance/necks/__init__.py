"""Feature pyramids. Built with (in_channels, out_channels); a dict of maps in, a dict of maps out."""

from .balanced_fpn import BalancedFPN
from .bifpn import BiFPN
from .feature_hierarchy import FeatureHierarchy
from .fpn import FPN
from .panet import PANet
from .parallel_fpn import ParallelFPN
from .reconfigured_fpn import ReconfiguredFPN
from .stdn import STDN

__all__ = ["FPN", "STDN", "BalancedFPN", "BiFPN", "FeatureHierarchy", "PANet", "ParallelFPN", "ReconfiguredFPN"]
