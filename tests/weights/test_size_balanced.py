"""Size weights against a loop over the rows, batch after batch."""

import pytest
import torch

from detbalance.types import Samples
from detbalance.weights import SizeBalancedWeights


def samples(sides, labels=None):
    """Rows whose objects are squares of these sides; side 0 is background."""
    side = torch.tensor(sides, dtype=torch.float32)
    truth = torch.stack((torch.zeros_like(side), torch.zeros_like(side), side, side), 1)
    labels = (side > 0).long() if labels is None else torch.tensor(labels)
    number, one = torch.zeros_like(labels), torch.ones(len(labels))
    return Samples(torch.zeros(len(labels), 2), labels, truth, truth, truth, truth, one, number, number, one)


def group(side, edges):
    return sum(side >= edge for edge in edges)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_equals_a_loop(power):
    edges, batches = (32, 96), [[10, 20, 0, 31.9, 32, 200], [0, 0], [500, 96, 95.9, 5], []]
    weights, counts = SizeBalancedWeights(power=power), [0, 0, 0]
    for sides in batches:
        for side in sides:
            counts[group(side, edges)] += side > 0
        raw = [max(n, 1) ** -power for n in counts]
        scale = sum(counts) / max(sum(n * r for n, r in zip(counts, raw)), 1e-12)
        expected = [raw[group(side, edges)] * scale if side else 1.0 for side in sides]
        torch.testing.assert_close(weights(samples(sides)), torch.tensor(expected), rtol=1e-5, atol=0)
    assert weights.counts.tolist() == counts


def test_equal_sizes_change_nothing():
    weights = SizeBalancedWeights()
    torch.testing.assert_close(weights(samples([10, 50, 100, 20, 60, 300, 0])), torch.ones(7))


def test_evaluation_leaves_the_counts_alone():
    weights = SizeBalancedWeights().eval()
    weights(samples([10, 20]))
    assert weights.counts.sum() == 0


def test_refuses():
    for options, name in (({"edges": (32, 32)}, "edges"), ({"power": 2}, "power"), ({"applies_to": "all"}, "applies")):
        with pytest.raises(ValueError, match=name):
            SizeBalancedWeights(**options)


def test_two_processes_count_as_one(two_processes):
    def work(rank):
        weights = SizeBalancedWeights()
        found = weights(samples([[10, 20, 0], [200]][rank]))
        return {"counts": weights.counts, "found": found}

    alone = SizeBalancedWeights()
    whole = alone(samples([10, 20, 0, 200]))
    parts = two_processes(work)
    assert all(torch.equal(part["counts"], alone.counts) for part in parts)
    torch.testing.assert_close(torch.cat([part["found"] for part in parts]), whole)
