"""What an evaluation says: the figures of one run, as JSON and as tables for the terminal."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from rich import box
from rich.console import Group
from rich.markup import escape
from rich.table import Table

__all__ = ["GROUPS", "METRICS", "Evaluation"]

METRICS: dict[str, str] = {
    "AP": "ap",
    "AP50": "ap50",
    "AP75": "ap75",
    "AP90": "ap90",
    "AP_small": "ap_small",
    "AP_medium": "ap_medium",
    "AP_large": "ap_large",
    "AP_rare": "ap_rare",
    "AP_common": "ap_common",
    "AP_frequent": "ap_frequent",
    "AR1": "ar1",
    "AR10": "ar10",
    "AR": "ar",
    "AR_small": "ar_small",
    "AR_medium": "ar_medium",
    "AR_large": "ar_large",
    "oLRP": "olrp",
    "oLRP_Loc": "olrp_loc",
    "oLRP_FP": "olrp_fp",
    "oLRP_FN": "olrp_fn",
}
"""name in tables and files -> field of `Evaluation`"""

GROUPS = ("rare", "common", "frequent")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The figures of one run; None where the test set has no object of the kind. All AP and AR lie in [0, 1]."""

    images: int
    objects: int
    """objects to be found: crowds and difficult ones left out"""
    detections: int
    ap: float | None
    """mean over IoU .50:.05:.95 and classes"""
    ap50: float | None
    ap75: float | None
    ap90: float | None
    ap_small: float | None
    """area below 32^2 pixels"""
    ap_medium: float | None
    ap_large: float | None
    """area above 96^2 pixels"""
    ap_rare: float | None
    """mean over the classes of the group"""
    ap_common: float | None
    ap_frequent: float | None
    ar1: float | None
    """recall with one detection an image and class, mean over IoU and classes; None under LVIS's rules"""
    ar10: float | None
    ar: float | None
    """recall with all detections (100 an image and class; LVIS: 300 an image)"""
    ar_small: float | None
    ar_medium: float | None
    ar_large: float | None
    olrp: float | None
    """optimal localisation-recall-precision error, mean over classes: 0 is perfect, 1 finds nothing"""
    olrp_loc: float | None
    olrp_fp: float | None
    olrp_fn: float | None
    by_class: dict[str, dict[str, Any]]
    """class -> AP, AP50, AP75, oLRP, its Loc, FP and FN, the score `threshold` that attains it, train_boxes,
    train_images, test_boxes, group"""
    by_frequency: dict[str, dict[str, Any]]
    """group -> AP, number of classes"""
    tide: dict[str, float | None]
    """error -> AP50 lost to it: Cls, Loc, Both, Dupe, Bkg, Miss, FP, FN"""

    def to_json(self) -> dict[str, Any]:
        """A dictionary of plain values; the summary figures lie under "metrics" by their usual names."""
        values = asdict(self)
        metrics = {name: values.pop(field) for name, field in METRICS.items()}
        return {"metrics": metrics, **values}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Evaluation:
        """The evaluation that `to_json` has written."""
        rest = {name: value for name, value in values.items() if name != "metrics"}
        known = {field.name for field in fields(cls)}
        if unknown := sorted((set(rest) - known) | (set(values["metrics"]) - set(METRICS))):
            raise ValueError(f"expected the keys of an evaluation but got {', '.join(unknown)}")
        return cls(**{METRICS[name]: value for name, value in values["metrics"].items()}, **rest)

    def table(self) -> Group:
        """The figures in percent as rich tables: overall, what is lost to each error, and class by class."""
        values = {name: getattr(self, field) for name, field in METRICS.items()}
        overall = [
            _line(title, {name: values[name] for name in values if name.startswith(start)})
            for title, start in (("average precision", "AP"), ("average recall", "AR"), ("error (LRP)", "oLRP"))
        ]
        classes = _table("by class, with its training and test boxes")
        classes.add_column("class", overflow="fold")  # a long name is broken, no figure is cut
        classes.add_column("group", no_wrap=True)
        for name in _SHARES + _COUNTS:
            classes.add_column(name.removesuffix("_boxes"), justify="right", no_wrap=True)
        for name, row in self.by_class.items():
            shares, counts = (_percent(row[key]) for key in _SHARES), (str(row[key]) for key in _COUNTS)
            classes.add_row(escape(name), row["group"], *shares, *counts)
        return Group(*overall, _line("AP50 lost to each error (TIDE)", self.tide), classes)


_SHARES = ("AP", "AP50", "AP75", "oLRP", "Loc", "FP", "FN")
_COUNTS = ("train_boxes", "test_boxes")


def _line(title: str, values: dict[str, float | None]) -> Table:
    """A table of one line, without what does not exist."""
    known = {name: value for name, value in values.items() if value is not None}
    table = _table(title)
    for name in known:
        table.add_column(name.split("_")[-1], justify="right", no_wrap=True)
    table.add_row(*(_percent(value) for value in known.values()))
    return table


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, collapse_padding=True)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
