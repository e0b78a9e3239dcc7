"""Feature pyramids. Built with (in_channels, out_channels); a dict of maps in, a dict of maps out."""

from .aug_fpn import AugFPN
from .auto_fpn import AutoFPN
from .balanced_fpn import BalancedFPN
from .bifpn import BiFPN
from .dynamic_head import DynamicHead
from .feature_hierarchy import FeatureHierarchy
from .fpn import FPN
from .mlfpn import MLFPN
from .nas_fpn import NASFPN
from .panet import PANet
from .parallel_fpn import ParallelFPN
from .reconfigured_fpn import ReconfiguredFPN
from .stdn import STDN
from .zoom_out_in import ZoomOutIn

__all__ = [
    "FPN",
    "MLFPN",
    "NASFPN",
    "STDN",
    "AugFPN",
    "AutoFPN",
    "BalancedFPN",
    "BiFPN",
    "DynamicHead",
    "FeatureHierarchy",
    "PANet",
    "ParallelFPN",
    "ReconfiguredFPN",
    "ZoomOutIn",
]
