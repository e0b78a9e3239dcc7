"""Detectors built from torchvision parts, in sizes nano, small, base and large."""
