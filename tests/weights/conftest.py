"""Random samples of a batch, with everything that a weight may look at."""

import pytest
import torch

from detbalance.boxes import encode
from detbalance.types import BACKGROUND, Samples


def build(
    seed=0, positives=30, negatives=60, images=3, objects=3, classes=4, softmax=True, ties=False, dtype=torch.float64
):
    """Positives of a few objects an image, of a few classes; boxes crowd, so that clusters form."""
    g = torch.Generator().manual_seed(seed)
    s = positives + negatives
    order = torch.randperm(s, generator=g)
    positive = (torch.arange(s) < positives)[order]
    image = torch.randint(images, (s,), generator=g)
    matched = torch.where(positive, torch.randint(objects, (s,), generator=g), BACKGROUND)
    labels = torch.where(positive, 1 + (image + matched.clamp(min=0)) % classes, 0)
    center = 20 + 60 * torch.rand(s, 2, generator=g, dtype=dtype)
    boxes = torch.cat((center - 15, center + 15), 1)
    truth = boxes + 4 * torch.randn(s, 4, generator=g, dtype=dtype)
    deltas = 0.1 * torch.randn(s, 4, generator=g, dtype=dtype)
    logits = 2 * torch.randn(s, classes + 1, generator=g, dtype=dtype)
    loss = -torch.rand(s, generator=g, dtype=dtype).log()
    if ties:
        truth, deltas, logits = boxes.clone(), (10 * deltas).round() / 10, logits.round()
    iou, level = torch.rand(s, generator=g, dtype=dtype), torch.randint(3, (s,), generator=g)
    norm = torch.rand(s, generator=g, dtype=dtype)
    codes = encode(truth, boxes)
    return Samples(
        logits, labels, deltas, codes, boxes, truth, iou, image, level, norm, softmax, matched, loss=lambda: loss
    )


@pytest.fixture
def samples():
    return build
