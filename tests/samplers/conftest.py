"""Random candidates of one image, with everything that a sampler may ask for."""

import pytest
import torch

from detbalance.types import BACKGROUND, IGNORED, Candidates


def build(seed=0, positives=20, negatives=200, ignored=30, objects=4, classes=3, ties=False):
    """Candidates in random order; `ties` rounds losses, scores and IoUs so that many are equal."""
    g = torch.Generator().manual_seed(seed)
    n = positives + negatives + ignored
    kinds = [torch.randint(objects, (positives,), generator=g) if objects else torch.zeros(0, dtype=torch.long)]
    kinds += [torch.full((negatives,), BACKGROUND), torch.full((ignored,), IGNORED)]
    matched = torch.cat(kinds)[torch.randperm(n, generator=g)]
    corner = 200 * torch.rand(n, 2, generator=g)
    boxes = torch.cat((corner, corner + 10 + 90 * torch.rand(n, 2, generator=g)), 1)
    iou = torch.where(matched >= 0, 0.5 + 0.5 * torch.rand(n, generator=g), 0.5 * torch.rand(n, generator=g) ** 3)
    loss = -torch.rand(n, generator=g).log()
    scores = (3 * torch.randn(n, classes + 1, generator=g)).softmax(1)
    if ties:
        iou, loss, scores = (10 * iou).round() / 10, loss.round(), (10 * scores).round() / 10
    labels = torch.where(matched >= 0, 1 + matched.clamp(min=0) % classes, 0)
    predicted = boxes + 10 * torch.randn(n, 1, generator=g)
    level = torch.randint(3, (n,), generator=g)
    return Candidates(boxes, matched, iou, labels, scores, lambda: loss, predicted, level)


@pytest.fixture
def candidates():
    return build


EMPTY = (
    {"positives": 0},
    {"negatives": 0},
    {"positives": 0, "objects": 0},
    {"positives": 0, "negatives": 0},
    {"positives": 0, "negatives": 0, "ignored": 0, "objects": 0},
    {"positives": 1, "negatives": 1, "objects": 1},
)


@pytest.fixture(params=EMPTY, ids=str)
def sparse(request):
    return build(**request.param)
