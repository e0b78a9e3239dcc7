"""How a loss punishes: its value and its gradient over one quantity at a time, the rest held (review, section 6.5.2).

Every point is a batch of its own: one probe, whose score or box is moved, among others that stay. So a loss that
depends on the whole set (a ranking, a density of gradients) is drawn like one that looks at each row alone.
"""

from __future__ import annotations

import ast
import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from . import losses
from .boxes import decode, encode, paired_iou
from .types import BACKGROUND, Samples

__all__ = ["Curve", "View", "find", "names", "views"]

COUNTS = (0, 1000, 100, 10)
"""objects of each class, for losses that have to be told"""
QUALITY = 0.8
"""IoU of the positives, for losses that learn it"""
_OTHERS, _POSITIVES, _FAR = 64, 4, -10.0
_TRUTH = (0.0, 0.0, 100.0, 60.0)
_PATHS = {
    "error": ((1, 0, 0, 0), 3.0, "error of one coordinate of the box code", "Error of one coordinate"),
    "shift": ((1, 1, 0, 0), 1.5, "shift along the diagonal, in sides of the box", "Shift"),
    "scale": ((0, 0, 1, 1), 2.0, "logarithm of the factor of both sides", "Scale"),
    "aspect": ((0, 0, 1, -1), 2.0, "logarithm of the factor of the width, inverse of that of the height", "Aspect"),
}


@dataclass(frozen=True, eq=False)
class Curve:
    """One loss in one view. All float64, on the CPU."""

    name: str
    x: Tensor
    """(n,)"""
    value: Tensor
    """(n,)"""
    gradient: Tensor
    """(n,) its derivative by what the view's `slope` says"""


@dataclass(frozen=True, eq=False)
class View:
    """Several losses over the same quantity."""

    key: str
    title: str
    x_name: str
    slope: str
    """what the gradient is taken by: "logit", "error", "shift", "scale" (both logarithms alike) or "aspect" """
    note: str
    curves: tuple[Curve, ...]


def names() -> list[str]:
    """Every loss that can be drawn."""
    return sorted(losses.__all__)


def find(given: Iterable[str]) -> dict[str, Callable]:
    """Losses by name, or by name with settings: `FocalLoss` or `FocalLoss(gamma=0.5)`.

    Raises ValueError for a name or a setting that does not exist, saying which there are.

    >>> find(["FocalLoss(gamma=0.5)"])
    {'FocalLoss(gamma=0.5)': FocalLoss(gamma=0.5, alpha=0.25, softmax=False)}
    """
    return {text: _build(text) for text in given}


def _build(text: str) -> Callable:
    name, bracket, _ = text.partition("(")
    if name not in losses.__all__:
        near = difflib.get_close_matches(name, names(), 1, 0.5)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ValueError(f"no loss {name!r}{hint}; there are {', '.join(names())}")
    method, given = getattr(losses, name), {}
    known = inspect.signature(method).parameters
    if bracket:
        try:
            call = ast.parse(text, mode="eval").body
            given = {word.arg: ast.literal_eval(word.value) for word in call.keywords}
            plain = not call.args and None not in given
        except (SyntaxError, ValueError, AttributeError):
            plain = False
        if not plain:
            raise ValueError(f"expected settings as in {name}(name=1.0) but got {text!r}")
        if unknown := [setting for setting in given if setting not in known]:
            raise ValueError(f"{name} has no setting {unknown[0]!r}; it has {', '.join(known) or 'none'}")
    if "counts" in known:
        given.setdefault("counts", COUNTS)
    return method(**given)


def views(
    losses: Mapping[str, Callable], *, points: int = 121, progress: Callable[[int, int], None] | None = None
) -> list[View]:
    """Draw losses over score, IoU, error, shift, scale and aspect; a view has the losses that depend on its quantity.

    Args:
        losses: by name, as from `find`, or any of your own of the shapes of `types`.
        points: of each curve.
        progress: called with (curves done, curves in all).

    >>> [view.key for view in views(find(["SmoothL1Loss"]), points=3)]
    ['error', 'shift', 'scale', 'aspect', 'iou']
    """
    if points < 2:
        raise ValueError(f"expected points of at least 2 but got {points}")
    plan = list(_plan(losses, points))
    total, done, drawn = sum(len(part) for *_, part in plan), 0, []
    for key, title, x_name, slope, note, part in plan:
        curves = []
        for name, (x, free, value) in part.items():
            curves.append(_curve(name, x, free, value))
            done += 1
            if progress is not None:
                progress(done, total)
        drawn.append(View(key, title, x_name, slope, note, tuple(curves)))
    return drawn


def _plan(losses: Mapping[str, Callable], points: int) -> Iterable[tuple]:
    """The views with, for each loss, the axis (n,), what is moved (n,), and the value as a function of it."""
    probes = {name: _PROBES[_kind(loss)](loss) for name, loss in losses.items()}
    scored = {name: probe for name, probe in probes.items() if not isinstance(probe, _Boxes)}
    placed = {name: probe for name, probe in probes.items() if not isinstance(probe, _Scores)}
    share = torch.linspace(0.005, 0.995, points, dtype=torch.float64)
    rest = f"Among {_OTHERS - 1} others that stay as they are. "
    if scored:
        note = rest + f"Losses that learn the IoU are given {QUALITY:g}."
        for key, shown in (("object", True), ("background", False)):
            part = {n: (share, share.logit(), probe.by_score(shown)) for n, probe in scored.items()}
            title = f"Score of {'an object' if shown else 'background'}"
            yield key, title, "predicted probability of an object", "logit", note, part
    quality = {n: probe for n, probe in scored.items() if isinstance(probe, _Scores) and probe.learns_iou}
    if quality:
        both = torch.stack((torch.zeros_like(share), share), 1)  # the logit, which has the gradient; the IoU
        part = {n: (share, both, probe.by_quality) for n, probe in quality.items()}
        yield "quality", "IoU to learn", "IoU of the predicted box", "logit", rest + "The score is 0.5.", part
    if not placed:
        return
    for key, (way, end, x_name, title) in _PATHS.items():
        t = torch.linspace(-end, end, points, dtype=torch.float64)
        part = {n: (t, t, probe.along(way)) for n, probe in placed.items()}
        yield key, title, x_name, key, "The others are boxes of small and large errors.", part
    t = torch.linspace(0.005, 1, points, dtype=torch.float64)
    overlap = paired_iou(*_pair(t[:, None] * t.new_tensor((1, 1, 0, 0))))
    part = {n: (overlap, t, probe.along((1, 1, 0, 0))) for n, probe in placed.items()}
    yield "iou", "IoU", "IoU with the object", "shift", "The box is shifted along the diagonal, away from it.", part


def _kind(loss: Callable) -> str:
    return "class" if hasattr(loss, "target_kind") else "box" if hasattr(loss, "space") else "joint"


def _curve(name: str, x: Tensor, free: Tensor, value: Callable[[Tensor], Tensor]) -> Curve:
    values, slopes = [], []
    for point in free:
        point = point.clone().requires_grad_()
        found = value(point)
        (slope,) = torch.autograd.grad(found, point)
        values.append(found.detach())
        slopes.append(slope.reshape(-1)[0])
    return Curve(name, x, torch.stack(values), torch.stack(slopes))


def _quantiles(count: int, middle: float, spread: float) -> Tensor:
    """As a normal distribution lies, without chance."""
    share = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return middle + spread * torch.special.ndtri(share)


def _pair(code: Tensor) -> tuple[Tensor, Tensor]:
    truth = code.new_tensor(_TRUTH).expand_as(code)
    return decode(code, truth), truth


def _table(softmax: bool) -> tuple[Tensor, Tensor]:
    """Logits (S, 4) and labels (S,): positives in the first rows, of which row 0 is the probe."""
    label = torch.zeros(_OTHERS, dtype=torch.long)
    label[:_POSITIVES] = torch.tensor((1, 2, 3, 1))
    column = torch.where(label > 0, label, torch.arange(_OTHERS) % 3 + 1)
    score = torch.cat((_quantiles(_POSITIVES, 0.5, 1.5), _quantiles(_OTHERS - _POSITIVES, -3, 1.5)))
    logits = torch.full((_OTHERS, len(COUNTS)), _FAR, dtype=torch.float64).scatter_(1, column[:, None], score[:, None])
    if softmax:
        logits[:, 0] = 0.0
    return logits, label


class _Scores:
    """A class loss, with one score that moves."""

    def __init__(self, loss: Callable):
        self.loss, self.softmax = loss, bool(getattr(loss, "softmax", False))
        self.learns_iou = loss.target_kind == "iou"
        self.logits, self.label = _table(self.softmax)

    def by_score(self, positive: bool) -> Callable[[Tensor], Tensor]:
        """The value as a function of the probe's logit."""
        return lambda x: self._value(x, positive, x.new_tensor(QUALITY if self.learns_iou else 1.0))

    def by_quality(self, point: Tensor) -> Tensor:
        """The value as a function of the probe's logit and the IoU that it is to learn."""
        return self._value(point[0], True, point[1])

    def _value(self, x: Tensor, positive: bool, quality: Tensor) -> Tensor:
        probe = torch.zeros_like(self.logits, dtype=torch.bool)
        probe[0, 1] = True
        logits = torch.where(probe, x, self.logits)
        label = self.label.clone()
        label[0] = int(positive)
        target = torch.zeros_like(logits)
        rows = torch.arange(len(label)) if self.softmax else label.nonzero().squeeze(1)
        target[rows, label[rows]] = QUALITY if self.learns_iou else 1.0
        target = torch.where(probe & bool(positive), quality, target)
        value = deepcopy(self.loss)(logits, target)
        return value if value.dim() == 0 else value[0] if value.dim() == 1 else value[0, 1]


class _Boxes:
    """A box loss, with one box that moves."""

    def __init__(self, loss: Callable):
        self.loss = loss
        self.others = _quantiles(_OTHERS - 1, 0, 0.3)[:, None] * torch.tensor((1.0, -1, 1, -1), dtype=torch.float64)

    def along(self, way: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
        """The value as a function of how far the probe is off."""
        return lambda t: self._value(t * t.new_tensor(way))

    def _value(self, code: Tensor) -> Tensor:
        codes = torch.cat((code[None], self.others))
        pair = (codes, torch.zeros_like(codes)) if self.loss.space == "code" else _pair(codes)
        return deepcopy(self.loss)(*pair)[0]


class _Joint:
    """A loss of class and box together, with one score or one box that moves."""

    def __init__(self, loss: Callable):
        self.loss = loss
        self.logits, self.label = _table(False)

    def by_score(self, positive: bool) -> Callable[[Tensor], Tensor]:
        """The value as a function of the probe's logit."""
        return lambda x: self._value(x, x.new_zeros(4), positive)

    def along(self, way: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
        """The value as a function of how far the probe's box is off."""
        return lambda t: self._value(t.new_zeros(()), t * t.new_tensor(way), True)

    def _value(self, x: Tensor, code: Tensor, positive: bool) -> Tensor:
        """Each row has an anchor of its own, far from the others, which is its object where it shows one."""
        rows, label = len(self.label), self.label.clone()
        label[0] = int(positive)
        probe = torch.zeros_like(self.logits, dtype=torch.bool)
        probe[0, 1] = True
        number = torch.arange(rows)
        place = 1000.0 * torch.stack((number, number), 1).repeat(1, 2).to(code.dtype)
        boxes = code.new_tensor(_TRUTH) + place
        deltas = torch.cat((code[None], code.new_tensor((0.2, -0.1, 0.1, -0.1)).expand(rows - 1, 4)))
        zero, here = torch.zeros_like(number), label > 0
        samples = Samples(
            logits=torch.where(probe, x, self.logits),
            labels=label,
            deltas=deltas,
            codes=encode(boxes, boxes),
            boxes=boxes,
            truth=boxes,
            iou=here.to(code.dtype),
            image=zero,
            level=zero,
            norm=torch.full((rows,), 1.0, dtype=code.dtype),
            matched=torch.where(here, number, BACKGROUND),
            objects=({"boxes": boxes[here], "labels": label[here]},),
        )
        found: dict[str, Any] = deepcopy(self.loss)(samples)
        return torch.stack(tuple(found.values())).sum()


_PROBES = {"class": _Scores, "box": _Boxes, "joint": _Joint}
