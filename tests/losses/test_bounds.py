"""Each loss states its range: what it gives lies within, and what says that it has no end exceeds any bound."""

import inspect
import math

import pytest
import torch

from detbalance import listing
from detbalance.catalog import folder_of, methods
from detbalance.types import Samples

LOSSES = [m for m in methods() if folder_of(m) == "losses"]


def values(method, scale):
    """What a loss gives for random input, once for boxes of every kind or logits of a size."""
    g = torch.Generator().manual_seed(0)
    told = "counts" in inspect.signature(method).parameters
    loss = method(counts=(0, 9, 1, 30)) if told else method()
    label = torch.randint(0, 4, (300,), generator=g) * (torch.rand(300, generator=g) < 0.4)
    logits = scale * torch.randn(300, 4, generator=g)
    target = torch.zeros_like(logits)
    rows = label.nonzero().squeeze(1)
    target[rows, label[rows]] = 1.0
    if getattr(loss, "target_kind", "onehot") == "iou":
        target *= torch.rand(300, 1, generator=g)
    corner = scale * torch.rand(300, 2, generator=g)
    first = torch.cat((corner, corner + 0.1 + 50 * torch.rand(300, 2, generator=g)), 1)
    second = torch.cat((corner.flip(1), corner.flip(1) + 0.1 + 50 * torch.rand(300, 2, generator=g)), 1)
    if hasattr(loss, "target_kind"):
        result = loss(logits, target)
        return result.sum(1) if result.dim() == 2 else result
    if hasattr(loss, "space"):
        return loss(logits, 0.1 * logits.flip(0)) if loss.space == "code" else loss(first, second)
    zero, one = torch.zeros_like(label), torch.ones(300)
    losses = loss(Samples(logits, label, 0 * first, 0 * first, first, second, one, zero, zero, one))
    return losses.get("classification", sum(losses.values()))


@pytest.mark.parametrize("method", LOSSES, ids=lambda m: m.__name__)
def test_values_lie_within_the_stated_range(method):
    low, high = method.bounds
    assert low < high
    found = torch.cat([values(method, scale).detach().reshape(-1) for scale in (0.1, 1.0, 10.0, 100.0, 1e4)])
    assert float(found.min()) >= low - 1e-6
    assert float(found.max()) <= high * (1 + 1e-6)
    if method.__name__ == "FocalEIoULoss":  # its factor is 0 where the rest is largest
        return
    if math.isfinite(high):
        assert float(found.max()) > 0.3 * high
    elif method.__name__ not in ("WIoULoss", "GHMCLoss", "FreeAnchorLoss"):  # they shrink with the rows about them
        assert float(found.max()) > 10


def test_the_listing_shows_it():
    shown = {
        name: "\n".join(str(line) for line in listing.details(name).renderables) for name in ("GIoULoss", "L1Loss")
    }
    assert "range: from 0 to 2 (bounded)" in shown["GIoULoss"]
    assert "range: from 0 without end (unbounded)" in shown["L1Loss"]
