"""The anchors of a detector as a few numbers: to be searched, kept in a file and put into a detector. No torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from .diagnosis.anchor_presets import FASTER_RCNN, RETINANET, SSD300, AnchorPreset, default_boxes

__all__ = ["DETECTORS", "AnchorSettings", "default_anchors"]

DETECTORS = ("retinanet", "faster_rcnn", "cascade_rcnn", "ssd")
"""those that have anchors to choose; FCOS has none, YOLOv2 takes its own from the data"""


@dataclass(frozen=True, kw_only=True)
class AnchorSettings:
    """Anchors of a detector of `detectors.build`: sizes and ratios, or for SSD scales and ratios.

    >>> default_anchors("faster_rcnn").line()
    'AnchorGenerator(sizes=((16, 24), (32, 48), (64, 112)), aspect_ratios=((0.5, 1.0, 2.0),) * 3)'
    """

    detector: str
    sizes: tuple[tuple[float, ...], ...] = ()
    """pixels of the input, of each level"""
    scales: tuple[float, ...] = ()
    """SSD: shares of the image's sides, of each level and one more"""
    ratios: tuple[float, ...] | tuple[tuple[float, ...], ...] = (0.5, 1.0, 2.0)
    """height / width, the same for all levels; SSD: width / height, of each level, each also the other way round"""

    def __post_init__(self) -> None:
        if self.detector not in DETECTORS:
            raise ValueError(f"expected a detector with anchors, {', '.join(DETECTORS)}, but got {self.detector!r}")
        for name in ("sizes", "scales", "ratios"):
            object.__setattr__(self, name, _tuples(getattr(self, name)))
        levels = self.ratios if self.detector == "ssd" else self.sizes
        fitting = len(self.scales) == len(levels) + 1 if self.detector == "ssd" else bool(levels)
        nested = all(isinstance(level, tuple) for level in levels)
        if not fitting or not nested or not all(value > 0 for value in _flat((self.sizes, self.scales, self.ratios))):
            wanted = "scales and a tuple of ratios a level" if self.detector == "ssd" else "a tuple of sizes a level"
            raise ValueError(f"{self.detector}: expected {wanted}, all greater than 0, but got {asdict(self)}")

    def line(self) -> str:
        """The line that makes them with torchvision."""
        if self.detector == "ssd":
            return f"DefaultBoxGenerator({[list(r) for r in self.ratios]}, scales={list(self.scales)})"
        return f"AnchorGenerator(sizes={self.sizes}, aspect_ratios=({self.ratios},) * {len(self.sizes)})"

    def preset(self, image_size: tuple[int, int] = (192, 256)) -> AnchorPreset:
        """How the detector labels them, at a height and width of the input.

        SSD's maps are taken to be of size side / stride, which they are where the strides divide the sides.
        """
        if self.detector == "ssd":
            strides = tuple(8 * 2**level for level in range(len(self.ratios)))
            shapes = default_boxes(self.scales, self.ratios)
            sides = (image_size[1], image_size[0])
            return replace(SSD300, name="SSD", strides=strides, shapes=shapes, fixed_size=sides)
        base = RETINANET if self.detector == "retinanet" else FASTER_RCNN
        first = 4 if base is FASTER_RCNN and len(self.sizes) > 3 else 8
        return replace(
            base,
            strides=tuple(first * 2**level for level in range(len(self.sizes))),
            sizes=self.sizes,
            ratios=self.ratios,
            min_size=min(image_size),
            max_size=max(image_size),
            roi_levels=None,
        )

    def save(self, path: str | Path) -> Path:
        """Write them as JSON."""
        from .atomic import write_json

        return write_json(path, {"anchors": {name: value for name, value in asdict(self).items() if value}})

    @classmethod
    def load(cls, path: str | Path) -> AnchorSettings:
        """Read them from JSON. Raises ValueError, with the file's name, for what is no such file."""
        try:
            return cls.of(json.loads(Path(path).read_text(encoding="utf-8"))["anchors"])
        except OSError as error:
            raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: expected anchors as `detbalance anchors` writes them ({error})") from None

    @classmethod
    def of(cls, record: dict[str, Any]) -> AnchorSettings:
        """From what JSON made of them."""
        return cls(**record)


def default_anchors(detector: str, size: str = "nano") -> AnchorSettings:
    """The anchors that `detectors.build` gives a detector."""
    nano, bases = size == "nano", (16, 32, 64) if size == "nano" else (32, 64, 128, 256, 512)
    if detector == "retinanet":
        sizes = tuple((b, int(b * 2 ** (1 / 3)), int(b * 2 ** (2 / 3))) for b in bases)
    elif detector == "ssd":
        few = ((2,), (2, 3), (2, 3), (2,)) if nano else ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
        scales = (0.08, 0.16, 0.32, 0.6, 0.95) if nano else (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05)
        return AnchorSettings(detector=detector, scales=scales, ratios=few)
    else:
        sizes = ((16, 24), (32, 48), (64, 112)) if nano else tuple((b,) for b in bases)
    return AnchorSettings(detector=detector, sizes=sizes)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, (list, tuple)) else value


def _flat(value: Any) -> list[float]:
    return [v for part in value for v in _flat(part)] if isinstance(value, tuple) else [value]
